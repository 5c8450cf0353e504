"""Clients, workers and pools: the edges that real processes have, around the real machines.

Each edge does what a process would do with its machine: it delivers, it lets time pass, it performs
what the machine asks for, and it can be killed between any two of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from nbtasks.core import events, happenings, policy
from nbtasks.core import messages as m
from nbtasks.core.client import Client
from nbtasks.core.hooks import OF_TYPE
from nbtasks.core.observer import BOARD_NAME, BoardSeen, RunSeen
from nbtasks.core.pool import Pool
from nbtasks.core.records import Break, Exit, Launch, MarkEnded, Read, RunRecord, Signal
from nbtasks.core.states import State
from nbtasks.core.streams import VALUES
from nbtasks.core.worker import Worker
from tests.sim.plan import HOOKS, PYTHON, Job, draw_job, draw_key, draw_needs, draw_spec, draw_terms
from tests.sim.process import Marker, Process

if TYPE_CHECKING:
    from tests.sim.world import World

HOST = "here"
SERVED = ("a", "b")


def run_id(name: str, spec: m.Spec) -> m.RunId:
    """Long enough for the id of a hook run to follow from it."""
    return f"{name:-<14}7" if spec.hooks else name


DEAF_MAX = 4  # runs of a world whose every attempt holds a worker until it is killed


class WorkerProcess(Process):
    """A worker: the agent's side is event by event, the main thread is a generator of pauses."""

    def __init__(self, world: World, name: m.PeerId, pool: PoolProcess) -> None:
        super().__init__(world, name)
        self.pool = pool
        self.marker = Marker()
        serves = None if pool.generic else SERVED
        self.machine: Worker = Worker(
            m.HelloWorker("0", PYTHON, self.pid, world.mono_s, HOST, pool.name, f"/{name}", serves),
            world.plan.runs_max,
        )
        self._main: Iterator[float] | None = None
        self._turn = 0
        self._executing: tuple[str, int] | None = None  # user code can be interrupted
        self._asked: tuple[str, int] | None = None
        self._takes_notice = False
        self._interrupted = False
        self.last_words = b""

    def wake(self) -> None:
        super().wake()
        if self.alive and self._main is None and self.machine.has_work:
            self._main = self._work()
            self._step(self._turn)

    def act(self, act: Any) -> None:
        if isinstance(act, Break):
            self._asked = (act.run, act.attempt)
            if self._executing == self._asked:
                self._interrupt()
        elif isinstance(act, Read):
            return
        elif isinstance(act, MarkEnded):
            # what is too large for the marker is not kept
            fits = self.world.rng.random() < 0.7
            self.marker.ended(act.words if fits else ())
            if fits:
                self.world.judge.kept((act.words[-1].run, act.words[-1].attempt))
        elif isinstance(act, Exit):
            self.die(f"exit status {act.status}")

    def _interrupt(self) -> None:
        if self._takes_notice and not self._interrupted:
            self._interrupted = True
            self._turn += 1
            self.world.after(self.world.rng.random() * 0.02, self._step, self._turn)

    def _step(self, turn: int) -> None:
        if not self.alive or turn != self._turn or self._main is None:
            return
        if self._postponed(self._step, turn):
            return
        if self.world.chance(self.world.plan.step_kill):
            self.die("killed by SIGKILL")
            return
        pause_s = next(self._main, None)
        if not self.alive:
            return
        if self.world.chance(self.world.plan.step_kill):
            self.die("killed by SIGKILL")  # before anything of it is sent
            return
        self.flush()
        if pause_s is None:
            self._main = None
            self.wake()
            return
        super().wake()
        self.world.after(pause_s, self._step, self._turn)

    def _pause_s(self) -> float:
        return self.world.rng.choice((0.0, 0.0, 0.0002, 0.002))

    def _work(self) -> Iterator[float]:
        """The main thread, from one run to the next; it can be killed at each `yield`."""
        while push := self.machine.take():
            key = (push.run, push.attempt)
            yield self._pause_s()
            self.world.judge.marked(self.name, key)
            self.marker.started(key)
            yield self._pause_s()
            now = self.world.now()
            self.perform(self.machine.started(now))
            yield self._pause_s()
            outcome, value = "completed", f"{push.run}/{push.attempt}".encode()
            self._interrupted = False
            if self._asked == key:
                outcome = ""
            else:
                self.world.judge.entered(self.name, key, self._job(push).takes_notice)
                self.world.note(self.name, "begins", *key)
                self._wait_inside(push, more=True)
                for pause_s in self._user_code(push):
                    yield pause_s
                    if self._interrupted:
                        break
                self._wait_inside(push, more=False)
                self._executing = None
                outcome = "" if self._interrupted else self._outcome(push)
                if outcome == "exits":
                    self.die("exit status 3")
                    return
                self.world.judge.left(key)
                self.world.note(self.name, "ends", *key, outcome)
            if not outcome:
                outcome, value = ("timed_out" if self.machine.broken == "timeout" else "cancelled"), b""
            yield self._pause_s()
            if self.world.rng.random() < 0.3:
                self._print(key, b'["the rest"]')
            # the condition says no to a third attempt
            retry = not (push.spec.hooks and outcome == "raised" and push.failures == 1)
            hook = self._hook(push, outcome, retry)
            if hook:
                self.world.judge.hooked(push.run, hook)
                self.marker.hooks(hook)
                yield self._pause_s()
            self.world.judge.ended(key, outcome, value, retry)
            message = "" if outcome == "completed" else f"{outcome}: {push.attempt}"
            said = outcome, message, value, now.unix_s, self.world.now(), retry
            self.perform(self.machine.ended(*said, hooks=hook))
            yield self._pause_s()

    def _wait_inside(self, push: m.Push, more: bool) -> None:
        """The code of a run says, by the client of its process, that it waits for others, or no more."""
        world = self.world
        if not world.plan.lends or world.rng.random() >= world.plan.lends:
            return
        clients = [p for p in world.peers.values() if p.alive and isinstance(p, ClientProcess)]
        if clients:
            known = list(world.jobs)
            runs = world.rng.sample(known, min(len(known), 3)) if more else []
            world.rng.choice(clients).waits(push.run, push.attempt, 1 if more else 2, runs)

    def _job(self, push: m.Push) -> Job:
        return HOOKS if push.subject else self.world.jobs[push.run]

    def _hook(self, push: m.Push, outcome: str, retry: bool) -> str:
        """The hooks that a worker runs after an attempt that ended so; "": none."""
        stop = self.machine.broken
        if stop == "stale" or push.subject:
            return ""
        record = RunRecord(0, push.run, "", push.spec, "", "", 0.0, stop=stop, failures=push.failures)
        if policy.after_attempt(record, outcome, "", 0.0, retry).cause in policy.RETRIES:
            return ""
        hook = OF_TYPE[State(policy.outcome_name(outcome, stop)).type]
        return hook if hook in push.spec.hooks else ""

    def _user_code(self, push: m.Push) -> Iterator[float]:
        job = self._job(push)
        key = (push.run, push.attempt)
        if push.subject:
            self.world.judge.hooked(push.subject.run, push.spec.hook)
        self._executing = key
        self._takes_notice = job.takes_notice
        for number in range(job.chunks):
            yield job.length_s / (job.chunks + 1)
            is_value = self.world.plan.streams and self.world.rng.random() < 0.5
            self._print(key, (VALUES if is_value else b"") + f'["{number}"]'.encode())
            if self.machine.progress_at <= self.world.now().mono_s:
                self.world.judge.progressed(key, number + 1.0)
                self.perform(self.machine.progressed(number + 1.0, job.chunks, "", self.world.now()))
        yield job.length_s / (job.chunks + 1)
        while job.must_be_stopped:
            yield 0.5

    def _print(self, key: tuple[str, int], body: bytes) -> None:
        self.world.judge.printed(key, body)
        self.perform(self.machine.printed(body))

    def _outcome(self, push: m.Push) -> str:
        kind, odd = self._job(push).kind, push.number % 2 == 1
        if kind == "raises" or (kind == "flaky" and odd):
            return "raised"
        if kind == "exits" or (kind == "flaky exit" and odd):
            return "exits"
        return "crashed" if kind == "system exit" else "completed"

    def die(self, status: str) -> None:
        if not self.alive:
            return
        if self._executing and self.world.rng.random() < 0.5:
            self.last_words = b'["last words"]'
        self.world.judge.died(self.name)
        super().die(status)

    @property
    def is_quiet(self) -> bool:
        return bool(self.machine.is_empty_handed)


class PoolProcess(Process):
    def __init__(self, world: World, generic: bool) -> None:
        super().__init__(world, world.name("p"))
        self.generic = generic
        self._workers: dict[m.PeerId, WorkerProcess] = {}
        most = world.plan.workers
        serves = None if generic else SERVED
        hello = m.HelloPool(
            "0", PYTHON, self.pid, world.mono_s, HOST, generic, serves, min(1, most), most, world.plan.stays
        )
        self.machine: Pool = Pool(self.name, hello)

    def act(self, act: Any) -> None:
        if isinstance(act, Launch):
            worker = WorkerProcess(self.world, act.worker, self)
            self._workers[act.worker] = worker
            self.world.peers[act.worker] = worker
            if self.world.chance(0.03):
                self.world.after(0.01, worker.die, "killed by SIGKILL")
            self.world.after(self.world.rng.random() * self.world.plan.starts_s, self._started, worker)
        elif isinstance(act, Signal):
            self._signal(act)
        elif isinstance(act, Exit):
            self.die(f"exit status {act.status}")

    def _started(self, worker: WorkerProcess) -> None:
        if worker.alive:
            worker.begin()

    def _signal(self, act: Signal) -> None:
        worker = self._workers.get(act.worker)
        if worker is None or not worker.alive:
            return
        self.world.judge.killing(worker.name, (act.run, act.attempt), self.machine.is_draining)
        if act.run and not worker.marker.is_running(act.run, act.attempt):
            self.machine.spared(act.worker)
        elif act.name == "SIGKILL" or self.world.rng.random() < 0.6:
            worker.die(f"killed by {act.name}")

    def on_exit(self, worker: WorkerProcess) -> None:
        """The kernel told that a worker process ended."""
        if self._postponed(self.on_exit, worker):
            return
        exited = m.Exited(
            worker.name, worker.status, worker.marker.held(), worker.marker.said(), worker.last_words
        )
        self.perform(self.machine.exited(exited, self.world.now()))
        self.wake()

    def receive(self, frame: list[m.Message]) -> None:
        if self.alive and self.stalled_until_s <= self.world.mono_s:
            for message in frame:
                if isinstance(message, m.ExitNoted) and message.worker in self._workers:
                    self._workers.pop(message.worker).marker.deleted = True
        super().receive(frame)

    def drain(self, drain_s: float) -> None:
        """SIGTERM."""
        self.world.note(self.name, f"is asked to drain in {drain_s:g} s")
        # a pool without a broker leaves its workers to themselves, one that was asked to stop ends them
        self.perform(self.machine.drain(drain_s, self.world.now(), hands_over=drain_s > 1))
        self.wake()

    @property
    def is_quiet(self) -> bool:
        return not self.machine._exits and not self.machine.is_draining


class ClientProcess(Process):
    """A client that submits, cancels and waits; when it is killed, another one takes over."""

    def __init__(self, world: World) -> None:
        super().__init__(world, world.name("c"))
        self.machine: Client = Client(m.HelloClient("0", PYTHON, self.pid, HOST))
        self._to_come = 0  # planned batches
        self._asked: dict[m.RunId, float] = {}
        self._stop_request = 0
        self._queries: dict[int, m.Message] = {}
        self._readers: dict[m.RunId, tuple[int, int, tuple[bytes, ...]]] = {}  # attempt, place, values so far
        self.board: m.Board | None = None
        self.runs_seen: dict[m.RunId, m.RunChanged | None] = {}  # those that it looks at

    def begin(self, idle: bool = False) -> None:
        super().begin()
        world, plan, rng = self.world, self.world.plan, self.world.rng
        if plan.observes:
            self._observe(BOARD_NAME, events.BOARD)
        if idle:
            return
        until_s = plan.faults_s
        self._to_come = plan.batches
        at_s = 0.0
        for _ in range(plan.batches):
            if not (plan.promises and rng.random() < 0.5):  # otherwise it comes together with the one before
                at_s = rng.uniform(0, until_s * 0.8)
            world.after(at_s, self._submit)
        for _ in range(plan.resizes):
            world.after(rng.uniform(0, until_s), self._resize)
        for _ in range(plan.stops):
            world.after(rng.uniform(0, until_s), self._stop)
        for _ in range(5 if plan.limits else 0):
            world.after(rng.uniform(0, until_s), self.limit)

    def act(self, act: Any) -> None:
        raise AssertionError(act)

    def on_broker_exit(self) -> None:
        """The kernel told that the broker's process ended."""
        if not self._postponed(self.on_broker_exit):
            self.machine.lost(self.world.now())
            self.wake()

    def perform(self, effects: happenings.ClientEffects) -> None:
        self._outgoing += effects.sends
        for event in effects.events:
            self._on_event(event)

    # -- what it does ----------------------------------------------------------------------------------

    def _submit(self) -> None:
        if self._postponed(self._submit):
            return
        world, rng = self.world, self.world.rng
        self._to_come -= 1
        spec = draw_spec(rng, world.plan, served=world.plan.second_pool and rng.random() < 0.5)
        number = 1 if world.plan.promises and rng.random() < 0.8 else world.plan.batch_runs
        known = list(world.jobs)
        runs = tuple(
            m.NewRun(
                run,
                run.encode(),
                needs=draw_needs(rng, world.plan, known),
                cache_key=draw_key(rng, world.plan),
            )
            for run in (run_id(world.name("run"), spec) for _ in range(number))
        )
        terms = draw_terms(rng, world.plan, world.now(), alone=number == 1)
        parent = next(reversed(world.jobs), "")
        submit = m.Submit(world.name("batch"), spec, spec.code.encode(), runs, parent, terms=terms)
        world.judge.submitted[submit.batch] = submit
        for run in runs:
            deaf = sum(job.kind == "deaf" for job in world.jobs.values())
            job = draw_job(rng, world.plan, deaf=deaf < DEAF_MAX)
            world.jobs[run.run] = job
            if world.chance(world.plan.cancel) or (job.must_be_stopped and not spec.timeout_s):
                world.after(rng.random() * rng.choice((0.0, 0.0, 0.02, 1.0, 3.0)), self.cancel, [run.run])
        if self.machine.may_promise(submit) and world.plan.promises:
            submit = msgspec.structs.replace(submit, promised=True)
            world.judge.promised(submit, world.mono_s)
            world.outboxes.setdefault(self.name, []).append(submit)
            if world.chance(world.plan.promise_kill):
                self.die("killed by SIGKILL")  # before anybody heard of it
                return
        self.perform(self.machine.submit(submit, world.now()))
        if submit.promised and world.chance(world.plan.gives_up):
            self.machine.abandon(submit.batch)
        self.wake()
        if world.plan.streams and rng.random() < 0.5:
            world.after(rng.random(), self._read, runs[0].run, 0, 0, ())
        if world.plan.observes and rng.random() < 0.5:
            self.runs_seen[runs[0].run] = None
            self._observe(runs[0].run, events.run_topic(runs[0].run))

    def _read(self, run: m.RunId, attempt: int, after: int, values: tuple[bytes, ...]) -> None:
        """Read what a run yields, from a place on."""
        if not self._postponed(self._read, run, attempt, after, values):
            self._readers[run] = attempt, after, values
            number = self.machine.request_number()
            self._queries[number] = query = m.GetYielded(number, run, attempt, after)
            self._request(query)

    def _on_yielded(self, query: m.GetYielded, answer: m.YieldedFound) -> None:
        attempt, _, values = self._readers[query.run]
        if attempt != answer.attempt:
            values = ()
        values += answer.chunks
        if answer.live or answer.chunks:
            self._read(query.run, answer.attempt, answer.upto, values)
        else:
            del self._readers[query.run]
            if answer.attempt:
                self.world.judge.read(query.run, answer.attempt, values)

    def _observe(self, name: m.RunId, topic: str) -> None:
        self.world.listen(self, topic, True)
        self.perform(self.machine.observe(name, self.world.now()))
        self.wake()

    def cancel(self, runs: list[m.RunId]) -> None:
        if self._postponed(self.cancel, runs):
            return
        self.world.judge.cancelled.update(runs)
        self._request(m.Cancel(self.machine.request_number(), tuple(runs)))

    def limit(self) -> None:
        """Change the slots of a tag; they are back before all is to be quiet."""
        if not self._postponed(self.limit):
            world = self.world
            slots = None if world.healed else world.rng.choice((0, 1, 1, 2, None))
            name = world.rng.choice(("t", "u"))
            for one in ("t", "u") if world.healed else (name,):
                self._request(m.SetLimit(self.machine.request_number(), one, slots))

    def waits(self, run: m.RunId, attempt: int, number: int, runs: list[m.RunId]) -> None:
        if not self._postponed(self.waits, run, attempt, number, runs):
            self._request(m.Waits(self.machine.request_number(), run, attempt, number, tuple(runs)))

    def _resize(self) -> None:
        if not self._postponed(self._resize):
            least = self.world.rng.choice((0, 1, 2))
            most = max(least, self.world.rng.choice((0, 1, 2, 3)))
            self._request(
                m.SetPool(self.machine.request_number(), "", least, most, self.world.rng.choice((0.0, 1.0)))
            )

    def _stop(self) -> None:
        if not self._postponed(self._stop):
            self._stop_request = self.machine.request_number()
            self._request(m.StopBroker(self._stop_request, self.world.rng.choice((0.0, 0.5, 3.0))))

    def _request(self, message: m.Message) -> None:
        self.perform(self.machine.request(message, self.world.now()))
        self.wake()

    def take_over(self, runs: list[m.RunId]) -> None:
        """Wait for runs of other clients."""
        self._asked = dict.fromkeys(runs, self.world.mono_s)
        self.perform(self.machine.watch(runs, self.world.now()))
        self.wake()

    def die(self, status: str) -> None:
        if not self.alive:
            return
        super().die(status)
        follower = ClientProcess(self.world)
        follower.begin(idle=True)
        follower.take_over(list(self.world.jobs))

    # -- what it is told -------------------------------------------------------------------------------

    def _on_event(self, event: happenings.Event) -> None:
        judge = self.world.judge
        if isinstance(event, happenings.Recorded):
            if event.run:
                judge.held(event.batch, event.run)
            elif not judge.submitted[event.batch].promised:
                judge.accepted(event.batch, self.world.mono_s)
        elif isinstance(event, happenings.OutboxDone):
            for submit in self.world.outboxes.pop(self.name, []):
                judge.accepted(submit.batch, self.world.mono_s)
        elif isinstance(event, happenings.RunEnded):
            judge.told(event.ended)
            self._ask(event.ended.run)
        elif isinstance(event, happenings.RunMissing):
            judge.missing(event.run, self._asked.get(event.run, -1.0))
        elif isinstance(event, BoardSeen):
            judge.sees_more(self.board, event.board)
            self.board = event.board
        elif isinstance(event, RunSeen):
            judge.sees_later(self.runs_seen[event.run.run], event.run)
            self.runs_seen[event.run.run] = event.run
            if events.is_final(event.run.state):
                self.world.listen(self, events.run_topic(event.run.run), False)
        elif isinstance(event, happenings.BrokerClosed):
            self.machine.forget(self._stop_request)
        elif isinstance(event, happenings.Answered):
            self._on_answer(self._queries.pop(event.request, None), event.message)

    def _ask(self, run: m.RunId) -> None:
        """Sometimes look at the whole value of a run that ended."""
        if self.world.chance(0.1):
            number = self.machine.request_number()
            self._queries[number] = query = m.GetValue(number, run)
            self.perform(self.machine.request(query, self.world.now()))

    def _on_answer(self, query: m.Message | None, answer: m.Message) -> None:
        if isinstance(query, m.GetValue) and isinstance(answer, m.Value):
            row = self.world.disk.rows[query.run]
            value = self.world.disk.values.get(row.seq)
            assert (answer.found, answer.value) == (value is not None, value or b""), answer

        elif isinstance(query, m.GetYielded) and isinstance(answer, m.YieldedFound):
            self._on_yielded(query, answer)

    @property
    def is_quiet(self) -> bool:
        if self._to_come or self.machine.watched or self.machine._submits or self.machine._requests:
            return False
        if self.world.plan.observes and not self.world.judge.agrees(self.board):
            return False
        recorded = self.world.disk.rows.keys() & self.runs_seen.keys()
        looked_at = [self.runs_seen[run] for run in recorded]
        return all(seen is not None and events.is_final(seen.state) for seen in looked_at)
