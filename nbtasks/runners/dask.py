"""The task runner whose bodies run on the workers of a Dask cluster.

Dask decides where and when. What a body says while it goes on comes back as events of the scheduler, so it
costs no connection of ours; an interrupt goes to every worker, and the one that knows the call obeys.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any
from uuid import uuid4

from nbtasks import pickling
from nbtasks.runners.course import Course, ProcessDied
from nbtasks.runners.interrupts import Interrupted, Interruptible
from nbtasks.runners.local import LocalRun
from nbtasks.runners.places import BEGAN, YIELDED, Answer, Body, Overdue, Said, Terms
from nbtasks.runners.threads import Call, LedByThreads

IN_FLIGHT_MIN = 32  # runs that Dask is given at a time, so that a cluster sees reason to grow
_DONE, _GIVEN_UP = "done", "given up"  # what a call is told besides what its body says


class DaskTaskRunner(LedByThreads):
    """Executes the code of runs on a Dask cluster, within a `with` block; `pip install 'nbtasks[dask]'`.

    What it executes has to travel, and the workers need this version of nbtasks. Hooks, conditions of
    retries and cache keys are called here. Log lines of the code and its progress appear here; plain prints
    stay where the workers' output goes. A time-out or a cancel interrupts Python code as in a thread, but
    cannot kill: a cancelled run ends here after `grace_s`, its worker goes on until the code returns. A run
    that Dask gave up, because its workers died, is Crashed; before, Dask itself may have begun it again
    (its setting `distributed.scheduler.allowed-failures`; 0: never).

    At the end of the block it waits for its runs, and closes what it opened. If the block raised, runs that
    have not started are cancelled first.

    Parameters
    ----------
    client_or_address
        A `distributed.Client`, which stays open; or the address of a scheduler, or a cluster, for a client
        of the block's own. None: the client that is current, else a cluster on this machine.

    Raises
    ------
    ImportError
        Dask is not installed.
    NotPicklable
        By `.submit()` and `map()`: a function or an argument cannot travel; the message names it.
    """

    is_elsewhere = True

    def __init__(self, client_or_address: Any = None) -> None:
        super().__init__(IN_FLIGHT_MIN)
        self._distributed = _distributed()
        self._given = client_or_address
        is_client = isinstance(client_or_address, self._distributed.Client)
        self._client: Any = _checked(client_or_address) if is_client else None
        self._is_own = False
        self._blocks = 0
        self._topic = f"nbtasks-{uuid4().hex}"
        self._calls: dict[str, queue.SimpleQueue[Said]] = {}

    def __repr__(self) -> str:
        return f"DaskTaskRunner({self._client or self._given!r})"

    def submit(self, run: LocalRun, call: Call) -> None:
        if not self._blocks:
            raise RuntimeError(
                "the block of this DaskTaskRunner has ended, so that it has no workers any more"
            )
        super().submit(run, lambda course: call(course, self))

    def __enter__(self) -> DaskTaskRunner:
        if not self._blocks:
            self._open()
        self._blocks += 1
        return super().__enter__()

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self._blocks -= 1
            if not self._blocks:
                self._close()

    def _open(self) -> None:
        if self._client is None and self._given is None:
            with suppress(ValueError):  # there is none
                self._client = _checked(self._distributed.default_client())
        if self._client is None:
            self._client, self._is_own = self._distributed.Client(self._given, set_as_default=False), True
        self._client.subscribe_topic(self._topic, self._on_event)
        self.max_workers = max(IN_FLIGHT_MIN, 2 * sum(self._client.nthreads().values()))

    def _close(self) -> None:
        self._client.unsubscribe_topic(self._topic)
        if self._is_own:
            self._client.close()
        if self._is_own or self._given is None:
            self._client, self._is_own = None, False

    def _on_event(self, event: Any) -> None:
        """In a thread of Dask's."""
        _, (key, said) = event
        if call := self._calls.get(key):
            call.put(pickling.load_result(bytes(said)))

    # -- the place ----------------------------------------------------------------------------------------

    def perform(self, body: Body, course: Course, hear: Callable[[Said], object], terms: Terms) -> Answer:
        key, heard = f"nbtasks-{uuid4().hex}", queue.SimpleQueue[Said]()
        timer = threading.Timer(terms.grace_s, heard.put, [(_GIVEN_UP,)])
        timer.daemon = True

        def stop() -> None:
            timer.start()
            if not has_begun.is_set():
                heard.put((_GIVEN_UP,))
            self._client.run(_interrupt, key, wait=False, on_error="ignore")

        has_begun = threading.Event()
        self._calls[key] = heard
        with course.shielded():
            try:
                with course.stopped_by(stop):
                    future = self._client.submit(
                        _execute, body, key, self._topic, terms.timeout_s, key=key, pure=False, retries=0
                    )
                    future.add_done_callback(lambda _: heard.put((_DONE,)))
                    while (said := heard.get())[0] not in (_DONE, _GIVEN_UP):
                        if said[0] == BEGAN:
                            self._must_be_first(has_begun, key, future)
                            course.placed(said[1])
                        else:
                            hear(said)
                if said[0] == _GIVEN_UP:
                    future.cancel()
                    raise Interrupted
                return self._answer(future, course, hear)
            finally:
                timer.cancel()
                del self._calls[key]

    def _must_be_first(self, has_begun: threading.Event, key: str, future: Any) -> None:
        if has_begun.is_set():
            future.cancel()
            self._client.run(_interrupt, key, wait=False, on_error="ignore")
            raise ProcessDied("its worker of Dask died")  # and Dask had begun it again on another one
        has_begun.set()

    def _answer(self, future: Any, course: Course, hear: Callable[[Said], object]) -> Answer:
        if future.cancelled() or future.status == "lost":
            raise ProcessDied("Dask cancelled it, or its scheduler is gone")
        try:
            yielded, answer = future.result()
        except self._distributed.scheduler.KilledWorker as error:
            raise ProcessDied(f"Dask gave it up: {error}") from None
        for said in yielded:
            hear(said)
        if answer is None:
            raise Interrupted if course.is_stopped else Overdue
        return answer


def _checked(client: Any) -> Any:
    if client.asynchronous:
        raise TypeError(
            "DaskTaskRunner takes a client that is not asynchronous, because runs wait in threads"
        )
    return client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise ImportError(
            "DaskTaskRunner needs distributed, which is not installed: pip install 'nbtasks[dask]'"
        ) from None
    return distributed


# -- in a worker of Dask --------------------------------------------------------------------------------

_executing: dict[str, _Channel] = {}
_refused: deque[str] = deque(maxlen=10_000)  # calls that were interrupted before they came here


def _execute(body: Body, key: str, topic: str, timeout_s: float) -> tuple[list[Said], Answer]:
    """The values that the body yielded, and its answer; None: it was interrupted."""
    channel = _Channel(key, topic, timeout_s)
    _executing[key] = channel
    try:
        if key in _refused:
            return [], None
        return channel.yielded, channel.execute(body)
    finally:
        del _executing[key]


async def _interrupt(key: str) -> None:
    """Called in every worker; async, because Dask waits for functions that are not."""
    _refused.append(key)
    if channel := _executing.get(key):
        channel.stop()


class _Channel:
    """Of one call, in a thread of a worker."""

    def __init__(self, key: str, topic: str, timeout_s: float) -> None:
        from distributed import get_worker

        self.yielded: list[Said] = []  # what may be too large for an event
        self._key = key
        self._topic = topic
        self._worker = get_worker()
        self._thread = threading.get_ident()
        self._call = Interruptible()
        self._lock = threading.Lock()
        self._stop: Callable[[], object] | None = None
        self._is_stopped = False
        self._timer = threading.Timer(timeout_s, self.stop) if timeout_s else None

    def execute(self, body: Body) -> Answer:
        try:
            answer = self._call.call(partial(body, self))
        except Interrupted:
            return None
        finally:
            if self._timer is not None:
                self._timer.cancel()
        return None if self._is_stopped else answer

    def stop(self) -> None:
        with self._lock:
            if self._is_stopped:
                return
            self._is_stopped, stop = True, self._stop
        if stop is None:
            self._call.interrupt()
        else:
            with suppress(RuntimeError):  # its loop has just ended
                stop()

    def say(self, said: Said) -> None:
        is_own = threading.get_ident() == self._thread
        with self._call.shielded() if is_own else nullcontext():
            if said[0] == YIELDED:
                self.yielded.append(said)
                return
            if said[0] == BEGAN:
                said = (BEGAN, os.getpid())
                if self._timer is not None:
                    self._timer.daemon = True
                    self._timer.start()
            self._worker.log_event(self._topic, (self._key, pickling.dumps(said)))

    @contextmanager
    def stopped_by(self, stop: Callable[[], object]) -> Iterator[None]:
        with self._lock:
            self._stop, is_stopped = stop, self._is_stopped
        try:
            if is_stopped:
                raise Interrupted
            yield
        finally:
            with self._lock:
                self._stop = lambda: None  # what is left is asyncio's own, which an interrupt would break
