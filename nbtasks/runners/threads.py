"""The task runner of `.submit()` and `map()`: threads of this process.

Threads live as long as there is something to execute, so nothing has to be shut down; a script that
reaches its end waits for them, as it does for any thread. A run that waits for another one of this
process lends its place, so that runs which submit runs do not wait for themselves.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any, Protocol, TypeVar

from nbtasks import context
from nbtasks.core.states import StateType
from nbtasks.run import Run, wait
from nbtasks.runners.local import LocalRun

Call = Callable[..., Any]  # of the course, and of the place where the body is executed if there is one


class TaskRunner(Protocol):
    """Executes runs."""

    is_elsewhere: bool  # whether what it executes has to travel, and therefore to be pickled

    def submit(self, run: LocalRun, call: Call) -> None:
        """See that `run.execute(call)` happens, in the context of the caller; returns at once."""


R = TypeVar("R", bound="LedByThreads")


class LedByThreads:
    """What task runners have in common: each run has a thread of this process while it is executed."""

    is_elsewhere = False

    def __init__(self, max_workers: int) -> None:
        self.max_workers = max_workers
        self._waiting: deque[tuple[LocalRun, Call, contextvars.Context]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._lent = 0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_workers={self.max_workers})"

    def submit(self, run: LocalRun, call: Call) -> None:
        """See that `run.execute(call)` happens, in the context of the caller; returns at once."""
        block = _block.get()
        if block is not None and block.runner is self:
            block.add(run)
        with self._changed:
            self._waiting.append((run, call, contextvars.copy_context()))
            self._start_thread()

    def __enter__(self: R) -> R:
        block = _Block(self)
        block.token = _block.set(block)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        block = _block.get()
        assert block is not None
        _block.reset(block.token)
        if kind is not None:
            for run in list(block.runs):
                if run.state.type is StateType.PENDING:
                    run.cancel()
        # a run that ends may have submitted more
        while runs := [run for run in list(block.runs) if not run.state.is_final]:
            wait(runs)

    # -- threads ------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        """If there is something to do and a place for it. Locked."""
        if self._waiting and self._threads - self._lent < self.max_workers:
            self._threads += 1
            try:
                threading.Thread(target=self._work, name="nbtasks-runner").start()
            except BaseException:
                self._threads -= 1
                if not self._threads:
                    raise  # nobody is left who would do it

    def _work(self) -> None:
        with context.lends(self._lend):
            while item := self._next():
                run, call, its_context = item
                its_context.run(run.execute, call)
                del run, call, its_context, item  # a thread that looks for more keeps no result

    def _next(self) -> tuple[LocalRun, Call, contextvars.Context] | None:
        with self._changed:
            if self._waiting and self._threads - self._lent <= self.max_workers:
                return self._waiting.popleft()
            self._threads -= 1
            self._changed.notify_all()
            return None

    @contextmanager
    def _lend(self) -> Iterator[None]:
        """Let another run have the place of this thread, which waits."""
        with self._changed:
            self._lent += 1
            self._start_thread()
        try:
            yield
        finally:
            with self._changed:
                self._lent -= 1


class ThreadPoolTaskRunner(LedByThreads):
    """Executes runs in threads; as a context manager, those that are submitted within the block.

    At the end of the block it waits for its runs. If the block raised, those that have not started are
    cancelled first.

    Parameters
    ----------
    max_workers
        How many runs at a time; else four more than there are CPUs, at most 32.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(checked(max_workers) or min(32, (os.cpu_count() or 1) + 4))


def checked(max_workers: int | None) -> int | None:
    """Refuse what is no number of workers."""
    if max_workers is not None and (isinstance(max_workers, bool) or not isinstance(max_workers, int)):
        raise TypeError(f"max_workers is a whole number, not {max_workers!r}")
    if max_workers is not None and max_workers < 1:
        raise ValueError(f"max_workers is a number from 1 on, not {max_workers}")
    return max_workers


class _Block:
    """A `with` block and its runs that have not ended."""

    token: Token[_Block | None]

    def __init__(self, runner: TaskRunner) -> None:
        self.runner = runner
        self.runs: dict[Run, None] = {}

    def add(self, run: Run) -> None:
        self.runs[run] = None
        run.add_done_callback(self.runs.pop)


_block: ContextVar[_Block | None] = ContextVar("nbtasks_task_runner", default=None)
_default: list[TaskRunner] = []


def task_runner() -> TaskRunner:
    """The runner of the block around, else the process's own."""
    block = _block.get()
    if block is not None:
        return block.runner
    if not _default:
        _default.append(ThreadPoolTaskRunner())
    return _default[0]


os.register_at_fork(after_in_child=_default.clear)
