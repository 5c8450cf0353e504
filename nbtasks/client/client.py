"""`Client`: one home as tasks, runs, magics and the command line see it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from msgspec.structs import replace

from nbtasks import context, settings
from nbtasks.client import pools, processes, status, stopping
from nbtasks.client.lending import Lending
from nbtasks.client.link import Link
from nbtasks.client.observation import Observation
from nbtasks.client.pools import Pool
from nbtasks.client.status import Status
from nbtasks.client.way import full_disk
from nbtasks.context import Fate, Left, Served, never
from nbtasks.core import messages
from nbtasks.core.codec import INLINE_BYTES_MAX
from nbtasks.core.messages import (
    Board,
    Cancel,
    Done,
    GetBoard,
    GetOutput,
    GetRun,
    GetRuns,
    GetStatus,
    GetValue,
    Message,
    NewRun,
    NotDone,
    Prune,
    Pruned,
    RunChanged,
    RunFilter,
    RunFound,
    RunId,
    RunInfo,
    SetPool,
    Spec,
    Submit,
    Terms,
)
from nbtasks.core.observer import BOARD_NAME
from nbtasks.core.payload import Payload
from nbtasks.errors import (
    BrokerUnavailable,
    NbtasksError,
    QueueFull,
    ResultCorrupt,
    SubmitUnknown,
    UnknownRun,
    WouldDeadlock,
)
from nbtasks.run import Run, RunList, asked, find_runs
from nbtasks.tasks import Task, loglines
from nbtasks.tasks.options import local_paths
from nbtasks.wire import ids, pages
from nbtasks.wire.blobs import Blobs

SUBMIT_S = 60.0  # for a broker to record what was submitted
ANSWER_S = 30.0  # for a broker to answer a question
BATCHES_MAX = 4  # batches of a map that are not answered yet
CANCEL_RUNS_MAX = 1000  # ids in one Cancel

A = TypeVar("A", bound=Message)
_ERRORS: dict[str, type[Exception]] = {"itself": ValueError, "value": ValueError, "deadlock": WouldDeadlock}


class Client:
    """Talks to the broker of one home; made by `nbtasks.connect()`.

    Within `with connect(...)`, tasks of this thread of execution talk to that home. It may be used from
    any thread. What `close` gave up is opened again by the next use.

    Parameters
    ----------
    home
        Directory of the broker; else `NBTASKS_HOME`, else the user's data directory.
    start
        Whether a broker that is not there is started, also one that dies later.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None, start: bool = True) -> None:
        self.home: Path = settings.home_path(home)
        self._start = start
        self._uses: list[ExitStack] = []  # a forked child is in the blocks of its parent, and leaves them
        self.reset()
        processes.clients.add(self)

    def reset(self) -> None:
        """Forget what belongs to the process that this one was forked from."""
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._lending = Lending(lambda make: self.ask(make, Done))
        self._blobs = Blobs(self.home, syncs=settings.load(self.home).durability == "power")

    def __repr__(self) -> str:
        return f"Client(home={str(self.home)!r})"

    def open(self) -> Client:
        """See that the broker is there, also if it was stopped on purpose before.

        Raises
        ------
        BrokerUnavailable
            There is none, and none may or can be started.
        """
        self._opened(starts_again=True)
        return self

    def close(self) -> None:
        """Let go of the broker; runs go on."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()
            processes.links.discard(link)

    def __enter__(self) -> Client:
        self.open()
        stack = ExitStack()
        stack.enter_context(context.use(self))
        self._uses.append(stack)
        return self

    def __exit__(self, *exc: object) -> None:
        self._uses.pop().close()
        if not self._uses:
            self.close()

    def _opened(self, starts_again: bool = False) -> Link:
        link = self._link
        if link is None:
            with self._lock:
                link = self._link
                if link is None:
                    link = self._link = Link(self.home, self._start)
                    processes.links.add(link)
        try:
            link.open(starts_again)
        except BrokerUnavailable:
            if link.broker_pid == 0:
                self.close()  # there never was one
            raise
        return link

    # -- submitting ---------------------------------------------------------------------------------------

    def pack(self, payload: Payload, run: RunId) -> bytes:
        """What travels and is recorded of the arguments of `run`; a blob of what is large."""
        if payload.size > INLINE_BYTES_MAX:
            self._opened(starts_again=True)  # without a broker nothing is left behind
        return self._blobs.pack(payload, run)

    def unpack(self, body: bytes) -> Payload:
        """The value that travelled; raises `BlobCorrupt`."""
        return self._blobs.unpack(body)

    def submit(self, spec: Spec, code: bytes, run: NewRun, parent: RunId, terms: Terms) -> Fate:
        """Record one run, or find the one that has its idempotency key; it is recorded when this returns."""
        link = self._opened(starts_again=True)
        message = Submit(run.run, spec, code, (run,), parent, terms=terms)
        fate = Fate(run.run)
        link.submit(message, (fate,))
        if holder := self._wait_recorded(link, message):
            self._blobs.discard(run.args)
            [fate] = link.fates([holder])
        return fate

    def submit_many(
        self, spec: Spec, code: bytes, batches: Iterable[Sequence[NewRun]], parent: RunId, terms: Terms
    ) -> list[Fate]:
        """Record runs, each batch whole or not at all; all are recorded when this returns."""
        link = self._opened(starts_again=True)
        fates: list[Fate] = []
        open_batches: deque[Submit] = deque()
        for batch in batches:
            message = Submit(ids.run_id(), spec, code, tuple(batch), parent, terms=terms)
            new = [Fate(run.run) for run in batch]
            fates += new
            link.submit(message, new)
            open_batches.append(message)
            if len(open_batches) >= BATCHES_MAX:
                self._wait_recorded(link, open_batches.popleft())
        while open_batches:
            self._wait_recorded(link, open_batches.popleft())
        return fates

    def _wait_recorded(self, link: Link, message: Submit) -> RunId:
        """Returns the run that has the idempotency key of the message; "" if its runs are new."""

        def is_recorded() -> bool:
            return link.outcomes.is_recorded(message.batch)

        problem = f"the broker of {self.home} has not answered within {SUBMIT_S:g} s"
        try:
            try:
                if link.wait(is_recorded, SUBMIT_S):
                    return link.outcomes.recorded(message.batch)
            except BrokerUnavailable:
                # one that was stopped meanwhile is started again for what is new
                link.open(starts_again=True)
                if link.wait(is_recorded, SUBMIT_S):
                    return link.outcomes.recorded(message.batch)
        except BrokerUnavailable as error:
            problem = str(error)
        except QueueFull:
            for new in message.runs:
                self._blobs.discard(new.args)
            raise
        except BaseException:
            link.abandon(message.batch)
            raise
        link.abandon(message.batch)
        run = message.runs[0].run
        raise SubmitUnknown(
            f"{problem}{full_disk(self.home)}; whether run {run} is recorded is not known: "
            f"nbtasks.get_run({run!r}) tells",
            run,
        )

    # -- asking -------------------------------------------------------------------------------------------

    def ask(
        self, make: Callable[[int], Message], kind: type[A], wait_s: float | None = None, left: Left = never
    ) -> A:
        """The answer to a question; TimeoutError if `wait_s` is given and over, or `left()`."""
        link, limit_s = self._opened(), ANSWER_S if wait_s is None else wait_s
        request = link.ask(make)
        try:
            link.wait(lambda: link.outcomes.has_answer(request) or left(), limit_s)
            answer = link.outcomes.answer(request)
        finally:
            link.forget(request)
        if answer is None:
            if wait_s is not None:
                raise TimeoutError
            who = f"the broker of {self.home} (pid {link.broker_pid})"
            raise BrokerUnavailable(f"{who} has not answered within {ANSWER_S:g} s")
        if isinstance(answer, NotDone):
            raise _ERRORS.get(answer.code, NbtasksError)(answer.reason)
        assert isinstance(answer, kind), answer
        return answer

    def fates(self, runs: Sequence[RunId]) -> list[Fate]:
        """The fates of runs that may be of other processes; watched from now on."""
        return self._opened().fates(runs)

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Let fates be settled until `is_done()`; False when the time is over."""
        return is_done() or self._opened().wait(is_done, timeout_s)

    def wake(self) -> None:
        """Let whoever waits look again whether it is done."""
        if (link := self._link) is not None:
            link.wake()

    def waits(self, run: RunId, attempt: int, runs: Sequence[RunId]) -> AbstractContextManager[None]:
        """A block in which the code of `run` waits for `runs`; raises ValueError, `WouldDeadlock`."""
        return self._lending.waits(run, attempt, runs)

    def keep(self, fate: Fate) -> None:
        """Settle `fate` even if nobody waits and no handle is left: somebody wants to be called."""
        self._opened().keep(fate)

    def page_of(self, run: RunId) -> str:
        """Where a dashboard shows this run; "" if there is none."""
        return pages.url_of_run(self.home, run)

    def info(self, run: RunId) -> RunInfo:
        """What is recorded of a run."""
        row = self.ask(lambda number: GetRun(number, run), RunFound).row
        if row is None:
            raise UnknownRun(f"no run {run} is recorded in {self.home}")
        return row

    def prune(
        self, older_s: float | None = None, bytes_max: int | None = None, dry_run: bool = False
    ) -> tuple[int, int]:
        """Remove finished runs, oldest first; nothing that something live refers to.

        Parameters
        ----------
        older_s
            Those that ended so long ago; without this and `bytes_max`, what the home's settings say.
        bytes_max
            The oldest ones, until no more is recorded.
        dry_run
            Only count what would go.

        Returns
        -------
        How many runs, and how many bytes they took, about.
        """
        runs = size = after = 0
        while True:
            part = Prune(0, older_s, bytes_max, dry_run, after, size if dry_run else 0)
            done = self.ask(lambda number, part=part: replace(part, request=number), Pruned)  # type: ignore[misc]
            runs, size, after = runs + done.runs, size + done.size, done.more
            if not after:
                return runs, size

    def infos(self, wanted: RunFilter) -> list[RunInfo]:
        """What is recorded of many runs, newest first."""
        rows: list[RunInfo] = []
        before = wanted.before
        while len(rows) < wanted.limit:
            page = RunFilter(wanted.states, wanted.key, wanted.tag, wanted.limit - len(rows), before)
            answer = self.ask(lambda number, page=page: GetRuns(number, page), messages.Runs)  # type: ignore[misc]
            rows += answer.rows
            before = answer.more
            if not before:
                break
        return rows[: wanted.limit]

    def value(self, run: RunId) -> bytes:
        """The pickled result or failure of a run that ended."""
        answer = self.ask(lambda number: GetValue(number, run), messages.Value)
        if not answer.found:
            raise ResultCorrupt(f"what run {run} returned is not in the journal of {self.home}")
        return answer.value

    def output(self, run: RunId, after: int = 0) -> list[bytes]:
        """JSON arrays of nbformat outputs, in order, without the first `after` of them."""
        chunks: list[bytes] = []
        while True:
            answer = self.ask(lambda number, after=after: GetOutput(number, run, after), messages.Output)  # type: ignore[misc]
            chunks += answer.chunks
            if not answer.more:
                return chunks
            after = answer.more

    # -- looking ------------------------------------------------------------------------------------------

    def board(self) -> Board:
        """What runs, waits and failed, as it is now."""
        return self.ask(GetBoard, messages.BoardFound).board

    def observe_run(self, run: RunId, look: Callable[[RunChanged | None], object]) -> Observation:
        """Have `look` called with what is new of a run, a few times a second at most, until it is closed.

        It is called at once with what is recorded, in whatever thread listens: it must be quick and must not
        ask this client anything. None says that the broker is gone.
        """
        return Observation(self._opened(), run, look)

    def observe_board(self, look: Callable[[Board | None], object]) -> Observation:
        """The same for the board."""
        return Observation(self._opened(), BOARD_NAME, look)

    # -- for users ----------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Who the broker is, what its workers do, what waits."""
        return status.of_message(self.ask(GetStatus, messages.Status))

    def runs(
        self,
        state: str | Iterable[str] | None = None,
        task: str | None = None,
        tag: str | None = None,
        limit: int = 100,
    ) -> RunList:
        """The runs of this home, newest first; see `nbtasks.runs`."""
        return find_runs(self, state, task, tag, limit)

    def get_run(self, run: str | UUID) -> Run:
        """The handle on a run; see `nbtasks.get_run`."""
        return Run.of_info(self.info(asked.run_id(run)), self)

    def cancel(self, runs: Iterable[RunId | UUID]) -> None:
        """End these runs: what waits at once, what runs by an interrupt, then by a kill."""
        wanted = [str(run) for run in runs]
        for i in range(0, len(wanted), CANCEL_RUNS_MAX):
            some = tuple(wanted[i : i + CANCEL_RUNS_MAX])
            self.ask(lambda number, some=some: Cancel(number, some), Done)  # type: ignore[misc]

    @property
    def drain_s(self) -> float:
        """Seconds for running code when something is to stop and nobody says: a setting of the home."""
        return settings.load(self.home).drain_s

    def stop_broker(self, drain_s: float | None = None) -> None:
        """Stop the broker and its pools, once what runs has ended; returns when its process is gone.

        What is queued is kept. Waiting for a run raises `BrokerUnavailable` from now on.
        """
        stopping.stop(self, self._opened(), self.drain_s if drain_s is None else drain_s)

    # -- workers ------------------------------------------------------------------------------------------

    def start_workers(
        self, n: int, tasks: Iterable[Task[..., Any]] | None = None, *, least: int | None = None, **kind: Any
    ) -> Pool:
        """Start a pool of `n` workers.

        Parameters
        ----------
        tasks
            The tasks that they serve, with their functions of this process; None: any task, with the code
            that travels.
        least
            Start with so many, and more as runs wait; else all of them.
        kind
            `env`: variables (name: value); `kernel`: the kernelspec whose interpreter they are; `gpu=True`:
            each sees one GPU and offers the tag "gpu"; `tags`: what else they offer to tasks with
            `worker_tags`; `max_runs_per_worker`: after so many a worker is replaced by a new one.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n is a number of workers from 1 on, not {n!r}")
        wanted = pools.kind_of(**kind)
        self._opened(starts_again=True)
        served = None if tasks is None else [Served(task.key, task.name, task.dumped()[0]) for task in tasks]
        least = n if least is None else max(0, min(least, n))
        return pools.start(self, least, n, served, generic=False, paths=local_paths(), kind=wanted)

    def set_generic_pool(self, least: int, most: int, **kind: Any) -> None:
        """Let the home's own pool have between `least` and `most` workers, on demand; 0 of them ends it."""
        wanted = pools.kind_of(**kind)
        self._opened(starts_again=True)
        pools.set_generic(self, least, most, wanted)

    def serve(self, tasks: Sequence[Served], limit: int | None) -> Pool | None:
        """Execute the runs of these tasks: blocks in a script, returns a pool in a notebook."""
        most = limit or pools.serve_limit()
        self._opened(starts_again=True)
        if pools.is_notebook():
            loglines.serving([task.name for task in tasks])
            return pools.start(self, min(1, most), most, tasks, generic=False, paths=local_paths())
        self.close()  # while it blocks this process is no client
        if exit_status := pools.run(self, most, tasks, local_paths()):
            raise SystemExit(exit_status)
        return None

    def resize(self, pool: str, least: int, most: int, drain_s: float) -> None:
        """Change the bounds of a pool ("": the generic one); `most` = 0 ends it."""
        self.ask(lambda number: SetPool(number, pool, least, most, drain_s), Done)

    def has_pool(self, name: str = "") -> bool:
        """Whether the broker knows this pool; "": the home's own, unless it ends, so that its bound is 0."""
        return any(p.name == name if name else p.generic and p.most for p in self.status().pools)
