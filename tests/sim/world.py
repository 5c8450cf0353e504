"""Virtual time, a bad network, processes that are killed, and an operator who starts them again.

One heap of things to come, one seeded source of chance: the same seed gives the same day.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from nbtasks.core import codec
from nbtasks.core.messages import Message, PeerId, Submit, Watch
from nbtasks.core.records import Now, PoolRecord
from nbtasks.core.retention import RECENT_S, Past
from tests.sim.daemon import BrokerProcess
from tests.sim.disk import Disk
from tests.sim.invariants import Judge
from tests.sim.peers import ClientProcess, PoolProcess, WorkerProcess
from tests.sim.plan import Job, Plan, draw
from tests.sim.process import Process
from tests.sim.trace import brief, short

HEALED_S_MAX = 300.0  # after the last fault everything must be final and quiet
EVENTS_MAX = 200_000
DECODERS = {"c": codec.for_client, "w": codec.for_worker, "p": codec.for_pool}


class World:
    """A home with all that lives in it.

    Parameters
    ----------
    tracing
        Whether `trace` gets a line for everything that happens.
    """

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.rng = Random(seed)
        self.plan: Plan = draw(self.rng, Random(f"observers of {seed}"))
        self.mono_s = 100.0
        self._unix_offset_s = 1.7e9
        self.trace: list[str] = []
        self._tracing = tracing
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0
        self.disk = Disk()
        self.outboxes: dict[PeerId, list[Submit]] = {}  # files of the home
        self.judge = Judge(self.disk, self.plan)
        self.jobs: dict[str, Job] = {}
        self.peers: dict[PeerId, Process] = {}
        self.broker: BrokerProcess | None = None
        self._backlog: list[tuple[Process, list[Message]]] = []
        self._names: dict[str, int] = {}
        self.healed = False

    # -- time ------------------------------------------------------------------------------------------

    def now(self) -> Now:
        return Now(self.mono_s, self.mono_s + self._unix_offset_s)

    def at(self, mono_s: float, do: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (mono_s, self._count, do, args))

    def after(self, delay_s: float, do: Callable[..., None], *args: Any) -> None:
        self.at(self.mono_s + delay_s, do, *args)

    def run(self, until_s: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let things happen until that time, or until `done`, which is asked every half second."""
        ask_at = self.mono_s + 0.5
        while self._heap and self._heap[0][0] <= until_s:
            if self._heap[0][0] >= ask_at:
                if done():
                    return
                ask_at += 0.5
            self.mono_s, _, do, args = heapq.heappop(self._heap)
            do(*args)
            assert self._count < EVENTS_MAX, "it never comes to rest"
        self.mono_s = until_s

    def note(self, *words: object) -> None:
        if self._tracing:
            self.trace.append(f"{self.mono_s - 100:9.4f} " + " ".join(map(str, words)))

    def chance(self, probability: float) -> bool:
        """Whether something bad happens now; nothing bad does once the world has healed."""
        return probability > 0 and not self.healed and self.rng.random() < probability

    def name(self, kind: str) -> str:
        self._names[kind] = self._names.get(kind, 0) + 1
        return f"{kind}-{self._names[kind]}"

    # -- network ---------------------------------------------------------------------------------------

    def _frames(self, messages: list[Message]) -> list[list[Message]]:
        if len(messages) > 1 and self.chance(self.plan.split):
            return [[message] for message in messages]
        return [messages]

    def _delays_s(self) -> list[float]:
        """When copies of a frame arrive; none if it is lost."""
        if self.healed:
            return [0.0005]
        rng, plan = self.rng, self.plan
        delays = []
        if plan.drop == 0.0 or rng.random() >= plan.drop:
            delays.append(rng.random() * 2 * plan.delay_s)
        if plan.repeat and rng.random() < plan.repeat:
            delays.append(rng.random() * (plan.tail_s if rng.random() < 0.3 else 4 * plan.delay_s))
        if plan.tail and delays and rng.random() < plan.tail:
            delays[0] += rng.random() * plan.tail_s
        return delays

    def up(self, sender: Process, messages: list[Message]) -> None:
        """Send from a peer to the broker."""
        for frame in self._frames(messages):
            for delay_s in self._delays_s():
                self.after(delay_s, self._arrive, sender, self.mono_s, frame)

    def _arrive(self, sender: Process, sent_s: float, frame: list[Message]) -> None:
        killed_s = sender.killed_s
        if killed_s is not None and killed_s - sent_s < 0.003 and self.rng.random() < 0.5:
            return  # it was still in the memory of the process that was killed
        if self.broker is None:
            if self.rng.random() < 0.5:
                self._backlog.append((sender, frame))
            return
        if self._tracing:
            self.note(sender.name, "->", *map(brief, frame))
        if self.plan.encoded:
            _, frame = codec.for_broker.decode(codec.encode(sender.name, frame))  # type: ignore[assignment]
        self.broker.receive(sender, frame)

    def down(self, peer: PeerId, messages: list[Message]) -> None:
        """Send from the broker to a peer."""
        for frame in self._frames(messages):
            for delay_s in self._delays_s():
                self.after(delay_s, self._descend, peer, frame)

    def _descend(self, peer: PeerId, frame: list[Message]) -> None:
        process = self.peers.get(peer)
        if process is None or not process.alive:
            return
        if self._tracing:
            self.note(peer, "<-", *map(brief, frame))
        if self.plan.encoded:
            _, frame = DECODERS[peer[0]].decode(codec.encode("broker", frame))  # type: ignore[attr-defined]
        process.receive(frame)

    # -- processes -------------------------------------------------------------------------------------

    def start(self, process: Process) -> None:
        """A process connects: its subscription reaches the broker sooner or later."""
        self.peers[process.name] = process
        if self.broker:
            self.after(self._connect_s(), self.broker.on_subscription, process)

    def listen(self, process: Process, topic: str, is_on: bool) -> None:
        """A connected process begins or ceases to hear the events of `topic`."""
        process.topics = [*process.topics, topic] if is_on else [t for t in process.topics if t != topic]
        if self.broker:
            self.after(self._connect_s(), self.broker.on_listening, process)

    def _connect_s(self) -> float:
        return self.rng.random() * (0.002 if self.healed or self.rng.random() < 0.8 else 0.5)

    def fact_s(self) -> float:
        """How late an exit is known."""
        return 0.0005 if self.healed else self.rng.random() * self.plan.facts_late_s

    def died(self, process: Process) -> None:
        process.topics = []
        if self.broker:
            self.after(self._connect_s(), self.broker.on_listening, process)
            self.broker.look_after(process)
        for pool in list(self.peers.values()):
            if isinstance(pool, PoolProcess) and isinstance(process, WorkerProcess) and pool is process.pool:
                self.after(self.fact_s(), pool.on_exit, process)

    def start_broker(self) -> None:
        if self.broker:
            return
        self.broker = BrokerProcess(self, self.name("boot"))
        self.note("broker is up:", self.broker.boot)
        for process in list(self.peers.values()):
            if process.alive:
                self.after(self._connect_s(), self.broker.on_subscription, process)
        backlog, self._backlog = self._backlog, []
        for sender, frame in backlog:
            self.after(self._connect_s(), self._arrive, sender, -1.0, frame)

    def kill_broker(self, why: str) -> None:
        if self.broker:
            self.note("broker dies", why)
            self.end_broker()
            self.after(self.rng.uniform(0.05, 2.0) if not self.healed else 0.1, self.start_broker)

    def end_broker(self) -> None:
        self.broker = None
        for client in self._living(ClientProcess):
            if self.rng.random() < 0.5:
                self.after(self.fact_s(), client.on_broker_exit)

    # -- faults ----------------------------------------------------------------------------------------

    def sow(self) -> None:
        """Plan what goes wrong."""
        plan, rng = self.plan, self.rng
        kinds: list[tuple[int, Callable[[], None]]] = [
            (plan.worker_kills, self._kill_worker),
            (plan.broker_kills, lambda: self.kill_broker("at a random moment")),
            (plan.pool_kills, lambda: self._kill(PoolProcess)),
            (plan.client_kills, lambda: self._kill(ClientProcess)),
            (plan.stalls, self._stall),
            (plan.reconnects, self._reconnect),
            (plan.drains, self._drain),
            (plan.jumps, self._jump),
        ]
        for number, do in kinds:
            for _ in range(number):
                self.after(rng.uniform(0.1, plan.faults_s), do)
        self.start_broker()
        self._operate()
        for _ in range(plan.clients):
            ClientProcess(self).begin()

    def _living(self, kind: type[Process]) -> list[Any]:
        return [p for p in self.peers.values() if p.alive and isinstance(p, kind)]

    def _kill(self, kind: type[Process]) -> None:
        if living := self._living(kind):
            self.rng.choice(living).die("killed by SIGKILL")

    def _kill_worker(self) -> None:
        self._kill(WorkerProcess)

    def _stall(self) -> None:
        target: Any = self.broker if self.rng.random() < 0.5 else None
        if target is None:
            living = [p for p in self.peers.values() if p.alive]
            target = self.rng.choice(living) if living else None
        if target:
            self.note("stalled:", target.name)
            target.stalled_until_s = self.mono_s + self.rng.uniform(0.2, 4.0)

    def _reconnect(self) -> None:
        """The connection of some peer breaks and is made again."""
        living = [p for p in self.peers.values() if p.alive]
        if self.broker and living:
            process = self.rng.choice(living)
            self.note("reconnects:", process.name)
            self.broker.on_cut(process)
            self.after(self._connect_s(), self.broker.on_subscription, process)

    def _drain(self) -> None:
        if living := self._living(PoolProcess):
            self.rng.choice(living).drain(self.rng.choice((0.0, 1.0, 3.0)))

    def _jump(self) -> None:
        jump_s = self.rng.choice((-86_400.0, -600.0, -2.0, 2.0, 600.0, 86_400.0))
        self.note(f"the wall clock jumps by {jump_s:g} s")
        self._unix_offset_s += jump_s

    # -- the operator ----------------------------------------------------------------------------------

    def _operate(self) -> None:
        """See to it that there are pools, and a broker after one that was stopped."""
        for generic in (True, False) if self.plan.second_pool else (True,):
            pools = self._living(PoolProcess)
            # one that may have no worker is about to stop
            present = any(p.generic is generic and not p.machine.is_draining for p in pools)
            if not present or self.chance(0.02):
                PoolProcess(self, generic).begin()
        if self.broker is None:
            self.after(1.0, self.start_broker)
        self.after(1.0, self._operate)

    def heal(self) -> None:
        """From now on nothing goes wrong; what nobody would ever end is cancelled."""
        self.note("-- healed --")
        self.healed = True
        for process in [self.broker, *self.peers.values()]:
            if process:
                process.stalled_until_s = 0.0
        client = ClientProcess(self)
        client.begin(idle=True)
        client.take_over(list(self.jobs))
        self._end_endless(client)

    def _end_endless(self, client: ClientProcess) -> None:
        live = [
            r
            for r, row in self.disk.live.items()
            if not row.spec.hook and self.jobs[r].must_be_stopped and not row.spec.timeout_s
        ]
        if live:
            client.cancel(live)
        if self.disk.limits:
            client.limit()  # one that was set long ago may arrive late
        self.after(5.0, self._end_endless, client)

    def is_quiet(self) -> bool:
        """Everything is final, and everybody knows."""
        broker = self.broker
        if broker is None or self.disk.live or broker.inbox or self.outboxes:
            return False
        if any(not p.is_quiet for p in self.peers.values() if p.alive):
            return False
        accounts = broker.machine._finals._accounts
        if any(o.in_flight or o.waiting for name, o in accounts.items() if self.peers[name].alive):
            return False
        if any(not self.peers[name].alive for name in self.disk.peers):
            return False
        pools = [record for record in self.disk.peers.values() if isinstance(record, PoolRecord)]
        return all(record.most for record in pools) and not self._superfluous()

    def _superfluous(self) -> list[str]:
        """Workers that nobody wants any more."""
        names = []
        for pool in [p for p in self.peers.values() if isinstance(p, PoolProcess)]:
            record = self.disk.peers.get(pool.name)
            most = record.most if pool.alive and isinstance(record, PoolRecord) else 0
            names += [w.name for w in self._living(WorkerProcess) if w.pool is pool][most:]
        return names

    def check_end(self) -> None:
        assert self.is_quiet(), self._why_not()
        assert self.broker
        living = {name for name, p in self.peers.items() if p.alive}
        self.judge.at_end(
            self.broker.machine,
            {name for name in living if name[0] == "w"},
            {name for name in living if name[0] == "p"},
        )
        for client in self._living(ClientProcess):
            self.judge.sees(client.board, client.runs_seen)

    def empty(self) -> None:
        """Much later: all that nobody is owed leaves the table, whatever happened before."""
        assert self.broker
        machine, later = self.broker.machine, Now(self.mono_s + RECENT_S, self.now().unix_s + 1e6)
        past = [Past(r.seq, r.run, r.state.value, r.at, 1, r.spec.key) for r in self.disk.rows.values()]
        clients = self._living(ClientProcess)
        if past and clients:
            machine.handle(clients[0].name, Watch(0, (past[0].run,)), later)
        boxes = machine._finals._accounts.values()
        owed = {run for box in boxes for run in [*box.waiting, *(run for _, run in box.in_flight)]}
        removed = machine.remove(past, later)
        self.disk.commit(machine.take())
        self.judge.committed(machine)
        numbers = [row.seq for row in self.disk.rows.values()]
        assert not past or max(numbers, default=0) == self.disk.last_seq, (
            "the next broker would give a number twice"
        )
        left = {row.run for row in self.disk.rows.values() if row.seq < self.disk.last_seq}
        assert left <= owed, f"nobody needs them, but they stay: {left - owed}"
        assert not {one.run for one in removed} & owed, "somebody is to be told how they ended"
        assert sum(self.disk.counts.values()) == len(self.disk.rows)
        assert not machine._ledger._children, machine._ledger._children

    def _why_not(self) -> str:
        live = list(self.disk.live.values())
        loud = [p.name for p in self.peers.values() if p.alive and not p.is_quiet]
        dead = [name for name in self.disk.peers if not self.peers[name].alive]
        reasons = [self.broker.machine.waiting_reason(row.run) for row in live] if self.broker else []
        return (
            f"no rest after {HEALED_S_MAX} s: live {list(map(short, live))}, waiting {reasons}, "
            f"not quiet {loud}, ghosts {dead}, superfluous {self._superfluous()}"
        )


class Red(AssertionError):
    """A seed showed what must not happen."""

    def __init__(self, seed: int, world: World, error: BaseException) -> None:
        super().__init__(f"seed {seed}: {type(error).__name__}: {error}")
        self.seed = seed
        self.world = world


def simulate(seed: int, tracing: bool = False) -> World:
    """Run one day; raises `Red` if something happens that must not."""
    world = World(seed, tracing)
    try:
        world.sow()
        world.run(world.mono_s + world.plan.faults_s)
        world.heal()
        world.run(world.mono_s + HEALED_S_MAX, world.is_quiet)
        world.check_end()
        world.empty()
    except Exception as error:
        raise Red(seed, world, error) from error
    return world
