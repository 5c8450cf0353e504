"""What the machines remember, and what they ask the outside to do.

A machine never acts. It returns an `Output`: rows to be committed first, then messages to be sent,
then local acts (start a process, give a run to the main thread). Records are changed in place by
the machine that owns them; an edge that keeps an `Output` must encode its rows before it feeds the
machine again.
"""

from __future__ import annotations

from typing import Union

import msgspec

from nbtasks.core.messages import (
    Attempt,
    Finished,
    GetCached,
    GetCall,
    GetOutput,
    GetRun,
    GetRuns,
    GetStatus,
    GetValue,
    GetYielded,
    Message,
    Moment,
    PeerId,
    Printed,
    Prune,
    Push,
    RunId,
    ShowStack,
    Spec,
    Terms,
)
from nbtasks.core.retention import Past
from nbtasks.core.states import FINAL, State


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A value that is made and thrown away by the thousand, in a quarter of a NamedTuple's time."""


class Now(Piece, frozen=True):
    """The time as a machine sees it."""

    mono_s: float  # for resends and grace; never stored
    unix_s: float  # for due times and stamps; stored


class RunRecord(msgspec.Struct, gc=False):
    """One row of the journal, and all that the broker knows of a live run; never its payload."""

    seq: int  # order of arrival; the primary key
    run: RunId
    batch: str
    spec: Spec  # shared between the runs of a batch
    spec_id: str
    parent: RunId
    submitted: float  # UNIX seconds
    state: State = State.PENDING
    message: str = ""
    at: float = 0.0  # UNIX seconds, since when it is in this state
    history: tuple[Moment, ...] = ()
    attempts: tuple[Attempt, ...] = ()  # charged ones only
    attempt: int = 0  # fencing token of the newest assignment; 0: never assigned
    worker: PeerId = ""  # who holds it; "" when nobody does
    started: bool = False  # user code of the newest assignment began
    stop: str = ""  # why it is being interrupted: "", "cancel", "timeout"
    due: float = 0.0  # UNIX seconds, not before
    failures: int = 0  # charged attempts that raised or timed out
    crashes: int = 0  # charged attempts whose process died
    chunks: int = 0  # output chunks recorded of the newest assignment, without a gap
    terms: Terms = Terms()  # shared between the runs of a batch that need no others and have no own names

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def name(self) -> str:
        return self.terms.name or self.spec.name


class WorkerRecord(msgspec.Struct):
    """A worker that holds runs or may take some; kept on disk so that a new broker can find it dead."""

    worker: PeerId
    pool: PeerId
    pid: int
    born: float
    host: str
    python: str
    marker: str
    serves: tuple[str, ...] | None
    tags: tuple[str, ...] = ()
    sticky: dict[str, int] = {}  # names of which it has the namespace -> since when, counted in such words


class PoolRecord(msgspec.Struct):
    pool: PeerId
    pid: int
    born: float
    host: str
    generic: bool
    serves: tuple[str, ...] | None
    least: int
    most: int
    stays: bool
    tags: tuple[str, ...] = ()


class Limit(msgspec.Struct, frozen=True):
    """So many slots has a name; with a period, so many starts within it."""

    name: str
    slots: int
    period_s: float = 0.0


class Holding(msgspec.Struct, frozen=True):
    """Slots that the code of a run holds."""

    token: str
    name: str
    slots: int
    run: RunId


PeerRecord = Union[WorkerRecord, PoolRecord]


class NewRow(msgspec.Struct, gc=False):
    """A run that was just accepted, with what only the journal keeps."""

    record: RunRecord
    args: bytes
    parameters: str


# -- local acts of workers and pools -------------------------------------------------------------------


class Execute(Piece, frozen=True):
    """Give this attempt to the main thread."""

    push: Push


class Break(Piece, frozen=True):
    """Interrupt the main thread, if it is in the user code of this very attempt."""

    run: RunId
    attempt: int
    reason: str


class Read(Piece, frozen=True):
    """Somebody reads what the current attempt yields, and has its chunks up to this number."""

    upto: int


class Show(Piece, frozen=True):
    """Tell a client where the code of the current attempt is."""

    asked: ShowStack


class MarkEnded(Piece, frozen=True):
    """Note in the marker, before anything is said, that the attempt which began last is over, and how."""

    words: tuple[Union[Printed, Finished], ...]


class Launch(Piece, frozen=True):
    """Start a worker process under this name."""

    worker: PeerId


class Signal(Piece, frozen=True):
    """Send a signal to a worker's process group, if its marker still names (run, attempt), or run is ""."""

    worker: PeerId
    name: str  # "SIGTERM", "SIGKILL"
    run: RunId = ""
    attempt: int = 0


class Exit(Piece, frozen=True):
    """End this process with `status`."""

    status: int


Act = Union[Execute, Break, Read, Show, MarkEnded, Launch, Signal, Exit]


# -- sends ---------------------------------------------------------------------------------------------


class Send(Piece, frozen=True):
    """Send `message` to `peer` as it is."""

    peer: PeerId
    message: Message


class Publish(Piece, frozen=True):
    """Say `message` to a worker in one frame with what is pushed to it."""

    peer: PeerId
    message: Message


class PushRun(Piece, frozen=True):
    """Publish the current attempt of `record` to its worker; the edge attaches code and arguments."""

    record: RunRecord
    again: bool  # not the first time: leave nothing out


class TellEnd(Piece, frozen=True):
    """Tell a client how a run ended; the edge attaches state and value from the row."""

    peer: PeerId
    session: int
    number: int
    run: RunId


class Announce(Piece, frozen=True):
    """Tell whoever observes `topic`; it may be lost."""

    topic: str
    message: Message


class Look(Piece, frozen=True):
    """Answer a query from the committed rows."""

    peer: PeerId
    query: Union[GetRuns, GetRun, GetValue, GetCached, GetOutput, GetCall, GetYielded, GetStatus, Prune]


Sent = Union[Send, Publish, PushRun, TellEnd, Announce, Look]


class Output(msgspec.Struct):
    """What the broker asks for: commit all of the first block, then perform `sends` in order."""

    new: list[NewRow] = msgspec.field(default_factory=list)
    specs: list[tuple[str, Spec, bytes]] = msgspec.field(default_factory=list)  # id, spec, code
    changed: dict[int, RunRecord] = msgspec.field(default_factory=dict)  # seq -> row as it stands
    keys: list[tuple[str, str, int]] = msgspec.field(default_factory=list)  # task, idempotency key, seq
    values: list[tuple[int, bytes]] = msgspec.field(default_factory=list)  # seq, pickled
    # seq, attempt, number, body
    chunks: list[tuple[int, int, int, bytes]] = msgspec.field(default_factory=list)
    peers: dict[PeerId, PeerRecord | None] = msgspec.field(default_factory=dict)  # None: forget it
    copies: list[tuple[int, int]] = msgspec.field(default_factory=list)  # seq, seq of the run with its result
    # cache key, seq of the run whose result it stands for, UNIX seconds until which it does (0: for ever)
    caches: list[tuple[str, int, float]] = msgspec.field(default_factory=list)
    limits: dict[str, Limit | None] = msgspec.field(default_factory=dict)  # None: there is none any more
    holdings: dict[str, Holding | None] = msgspec.field(default_factory=dict)  # by token; None: given back
    removed: list[Past] = msgspec.field(default_factory=list)  # final runs that leave, with all their rows
    # ids of specs that no run up to the sequence number has: they leave if no later one has them
    unused: tuple[int, list[str]] = (0, [])

    sends: list[Sent] = msgspec.field(default_factory=list)
    signals: list[Signal] = msgspec.field(default_factory=list)  # to local workers whose pool is gone
    stop: bool = False  # the broker has nothing more to do

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(
            self.new or self.specs or self.changed or self.keys or self.values or self.chunks or self.peers
            or self.copies or self.caches
            or self.limits or self.holdings or self.removed or self.unused[1]
        )  # fmt: skip

    @property
    def is_rare(self) -> bool:
        """Whether it is more than runs and what comes of them."""
        return bool(
            self.specs or self.peers or self.copies or self.limits or self.holdings or self.removed
            or self.unused[1]
        )  # fmt: skip


class Effects(msgspec.Struct):
    """What a client, worker or pool asks for: messages to the broker, then local acts."""

    sends: list[Message] = msgspec.field(default_factory=list)
    acts: list[Act] = msgspec.field(default_factory=list)
