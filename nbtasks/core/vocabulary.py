"""The words of the protocol: what messages are made of, and what machines remember."""

from __future__ import annotations

from typing import Annotated, Union

import msgspec

# all numbers on the way: one that the journal cannot hold would end the broker again and again
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Finite = Annotated[float, msgspec.Meta(ge=-1.7976931348623157e308, le=1.7976931348623157e308)]

RunId = str  # canonical UUIDv7, 36 characters
PeerId = str  # "c-…" client, "w-…" worker, "p-…" pool; fresh at each start, so it is the incarnation too

TO_START = "waiting for a worker to start"  # why a run waits about which nobody needs to do anything


class Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A piece of a message; never sent alone."""


class Spec(Part, frozen=True, cache_hash=True):
    """A task as it was when it was delayed: shared by all runs of a batch, stored once."""

    key: str
    name: str
    python: str  # "3.11": a pickled function runs on the minor version that made it
    code: str  # digest of the pickled function; "" when only a serving pool can run it
    version: str = ""  # digest of the function's source, for people
    description: str = ""
    tags: tuple[str, ...] = ()
    retries: Int64 = 0
    retry_delay_s: Finite = 0.0  # before the first retry
    crash_retries: Int64 = 0
    timeout_s: Finite = 0.0  # 0: none
    grace_s: Finite = 3.0
    log_prints: bool = False
    cwd: str = ""
    sys_path: tuple[str, ...] = ()
    later_delays_s: tuple[Finite, ...] = ()  # before the second retry, the third …; the last one repeats
    serializer: str = "pickle"  # of the result
    cache_s: Finite = (
        0.0  # how long its results are taken by runs with their cache key; 0: while they are kept
    )
    retry_jitter: Finite = 0.0  # a delay d lies in [d - d·jitter, d + d·jitter]
    hooks: tuple[str, ...] = ()  # those for endings that it has
    hook: str = ""  # of a hook run: which hooks are executed instead of the body
    worker_tags: tuple[str, ...] = ()  # which a worker must offer
    sticky: str = ""  # runs with the same name go to one worker while it lives, and share a namespace


class Need(Part, frozen=True):
    """A run that has to end before another one may start."""

    run: RunId
    tolerant: bool = False  # in whatever way it ends


class Terms(Part, frozen=True):
    """What is asked of the runs of one submit, beyond what their task is."""

    priority: Int64 = 0  # larger ones go first
    eta: Finite = 0.0  # UNIX seconds, not before; 0: at once
    expires: Finite = 0.0  # UNIX seconds; what has not started by then never does; 0: no such time
    key: str = ""  # idempotency key within the task; "": none
    needs: tuple[Need, ...] = ()  # those of one run, in the broker's memory; a submit says them run by run
    name: str = ""  # that of one run, likewise; "": its task's
    cache_key: str = ""  # that of one run, likewise; "": none that is known
    refresh: bool = False  # no earlier result is taken


class LimitInfo(Part, frozen=True):
    """A limit, and how much of it is taken."""

    name: str
    slots: Int64
    period_s: Finite
    in_use: Int64
    waiting: Int64  # blocks of code that ask for slots


class NewRun(Part, frozen=True):
    """One run of a batch, named by the client so that a repeated submit is no new run."""

    run: RunId
    args: bytes
    parameters: str = "{}"  # JSON object: name -> safe repr
    needs: tuple[Need, ...] = ()  # without repetitions
    name: str = ""  # "": its task's
    cache_key: str = (
        ""  # runs with the same one have the same result; "": the worker finds it, if there is one
    )


class Held(Part, frozen=True):
    """An attempt that a worker has in its hands."""

    run: RunId
    attempt: Int64
    started: bool = False
    ended: bool = False  # its Finished will follow, or follow again
    hooks: str = ""  # those for its ending that it began to run


class Progress(Part, frozen=True):
    """How far the code of an attempt says that it is."""

    number: Int64  # of this word, from 1 within the attempt
    done: Finite
    total: Finite = 0.0  # 0: not known
    text: str = ""


class Attempt(Part, frozen=True):
    """One charged attempt, as shown to users."""

    number: Int64
    worker: PeerId
    pid: Int64
    start: Finite  # UNIX seconds
    end: Finite = 0.0  # UNIX seconds; 0: not ended
    outcome: str = ""
    progress: Union[Progress, None] = None


class Moment(Part, frozen=True):
    """A state that a run was in, and since when."""

    state: str
    at: Finite  # UNIX seconds
    message: str = ""
    label: str = ""  # the user's name for it, if the code gave it one


class RunInfo(Part, frozen=True):
    """What may be known of a run without opening a payload."""

    run: RunId
    spec: Spec
    submitted: Finite  # UNIX seconds
    parameters: str
    parent: RunId
    state: str
    message: str
    at: Finite  # UNIX seconds
    history: tuple[Moment, ...]
    attempts: tuple[Attempt, ...]
    worker: PeerId = ""
    output_bytes: Int64 = 0
    own_name: str = ""  # "": its task's
    chunks: Int64 = 0  # recorded of the newest assignment
    attempt: Int64 = 0  # the number of that assignment

    @property
    def name(self) -> str:
        return self.own_name or self.spec.name


class WorkerInfo(Part, frozen=True):
    worker: PeerId
    pool: PeerId
    pid: Int64
    host: str
    python: str
    state: str  # starting, idle, busy, draining, stalled
    serves: tuple[str, ...] | None  # task keys; None: any task
    run: RunId = ""
    busy_since: Finite = 0.0  # UNIX seconds; 0: idle


class PoolInfo(Part, frozen=True):
    pool: PeerId
    pid: Int64
    host: str
    generic: bool
    serves: tuple[str, ...] | None
    least: Int64
    most: Int64
    workers: Int64


class TaskCounts(Part, frozen=True):
    """How many runs of a task there are, by state type; types without runs are left out."""

    key: str  # "": all tasks that are not told one by one
    name: str
    counts: dict[str, int]


class BoardRow(Part, frozen=True):
    """A run in few bytes."""

    run: RunId
    name: str
    state: str
    message: str  # its first line, cut
    submitted: Finite  # UNIX seconds
    at: Finite  # UNIX seconds, since when it is in this state
    start: Finite = 0.0  # UNIX seconds, of the first attempt; 0: not started
    end: Finite = 0.0  # UNIX seconds, of the last attempt; 0: not ended
    worker: PeerId = ""  # of the last attempt
    pid: Int64 = 0
    attempts: Int64 = 0
    label: str = ""  # the user's name for the state
    progress: Union[Progress, None] = None  # of the last attempt


class BoardWorker(Part, frozen=True):
    worker: PeerId
    pid: Int64
    state: str  # starting, idle, busy, draining
    run: RunId = ""


class Board(Part, frozen=True):
    """All that a board shows, of bounded size however many runs there are."""

    boot: str
    number: Int64  # of the last event, from 1 within a boot
    counts: dict[str, int]  # by state type; types without runs are left out
    tasks: tuple[TaskCounts, ...]  # those with the most live runs first; the last may sum the others
    rows: tuple[BoardRow, ...]  # what runs, what failed, then what changed last
    workers: tuple[BoardWorker, ...]
    worker_count: Int64


class RunFilter(Part, frozen=True):
    """Which runs to list, newest first."""

    states: tuple[str, ...] = ()  # state types or names; empty: all
    key: str = ""  # task key or task name; empty: all
    tag: str = ""
    limit: Int64 = 100
    before: Int64 = 0  # only runs that arrived before this sequence number; 0: from the newest
