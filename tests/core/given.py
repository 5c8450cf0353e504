"""Machines in the states that tests begin with; a test says what happens then."""

from __future__ import annotations

from typing import Any

from nbtasks.core import messages as m
from nbtasks.core.broker import Broker, Limits
from nbtasks.core.client import Client
from nbtasks.core.records import Now, Output, Publish, PushRun, RunRecord, Send, TellEnd
from nbtasks.core.states import State

SPEC = m.Spec("m:f", "f", "3.11", "digest")
ROOM = Limits().queue_limit
HELLO_CLIENT = m.HelloClient("1", "3.11", 5, "here")
HELLO_POOL = m.HelloPool("1", "3.11", 6, 1.0, "here", True, None, 0, 2, False)
HELLO_WORKER = m.HelloWorker("1", "3.11", 7, 1.0, "here", "p-1", "/marker", None)


def at(s: float) -> Now:
    """`s` seconds after the test began, by both clocks."""
    return Now(s, 1000.0 + s)


def spec(**options: Any) -> m.Spec:
    return m.Spec("m:f", "f", "3.11", options.pop("code", "digest"), **options)


def submit(*runs: str, batch: str = "b", spec: m.Spec = SPEC, priority: int = 0) -> m.Submit:
    new = tuple(m.NewRun(run, b"args") for run in runs)
    return m.Submit(batch, spec, b"code", new, terms=m.Terms(priority))


def promised(run: str) -> m.Submit:
    """What a client says of a run that is in its outbox."""
    return m.Submit(f"b-{run}", SPEC, b"code", (m.NewRun(run, b"args"),), promised=True)


class Desk:
    """A broker machine with a table: what it writes is kept, what it says is seen."""

    def __init__(self, limits: Limits | None = None, boot: str = "boot") -> None:
        self.rows: dict[str, RunRecord] = {}
        self.values: dict[int, bytes] = {}
        self.broker = Broker(
            limits or Limits(), boot, at(0), pid=1, recorded=self.rows.__contains__, final=self._final
        )
        self.output = Output()

    def _final(self, run: str) -> str:
        row = self.rows.get(run)
        return row.state.value if row and row.is_final else ""

    def hears(self, peer: str, *messages: m.Message, s: float = 0.0) -> list[Any]:
        """A frame arrives; returns what is said."""
        for message in messages:
            self.broker.handle(peer, message, at(s))
        return self.passes(s)

    def passes(self, s: float) -> list[Any]:
        """Time is `s` now; returns what is said."""
        self.broker.tick(at(s))
        self.output = self.broker.take()
        for new in self.output.new:
            self.rows[new.record.run] = new.record
        self.values.update(self.output.values)
        self.broker.check()
        return said(self.output)

    def state(self, run: str) -> State:
        return self.rows[run].state

    def with_client(self, peer: str = "c-1") -> Desk:
        self.broker.subscribed(peer, at(0))
        self.hears(peer, HELLO_CLIENT)
        return self

    def with_pool(self, hello: m.HelloPool = HELLO_POOL, peer: str = "p-1") -> Desk:
        self.broker.subscribed(peer, at(0))
        self.hears(peer, hello)
        return self

    def with_worker(self, peer: str = "w-1", s: float = 0.0, hello: m.HelloWorker = HELLO_WORKER) -> Desk:
        self.broker.subscribed(peer, at(s))
        self.hears(peer, hello, s=s)
        return self

    def with_run(self, run: str = "r", s: float = 0.0, **options: Any) -> Desk:
        """`run` is submitted, and given away if somebody is free."""
        self.hears("c-1", submit(run, batch=f"b-{run}", spec=spec(**options)), s=s)
        return self

    def with_started(self, run: str = "r", worker: str = "w-1", s: float = 0.0, **options: Any) -> Desk:
        """`run` executes since `s`."""
        self.with_run(run, s, **options)
        self.hears(worker, m.Started(run, self.rows[run].attempt, 1000.0 + s), s=s)
        return self


def desk() -> Desk:
    """A client, a pool and one idle worker."""
    return Desk().with_client().with_pool().with_worker()


def said(output: Output) -> list[Any]:
    """What a pass says, as (peer, message); pushes and finals as (peer, their name, run, number).

    How many workers are wanted, and what is recorded (see `kept`), is left out: it is said with almost
    everything.
    """
    words: list[Any] = []
    for item in output.sends:
        if isinstance(item, Send) and isinstance(item.message, m.Want):
            continue
        if isinstance(item, Publish):
            assert isinstance(item.message, m.Kept), item
        elif isinstance(item, Send):
            words.append((item.peer, item.message))
        elif isinstance(item, PushRun):
            words.append((item.record.worker, "push", item.record.run, item.record.attempt))
        elif isinstance(item, TellEnd):
            words.append((item.peer, "end", item.run, item.number))
    return words


def kept(output: Output) -> list[Any]:
    """What workers are told of as recorded together with a push, or for lack of one, as (worker, run)."""
    return [(item.peer, item.message.run) for item in output.sends if isinstance(item, Publish)]


def finished(run: str, outcome: str = "completed", attempt: int = 1, **options: Any) -> m.Finished:
    fields: dict[str, Any] = {"message": "", "value": b"value", "chunks": 0, "start": 1000.0, "end": 1000.0}
    return m.Finished(run, attempt, outcome, **{**fields, **options})


def welcomed_client() -> Client:
    client = Client(HELLO_CLIENT)
    client.tick(at(0))
    client.handle(m.Welcome("boot", 1), at(0))
    return client
