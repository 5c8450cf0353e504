"""What is compared: nbtasks, pools of processes that have neither broker nor journal, and a bare hop."""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.bench import work
from tests.homes import end_leftovers, variables

Function = Callable[..., Any]
WINDOW = 1000  # messages of a hop's map that are under way


class Unsupported(Exception):
    """This system cannot do that; the message says why."""


class System:
    """One system under measurement, in a process of its own; as a context manager it ends in the end."""

    def __enter__(self) -> System:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, workers: int) -> None:
        """Have so many worker processes, or none, and be ready to submit."""
        raise NotImplementedError

    def submit(self, function: Function, *args: Any) -> Any:
        raise NotImplementedError

    def result(self, handle: Any, timeout: float = 120) -> Any:
        return handle.result(timeout)

    def map(self, function: Function, values: Sequence[Any]) -> list[Any]:
        """The results, by the system's own bulk call."""
        raise NotImplementedError

    def stop(self) -> None:
        """End what was started, if anything was."""
        raise NotImplementedError

    # what only a broker has

    def add_workers(self, workers: int) -> None:
        raise Unsupported("workers start with the first submit")

    def broker_pid(self) -> int:
        raise Unsupported("there is no broker")

    def enqueue(self, function: Function, values: Sequence[Any]) -> list[Any]:
        """Handles of runs that are recorded."""
        raise Unsupported("nothing is recorded")

    def submit_again_if_lost(self, function: Function, *args: Any) -> Any:
        """Submit what runs again on another worker when its worker dies."""
        raise Unsupported("the death of a worker breaks the pool")


class Pool(System):
    """`concurrent.futures.ProcessPoolExecutor`."""

    _pool: Any = None

    def start(self, workers: int) -> None:
        if not workers:
            raise Unsupported("workers start with the first submit")
        self._pool = concurrent.futures.ProcessPoolExecutor(workers)

    def submit(self, function: Function, *args: Any) -> Any:
        return self._pool.submit(function, *args)

    def map(self, function: Function, values: Sequence[Any]) -> list[Any]:
        return list(self._pool.map(function, values))

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class Loky(Pool):
    """`loky`, the pool below joblib."""

    def start(self, workers: int) -> None:
        if not workers:
            raise Unsupported("workers start with the first submit")
        self._pool = importlib.import_module("loky").get_reusable_executor(workers, timeout=300)

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)


class Hop(System):
    """The bare way through a broker in Python: what is sent comes back, and no function is called."""

    def __init__(self) -> None:
        self._ends = ExitStack()
        self._submitted = 0
        self._answers: dict[int, Any] = {}

    def start(self, workers: int) -> None:
        # imported here, or the cold start of every system would pay for it
        self._hop: Any = importlib.import_module("tests.bench.hop")
        if workers != self._hop.WORKERS:
            raise Unsupported(f"the hop has {self._hop.WORKERS} workers")
        self._folder = tempfile.mkdtemp(prefix="nb-hop-", dir="/tmp")  # the processes remove it
        for role in ("router", *["echo"] * workers):
            command = [sys.executable, "-m", "tests.bench.hop", role, self._folder]
            self._ends.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
        zmq: Any = importlib.import_module("zmq")
        self._socket = self._hop.socket(self._ends.enter_context(zmq.Context()), zmq.DEALER)
        self._ends.enter_context(self._socket)
        self._socket.rcvtimeo = 60_000  # ms; a hang limit
        self._socket.connect(self._hop.front(self._folder))
        self.result(self.submit(work.noop))  # they are up

    def submit(self, function: Function, *args: Any) -> int:
        if function is not work.noop:
            raise Unsupported("no function is called, so only noop gives the right result")
        self._submitted += 1
        head = str(self._submitted).encode().rjust(self._hop.HEAD_BYTES)
        # a pickle says itself where it ends
        self._socket.send_multipart([head, pickle.dumps(args).ljust(self._hop.BODY_BYTES)])
        return self._submitted

    def result(self, handle: int, timeout: float = 120) -> Any:
        while handle not in self._answers:
            head, body = self._socket.recv_multipart()
            self._answers[int(head)] = pickle.loads(body)
        return work.noop(*self._answers.pop(handle))

    def map(self, function: Function, values: Sequence[Any]) -> list[Any]:
        """With a window; without one it would measure how sockets cope with long queues."""
        results: list[Any] = []
        waiting: list[int] = []
        for start in range(0, len(values), WINDOW // 2):
            sent = [self.submit(function, value) for value in values[start : start + WINDOW // 2]]
            results += map(self.result, waiting)
            waiting = sent
        return [*results, *map(self.result, waiting)]

    def stop(self) -> None:
        self._ends.close()


class Nbtasks(System):
    """This project, in a home of its own."""

    _client: Any = None

    def start(self, workers: int) -> None:
        self._base = Path(tempfile.mkdtemp(prefix="nb-", dir="/tmp"))
        os.environ.update(variables(self._base))
        self._nbtasks: Any = importlib.import_module("nbtasks")
        self._client = self._nbtasks.connect().open()
        self._tasks: dict[tuple[Function, int], Any] = {}
        if workers:
            self.add_workers(workers)

    def add_workers(self, workers: int) -> None:
        self._client.start_workers(workers)

    def _task(self, function: Function, crash_retries: int = 0) -> Any:
        if (function, crash_retries) not in self._tasks:
            made = self._nbtasks.task(function).with_options(crash_retries=crash_retries)
            self._tasks[function, crash_retries] = made
        return self._tasks[function, crash_retries]

    def submit(self, function: Function, *args: Any) -> Any:
        return self._task(function).delay(*args)

    def submit_again_if_lost(self, function: Function, *args: Any) -> Any:
        return self._task(function, 1).delay(*args)

    def map(self, function: Function, values: Sequence[Any]) -> list[Any]:
        results: list[Any] = self._task(function).map(values, deferred=True).result(300)
        return results

    def enqueue(self, function: Function, values: Sequence[Any]) -> list[Any]:
        return list(self._task(function).map(values, deferred=True))

    def broker_pid(self) -> int:
        return int(self._client.status().broker_pid)

    def kill_broker(self) -> None:
        pid = self.broker_pid()
        os.kill(pid, signal.SIGKILL)
        while self._process_lives(pid):
            time.sleep(0.001)

    def _process_lives(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
        except OSError:
            return False

    def stop(self) -> None:
        if self._client is None:
            return
        with suppress(self._nbtasks.NbtasksError):  # it was killed; what is left ends below
            self._client.stop_broker(drain_s=0)
        self._client.close()
        end_leftovers(self._base)
        shutil.rmtree(self._base, ignore_errors=True)  # 6 GB of arrays


SYSTEMS: dict[str, type[System]] = {"nbtasks": Nbtasks, "pool": Pool, "loky": Loky, "hop": Hop}
