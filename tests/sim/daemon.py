"""The broker's process: the daemon's loop around the real machine, with a hole to die in at each step."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from nbtasks.core.broker import Broker, Limits
from nbtasks.core.intake import names_runs
from nbtasks.core.messages import Exited, HelloClient, HelloPool, HelloWorker, Left, Message, PeerId
from nbtasks.core.records import Announce, Now, Output, PeerRecord, Publish, PushRun, Send, TellEnd
from tests.sim.peers import WorkerProcess
from tests.sim.process import Process
from tests.sim.trace import short

if TYPE_CHECKING:
    from tests.sim.world import World

LOOK_S = 1.0


class BrokerProcess:
    """What `nbtasks.broker.daemon` does: take a batch, let the machine decide, commit, then send."""

    def __init__(self, world: World, boot: str) -> None:
        self.world = world
        self.boot = self.name = boot
        self.inbox: list[tuple[str, Any, Any]] = []
        self.stalled_until_s = 0.0
        self._pass_at: float | None = None
        self._look_at = 0.0
        self._adopted: list[PeerId] = []
        self._routes: set[PeerId] = set()
        self._subscribed: set[PeerId] = set()
        self._watched: dict[PeerId, Process] = {}
        self._listening: dict[PeerId, list[str]] = {}  # topics of events that reach a peer
        disk, plan, now = world.disk, world.plan, world.now()
        self.machine = Broker(
            Limits(queue_limit=plan.queue_limit, idle_stop_s=plan.idle_stop_s),
            boot,
            now,
            recorded=disk.rows.__contains__,
            keyed=disk.keyed,
            cached=disk.cached,
            final=disk.final,
            spec_id=lambda spec: f"{spec.key}-{spec.version}",
            newest=disk.newest,
        )
        peers: list[PeerRecord] = [copy(record) for record in disk.peers.values()]
        self.machine.restore(
            disk.live_rows(), peers, dict(disk.counts), disk.last_seq, now, disk.limits.values(),
            disk.holdings.values(),
        )  # fmt: skip
        for name in disk.peers:
            self._watch(world.peers[name])
        world.judge.committed(self.machine)
        self._call_at(world.mono_s)

    @property
    def _up(self) -> bool:
        return self.world.broker is self

    # -- what comes in ---------------------------------------------------------------------------------

    def receive(self, sender: Process, frame: list[Message]) -> None:
        self._put("frame", sender, frame)

    def on_subscription(self, process: Process) -> None:
        if process.alive:
            self._put("subscription", process, None)

    def on_cut(self, process: Process) -> None:
        """What is published for it now is lost."""
        self._subscribed.discard(process.name)
        self._hear(process.name, [])

    def on_listening(self, process: Process) -> None:
        """It hears the events of other topics than before."""
        self._put("listening", process, None)

    def _hear(self, peer: PeerId, topics: list[str]) -> None:
        before = self._listening.pop(peer, [])
        self._listening[peer] = topics
        for topic in topics:
            if topic not in before:
                self.machine.observed(topic, True)
        for topic in before:
            if topic not in topics:
                self.machine.observed(topic, False)

    def _put(self, kind: str, process: Process, detail: Any) -> None:
        if not self._up:
            return
        self.inbox.append((kind, process, detail))
        self._call_at(
            self.world.mono_s + self.world.rng.choice((0.0, 0.0, 0.5, 1.0)) * self.world.plan.pass_s
        )

    def look_after(self, process: Process) -> None:
        """A process died; if it is watched, that is known soon."""
        if self._watched.get(process.name) is process:
            self.world.after(self.world.fact_s(), self._put, "gone", process, None)

    def _watch(self, process: Process) -> None:
        if process.name not in self._watched:
            self._watched[process.name] = process
            if not process.alive:
                self.look_after(process)

    def _forget(self, peer: PeerId) -> None:
        self._watched.pop(peer, None)
        self._routes.discard(peer)

    # -- the loop --------------------------------------------------------------------------------------

    def _call_at(self, mono_s: float) -> None:
        if self._pass_at is None or mono_s < self._pass_at:
            self._pass_at = mono_s
            self.world.at(mono_s, self._on_time, mono_s)

    def _on_time(self, mono_s: float) -> None:
        if not self._up or self._pass_at != mono_s:
            return
        self._pass_at = None
        if self.stalled_until_s > mono_s:
            self._call_at(self.stalled_until_s)
            return
        self._pass()
        wake_at = self.machine.wake_at()
        if self._up and wake_at is not None:
            assert wake_at > mono_s, f"the broker is busy without work: {wake_at}"
            self._call_at(wake_at)

    def _pass(self) -> None:
        now = self.world.now()
        inbox, self.inbox = self.inbox, []
        for kind, process, detail in inbox:
            if kind == "frame":
                self._take(process, detail, now)
            elif kind == "subscription":
                self._subscribed.add(process.name)
                self.machine.subscribed(process.name, now)
                self._hear(process.name, process.topics)
            elif kind == "listening":
                self._hear(process.name, process.topics)
            elif self._watched.get(process.name) is process:
                self._forget(process.name)
                exited = None
                if isinstance(process, WorkerProcess):
                    exited = Exited(
                        process.name, "exit status unknown", process.marker.held(), process.marker.said()
                    )
                self.world.note("broker learns that", process.name, "is gone")
                self.machine.process_gone(process.name, exited, now)
        if self._look_at <= now.mono_s:
            self._look_at = now.mono_s + LOOK_S
            self._adopt(now)
            self._call_at(self._look_at)
        self.machine.tick(now)
        self._act(now)
        if self._up:
            self._remove_outboxes()
        if self._up and (wanted := self.machine.unattributed(3)):
            self.machine.attribute(wanted[1], self.world.disk.finals_by_task(*wanted))

    def _adopt(self, now: Now) -> None:
        """Record what is in the outboxes."""
        for name, submits in self.world.outboxes.items():
            for submit in submits:
                self.machine.adopt(submit, now)
            if not self.world.peers[name].alive:
                self._adopted.append(name)

    def _remove_outboxes(self) -> None:
        """What was adopted of dead clients is committed now."""
        for name in self._adopted:
            self.world.outboxes.pop(name, None)
        self._adopted = []

    def _take(self, process: Process, frame: list[Message], now: Now) -> None:
        self._routes.add(process.name)
        for message in frame:
            if names_runs(message):
                self._adopt(now)
            self.machine.handle(process.name, message, now)
            if isinstance(message, (HelloClient, HelloWorker, HelloPool)):
                self._watch(process)
            elif isinstance(message, Left):
                self._forget(process.name)

    def _act(self, now: Now) -> None:
        world, output = self.world, self.machine.take()
        if output.writes:
            # what it read from an outbox must not be gone from there
            if world.chance(0.5 if self._adopted and world.plan.crash else world.plan.crash):
                return world.kill_broker("before commit")
            self.commit(output, now)
            if world.chance(world.plan.crash):
                return world.kill_broker("after commit")
            for peer, record in output.peers.items():
                if record is None:
                    self._forget(peer)
        world.judge.committed(self.machine)
        if self._send(output.sends):
            return world.kill_broker("while sending")
        for act in output.signals:
            process = world.peers[act.worker]
            if process.alive and (not act.run or process.marker.is_running(act.run, act.attempt)):  # type: ignore[attr-defined]
                process.die(f"killed by {act.name}")
        if output.stop:
            world.note("broker stops")
            world.end_broker()

    def commit(self, output: Output, now: Now) -> None:
        self.world.judge.committing(output, now, self.boot)
        if self.world._tracing:
            for row in output.changed.values():
                self.world.note("  disk", short(row))
        self.world.disk.commit(output)

    def _send(self, sends: list[Any]) -> bool:
        """Send by peer and channel, one frame each; True: dies in the middle."""
        frames: dict[tuple[PeerId, bool], list[Message]] = {}
        pushed: set[int] = set()
        disk, judge = self.world.disk, self.world.judge
        for item in sends:
            if isinstance(item, Send):
                frames.setdefault((item.peer, item.peer not in self._routes), []).append(item.message)
                judge.saying(item, self.boot)
            elif isinstance(item, Publish):
                frames.setdefault((item.peer, True), []).append(item.message)
                judge.saying(item, self.boot)
            elif isinstance(item, PushRun):
                if item.record.seq not in pushed and item.record.worker:
                    pushed.add(item.record.seq)
                    judge.saying(item, self.boot)
                    frames.setdefault((item.record.worker, True), []).append(disk.push(item))
            elif isinstance(item, TellEnd):
                frames.setdefault((item.peer, True), []).append(disk.told(item))
            elif isinstance(item, Announce):
                judge.publishing(item)
                for peer, topics in self._listening.items():
                    if item.topic in topics and peer in self._subscribed:
                        frames.setdefault((peer, True), []).append(item.message)
            else:
                frames.setdefault((item.peer, False), []).append(disk.answer(item))
        for (peer, published), messages in frames.items():
            if self.world.chance(self.world.plan.crash / 2):
                return True
            if not published or peer in self._subscribed:
                self.world.down(peer, messages)
        return False
