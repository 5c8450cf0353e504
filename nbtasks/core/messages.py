"""The wire protocol: every message that ever crosses a socket, and nothing else.

Commands go down in the imperative (Submit, Push, Cancel); facts come up in the past tense
(Accepted, Acked, Finished). No message is a request that blocks for its reply: what is lost is said
again by whoever still needs its effect, so everything here can be repeated without harm.

Values, code and arguments are bytes that only clients and workers open.
"""

from __future__ import annotations

from typing import Union

import msgspec

from nbtasks.core.vocabulary import (
    Attempt as Attempt,
)
from nbtasks.core.vocabulary import (
    Board as Board,
)
from nbtasks.core.vocabulary import (
    BoardRow as BoardRow,
)
from nbtasks.core.vocabulary import (
    BoardWorker as BoardWorker,
)
from nbtasks.core.vocabulary import (
    Finite,
    Int64,
)
from nbtasks.core.vocabulary import (
    Held as Held,
)
from nbtasks.core.vocabulary import (
    LimitInfo as LimitInfo,
)
from nbtasks.core.vocabulary import (
    Moment as Moment,
)
from nbtasks.core.vocabulary import (
    Need as Need,
)
from nbtasks.core.vocabulary import (
    NewRun as NewRun,
)
from nbtasks.core.vocabulary import (
    Part as Part,
)
from nbtasks.core.vocabulary import (
    PeerId as PeerId,
)
from nbtasks.core.vocabulary import (
    PoolInfo as PoolInfo,
)
from nbtasks.core.vocabulary import (
    Progress as Progress,
)
from nbtasks.core.vocabulary import (
    RunFilter as RunFilter,
)
from nbtasks.core.vocabulary import (
    RunId as RunId,
)
from nbtasks.core.vocabulary import (
    RunInfo as RunInfo,
)
from nbtasks.core.vocabulary import (
    Spec as Spec,
)
from nbtasks.core.vocabulary import (
    TaskCounts as TaskCounts,
)
from nbtasks.core.vocabulary import (
    Terms as Terms,
)
from nbtasks.core.vocabulary import (
    WorkerInfo as WorkerInfo,
)

PROTOCOL = 5  # raised whenever a message changes in a way the other side would misread


# Nothing here can be part of a cycle, and a queue of 200,000 runs must not be searched for one.
class Message(msgspec.Struct, frozen=True, array_like=True, tag=True, forbid_unknown_fields=True, gc=False):
    """A message; the class name is its tag on the wire."""


# -- any peer -> broker --------------------------------------------------------------------------------


class HelloClient(Message, frozen=True):
    """A client is here; said again until Welcome, and whenever the broker calls us a Stranger."""

    version: str
    python: str
    pid: Int64
    host: str
    session: Int64 = 1  # raised whenever the client forgets what it was told: finals are numbered within it


class HelloWorker(Message, frozen=True):
    """A worker is able to run; `held` is the truth about what it has in its hands."""

    version: str
    python: str
    pid: Int64
    born: Finite  # process start time, UNIX seconds: tells a reused pid
    host: str
    pool: PeerId
    marker: str  # path of the marker file
    serves: tuple[str, ...] | None
    held: tuple[Held, ...] = ()
    tags: tuple[str, ...] = ()  # what it offers beyond others


class HelloPool(Message, frozen=True):
    """A pool is here; `workers` are the processes it watches."""

    version: str
    python: str
    pid: Int64
    born: Finite
    host: str
    generic: bool  # the one pool that `%nbtasks workers N` sets
    serves: tuple[str, ...] | None
    least: Int64
    most: Int64
    stays: bool  # keeps the broker from its idle stop
    workers: tuple[PeerId, ...] = ()
    tags: tuple[str, ...] = ()  # what its workers offer beyond others


class Left(Message, frozen=True):
    """This peer ends now, of its own will, and holds nothing."""


# -- client -> broker ----------------------------------------------------------------------------------


class Submit(Message, frozen=True):
    """Record these runs, all or none; repeated until Accepted or Refused."""

    batch: str
    spec: Spec
    code: bytes
    runs: tuple[NewRun, ...]
    parent: RunId = ""
    watch: bool = True
    terms: Terms = Terms()
    promised: bool = False  # in my outbox: nobody waits for the Accepted, a refusal would come late


class Watch(Message, frozen=True):
    """Tell me how these runs end; answered by Done."""

    request: Int64
    runs: tuple[RunId, ...]


class Noted(Message, frozen=True):
    """Finals up to this number have arrived; cumulative."""

    session: Int64
    upto: Int64


class Beat(Message, frozen=True):
    """I am still here and wait for something: a broker that does not know me says Stranger."""

    boot: str = ""  # of the broker that welcomed me; one that knows me by an old Hello says Stranger, too


class Waits(Message, frozen=True):
    """The code of a run waits for these runs (none: for nothing any more); answered by Done or NotDone."""

    request: Int64
    run: RunId
    attempt: Int64
    number: Int64  # of this word, from 1 within the attempt; an older one is ignored
    runs: tuple[RunId, ...]


class SetLimit(Message, frozen=True):
    """So many slots has this name from now on."""

    request: Int64
    name: str
    slots: Int64 | None  # None: no limit
    period_s: Finite = 0.0  # of a rate: so many starts within this time; 0: at a time


class GetLimits(Message, frozen=True):
    request: Int64


class Occupy(Message, frozen=True):
    """Code of a run asks for slots; answered when it has them, and repeated until then."""

    request: Int64
    run: RunId
    attempt: Int64
    token: str  # names what is asked for, so that a copy asks for nothing more
    name: str
    slots: Int64
    rate: bool = False  # it asks to start something, and gives nothing back


class Vacate(Message, frozen=True):
    """Code gives its slots back, or waits for them no more."""

    request: Int64
    token: str


class Cancel(Message, frozen=True):
    """End these runs; answered by Done once every change is recorded."""

    request: Int64
    runs: tuple[RunId, ...]


class GetRuns(Message, frozen=True):
    request: Int64
    filter: RunFilter


class GetRun(Message, frozen=True):
    request: Int64
    run: RunId


class GetValue(Message, frozen=True):
    """The result or the exception of a final run, however large."""

    request: Int64
    run: RunId


class GetOutput(Message, frozen=True):
    """The output chunks of a run from number `after` on, as many as fit one message."""

    request: Int64
    run: RunId
    after: Int64 = 0


class GetCached(Message, frozen=True):
    """The result of an earlier run with this cache key; answered by Value."""

    request: Int64
    key: str


class GetYielded(Message, frozen=True):
    """The values that an attempt yielded, as chunks after number `after`.

    Answered by YieldedFound: at once if there are any, else when there are or when the run is over.
    """

    request: Int64
    run: RunId
    attempt: Int64  # 0: none is known yet
    after: Int64


class GetCall(Message, frozen=True):
    """What a run calls; answered by CallFound."""

    request: Int64
    run: RunId


class GetStack(Message, frozen=True):
    """Where the code of a run is now; answered by StackFound once its worker said so."""

    request: Int64
    run: RunId


class StopReading(Message, frozen=True):
    """I read no more of what this attempt yields; answered by Done."""

    request: Int64
    run: RunId
    attempt: Int64


class GetStatus(Message, frozen=True):
    request: Int64


class GetBoard(Message, frozen=True):
    request: Int64


class Prune(Message, frozen=True):
    """Remove finished runs, oldest first; done in parts, each answered by Pruned."""

    request: Int64
    older_s: Finite | None = None  # those that ended so long ago; both None: what the home's settings say
    bytes_max: Int64 | None = None  # and the oldest ones, until no more is recorded
    dry_run: bool = False  # only say what would go
    after: Int64 = 0  # the `more` of the answer before
    counted_bytes: Int64 = 0  # of the answers before, by a dry run


class StopBroker(Message, frozen=True):
    """Stop the pools (after a drain of at most `drain_s`), then the broker."""

    request: Int64
    drain_s: Finite = 30.0


class SetPool(Message, frozen=True):
    """Let a pool have between `least` and `most` workers; `most` = 0 stops it after a drain."""

    request: Int64
    pool: PeerId  # "": the generic pool
    least: Int64
    most: Int64
    drain_s: Finite = 30.0


# -- broker -> client ----------------------------------------------------------------------------------


class Welcome(Message, frozen=True):
    """The broker knows you and has seen your subscription. `boot` is fresh at each broker start."""

    boot: str
    pid: Int64
    session: Int64 = 1  # of the Hello that is answered; a client ignores the answer to an earlier one


class Stranger(Message, frozen=True):
    """The broker does not know you (it was restarted): say Hello again."""

    boot: str


class Rejected(Message, frozen=True):
    """The Hello was refused for good."""

    code: str  # "version", "generic"
    reason: str


class Accepted(Message, frozen=True):
    """Every run of the batch is recorded."""

    batch: str
    room: Int64 = 0  # so many more runs would be recorded, if nobody else submitted
    run: RunId = ""  # the run that has this idempotency key already; none of the batch is recorded


class Refused(Message, frozen=True):
    """No run of the batch is recorded."""

    batch: str
    code: str  # "queue_full", "unknown_run"
    reason: str


class Ended(Message, frozen=True):
    """A watched run is final. Numbered per client and session from 1, said again until noted."""

    session: Int64
    number: Int64
    run: RunId
    state: str
    message: str
    at: Finite  # UNIX seconds
    value: bytes = b""  # pickled result, or pickled failure
    fetch: bool = False  # the value is too large to be told: GetValue brings it
    label: str = ""  # the user's name for the state


class Missing(Message, frozen=True):
    """A watched run is not recorded here. Numbered like Ended."""

    session: Int64
    number: Int64
    run: RunId


class Closed(Message, frozen=True):
    """The broker stops on purpose: do not start it again just to wait."""


class Runs(Message, frozen=True):
    request: Int64
    rows: tuple[RunInfo, ...]
    more: Int64 = 0  # pass as `before` to go on; 0: that was all


class RunFound(Message, frozen=True):
    request: Int64
    row: RunInfo | None


class Value(Message, frozen=True):
    request: Int64
    found: bool
    value: bytes = b""


class Output(Message, frozen=True):
    """Chunks of nbformat outputs, JSON arrays, in order; `more` > 0: ask again after it."""

    request: Int64
    chunks: tuple[bytes, ...]
    more: Int64 = 0


class YieldedFound(Message, frozen=True):
    """Chunks of values of the newest attempt, in order."""

    request: Int64
    attempt: Int64  # 0: there is no such run
    chunks: tuple[bytes, ...]
    upto: Int64  # number of the last one, to go on after
    live: bool  # more may come


class CallFound(Message, frozen=True):
    """A run as it was submitted."""

    request: Int64
    spec: Union[Spec, None]  # None: it is not recorded
    code: bytes = b""
    args: bytes = b""
    parameters: str = "{}"
    needs: tuple[Need, ...] = ()
    name: str = ""
    cache_key: str = ""
    priority: Int64 = 0


class StackFound(Message, frozen=True):
    request: Int64
    text: str


class Pruned(Message, frozen=True):
    """So much is gone, or would be; `more` > 0: ask again after it."""

    request: Int64
    runs: Int64
    size: Int64  # bytes
    more: Int64 = 0


class Status(Message, frozen=True):
    request: Int64
    pid: Int64
    boot: str
    home: str
    started: Finite  # UNIX seconds
    clients: Int64
    workers: tuple[WorkerInfo, ...]
    pools: tuple[PoolInfo, ...]
    counts: dict[str, int]  # state type -> number of runs, all eight keys
    queues: dict[str, tuple[int, float]]  # task key -> depth, age of the oldest in seconds


class BoardFound(Message, frozen=True):
    request: Int64
    board: Board


class BoardChanged(Message, frozen=True):
    """Published to observers, a few times a second at most; each tells the whole."""

    board: Board


class RunChanged(Message, frozen=True):
    """Published to the observers of one run; each tells the whole."""

    run: RunId
    steps: Int64  # grows with each change of the run that is told, also from one broker to the next
    state: str
    message: str
    submitted: Finite  # UNIX seconds
    at: Finite  # UNIX seconds
    start: Finite  # UNIX seconds, of the first attempt; 0: not started
    end: Finite  # UNIX seconds, of the last attempt; 0: not ended
    worker: PeerId  # of the last attempt
    pid: Int64
    attempts: Int64
    label: str = ""  # the user's name for the state
    progress: Union[Progress, None] = None  # of the last attempt
    chunks: Int64 = 0  # recorded of the last attempt; whoever has fewer may ask for output


class Done(Message, frozen=True):
    """A request took effect (and is recorded)."""

    request: Int64


class LimitsFound(Message, frozen=True):
    request: Int64
    limits: tuple[LimitInfo, ...]


class NotDone(Message, frozen=True):
    request: Int64
    reason: str
    again: bool = False  # not now: ask again in a moment
    code: str = ""  # "itself", "deadlock", "over", "value"


# -- broker -> worker ----------------------------------------------------------------------------------


class Given(Part, frozen=True):
    """How a run ended that another one needs."""

    run: RunId
    state: str
    message: str
    value: bytes = b""  # pickled result, or pickled failure
    fetch: bool = False  # the value is too large to be told: GetValue brings it


class Subject(Part, frozen=True):
    """The run that ended, of which a hook run executes the hooks."""

    run: RunId
    name: str
    number: Int64  # its last charged attempt; 0: its code never began
    at: Finite  # UNIX seconds, when it ended
    given: Given  # how
    label: str = ""  # the user's name for the state


class Push(Message, frozen=True):
    """Execute this attempt; published on the worker's topic, repeated until Acked."""

    run: RunId
    attempt: Int64
    number: Int64  # which charged attempt this will be, from 1
    spec: Spec
    code: bytes
    args: bytes
    parent: RunId = ""
    given: tuple[Given, ...] = ()  # what the runs that it needs gave
    failures: Int64 = 0  # attempts that failed before
    subject: Union[Subject, None] = None  # of a hook run; `args` are those of that run
    own_name: str = ""  # "": its task's
    cache_key: str = ""
    refresh: bool = False

    @property
    def name(self) -> str:
        return self.own_name or self.spec.name


class Interrupt(Message, frozen=True):
    """Interrupt this attempt if it runs, drop it if it waits; repeated until it is Finished."""

    run: RunId
    attempt: Int64
    reason: str  # "cancel", "timeout", "stale"


class Revoke(Message, frozen=True):
    """Hand this attempt back if its code has not started."""

    run: RunId
    attempt: Int64


class Kept(Message, frozen=True):
    """What came with Finished is recorded: forget it."""

    run: RunId
    attempt: Int64


class OutputKept(Message, frozen=True):
    """Output chunks of this attempt up to this number are recorded."""

    run: RunId
    attempt: Int64
    upto: Int64


class Consumed(Message, frozen=True):
    """Somebody reads what this attempt yields, and has its chunks up to this number."""

    run: RunId
    attempt: Int64
    upto: Int64  # -1: somebody reads no more


class ShowStack(Message, frozen=True):
    """A client wants to see where the code of this attempt is."""

    run: RunId
    attempt: Int64
    peer: PeerId
    request: Int64


class Leave(Message, frozen=True):
    """Take nothing new; end when your hands are empty."""


# -- worker -> broker ----------------------------------------------------------------------------------


class Acked(Message, frozen=True):
    """The push has arrived."""

    run: RunId
    attempt: Int64


class Started(Message, frozen=True):
    """User code has begun; for display and deadlines, the marker file decides."""

    run: RunId
    attempt: Int64
    at: Finite  # UNIX seconds


class Printed(Message, frozen=True):
    """One chunk of output, numbered from 1 within the attempt, repeated until kept."""

    run: RunId
    attempt: Int64
    number: Int64
    body: bytes  # JSON array of nbformat outputs


class Progressed(Message, frozen=True):
    """The code of an attempt is so far; said now and then, each tells the whole."""

    run: RunId
    attempt: Int64
    progress: Progress


class Finished(Message, frozen=True):
    """An attempt ended. It counts once all its `chunks` of output are recorded."""

    run: RunId
    attempt: Int64
    outcome: str  # "completed", "raised", "cancelled", "timed_out", "crashed"
    message: str  # "" or "ValueError: …", one line
    value: bytes  # pickled result, or pickled failure
    chunks: Int64
    start: Finite  # UNIX seconds
    end: Finite  # UNIX seconds
    retry: bool = True  # unless user code says that this was the last attempt
    label: str = ""  # the name of the state that user code returned, if it gave one
    hooks: str = ""  # those for this ending that it began to run
    cache_key: str = ""  # under which the result is found from now on; "": by that of the run, if it has one
    progress: Union[Progress, None] = None  # the last word of its code


class StackShown(Message, frozen=True):
    """Where the code of an attempt is; "": it does not run here."""

    run: RunId
    attempt: Int64
    peer: PeerId  # who asked
    request: Int64
    text: str


class Returned(Message, frozen=True):
    """The attempt was handed back: its code has not started and will not."""

    run: RunId
    attempt: Int64


# -- broker <-> pool -----------------------------------------------------------------------------------


class Want(Message, frozen=True):
    """Have this many workers alive; repeated with every change."""

    workers: Int64


class Kill(Message, frozen=True):
    """End this worker if its marker names this very attempt; repeated until Exited."""

    worker: PeerId
    run: RunId
    attempt: Int64


class Disband(Message, frozen=True):
    """Start nothing more, let the workers leave, end."""

    drain_s: Finite


class Draining(Message, frozen=True):
    """The pool was asked to stop, or the worker leaves: give it nothing new, take back what is unstarted."""

    drain_s: Finite


class Exited(Message, frozen=True):
    """A worker process is gone: a fact.

    Attributes
    ----------
    held, said
        The attempts that its marker file names, and what there was to say of those that ended.
    """

    worker: PeerId
    status: str  # "exit status 3", "killed by SIGKILL", "exit status unknown"
    held: tuple[Held, ...] = ()
    said: tuple[Union[Printed, Finished], ...] = ()
    last_words: bytes = b""  # JSON array of nbformat outputs: what the spool still held


class ExitNoted(Message, frozen=True):
    """The exit of this worker is recorded."""

    worker: PeerId


ToBroker = Union[
    HelloClient, HelloWorker, HelloPool, Left, Submit, Watch, Noted, Beat, Cancel, GetRuns, GetRun,
    GetValue, GetCached, GetOutput, GetCall, GetStack, GetYielded, StopReading, GetStatus, GetBoard, Prune,
    StopBroker, SetPool, Waits, SetLimit, GetLimits, Occupy, Vacate, Acked, Started, Printed, Progressed,
    StackShown, Finished, Returned, Draining, Exited,
]  # fmt: skip
ToClient = Union[
    Welcome, Stranger, Rejected, Accepted, Refused, Ended, Missing, Closed, Runs, RunFound, Value, Output,
    CallFound, StackFound, YieldedFound, Status, BoardFound, BoardChanged, RunChanged, Pruned, LimitsFound,
    Done, NotDone,
]  # fmt: skip
ToWorker = Union[
    Welcome, Stranger, Rejected, Push, Interrupt, Revoke, Kept, OutputKept, Consumed, ShowStack, Leave
]
ToPool = Union[Welcome, Stranger, Rejected, Want, Kill, Disband, ExitNoted]
