"""nbtasks for the harness that measures its peers; the one file that imports from outside of the project."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from peers._base import Peer as Base


class Peer(Base):  # type: ignore[misc]
    dist = "nbtasks"
    workers_survive = True  # workers outlive a killed broker and find its successor

    def start(self, workers: int) -> None:
        os.environ["NBTASKS_HOME"] = os.path.join(self.scratch, "h")
        os.environ["NBTASKS_RUNTIME_DIR"] = os.path.join("/tmp", f"nb-{os.getpid()}")
        os.environ["NBTASKS_OWNER_PID"] = str(os.getpid())
        import nbtasks

        self._nbtasks = nbtasks
        self._tasks: dict[str, Any] = {}
        self._client = nbtasks.connect().open()
        if workers:
            self.add_workers(workers)

    def _task(self, name: str) -> Any:
        if name not in self._tasks:
            # a task that holds its worker is to run again if the worker dies
            self._tasks[name] = self._nbtasks.task(self.function(name), crash_retries=int(name == "hold"))
        return self._tasks[name]

    def submit(self, name: str, *args: Any) -> Any:
        return self._task(name).delay(*args)

    def result(self, handle: Any, timeout: float = 60) -> Any:
        return handle.result(timeout)

    def map(self, name: str, values: Any) -> Any:
        return self._task(name).map(values, deferred=True)

    def results(self, handles: Any, timeout: float = 300) -> Any:
        if isinstance(handles, self._nbtasks.RunList):
            return handles.result(timeout)
        return self._nbtasks.RunList(handles).result(timeout)

    def add_workers(self, n: int) -> None:
        self._client.start_workers(n)

    def broker_pids(self) -> list[int]:
        return [self._client.status().broker_pid]

    def kill_broker(self) -> None:
        [self._killed] = self.broker_pids()
        os.kill(self._killed, signal.SIGKILL)

    def restart_broker(self) -> None:
        ends_at = time.monotonic() + 30
        while time.monotonic() < ends_at:
            try:
                if self.broker_pids() != [self._killed]:
                    return
            except self._nbtasks.BrokerUnavailable:
                time.sleep(0.01)

    def stop(self) -> None:
        self._client.stop_broker(drain_s=0)
