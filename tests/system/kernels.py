"""A notebook's kernel that a test drives cell by cell: it is interrupted, killed and restarted in between."""

from __future__ import annotations

import queue
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client import KernelManager

from tests.system.waiting import HANG_S


class Cell:
    """What a cell that was sent to the kernel has shown so far."""

    def __init__(self, kernel: Kernel, message: str) -> None:
        self._kernel = kernel
        self._message = message
        self.outputs: list[dict[str, Any]] = []
        self._is_idle = False

    def prints(self, text: str) -> Cell:
        """Wait until it has printed this."""
        self._hear(lambda: text in self.text, f"the cell prints {text!r}")
        return self

    def end(self) -> Cell:
        """Wait until the kernel is done with it."""
        self._hear(lambda: self._is_idle, "the cell has ended")
        return self

    @property
    def text(self) -> str:
        """What it wrote to stdout."""
        return "".join(out["text"] for out in self.outputs if out.get("name") == "stdout")

    @property
    def error(self) -> tuple[str, str, str]:
        """Name, value and traceback of the exception that ended it; the traceback without colours."""
        [found] = [out for out in self.outputs if "ename" in out] or [
            {"ename": "", "evalue": "", "traceback": []}
        ]
        traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(found["traceback"]))
        return found["ename"], found["evalue"], traceback

    def _hear(self, condition: Any, what: str) -> None:
        ends_at = time.monotonic() + HANG_S
        while not condition():
            try:
                message = self._kernel.client.get_iopub_msg(timeout=max(0.0, ends_at - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"after {HANG_S:g} s still not: {what}; {self.outputs}") from None
            if message["parent_header"].get("msg_id") != self._message:
                continue
            if message["msg_type"] == "status":
                self._is_idle = message["content"]["execution_state"] == "idle"
            elif message["msg_type"] in ("stream", "error", "execute_result", "display_data"):
                self.outputs.append(message["content"])


class Kernel:
    """One kernel without a Jupyter server, as nbclient starts one."""

    def __init__(self) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.client: Any = None

    def start(self) -> None:
        self.manager.start_kernel(extra_arguments=["--log-level=ERROR"])
        self._connect()

    def restart(self) -> None:
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self._connect()

    def _connect(self) -> None:
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=HANG_S)

    def send(self, code: str) -> Cell:
        """Begin to execute a cell."""
        return Cell(self, self.client.execute(code, store_history=True))

    def run(self, code: str) -> str:
        """Execute a cell that must not fail; returns what it wrote to stdout."""
        cell = self.send(code).end()
        assert not cell.error[0], cell.error[2]
        return cell.text

    def interrupt(self) -> None:
        """What ■ does."""
        self.manager.interrupt_kernel()

    def kill(self) -> None:
        """SIGKILL, and nobody starts it again."""
        self.manager.signal_kernel(signal.SIGKILL)

    def end(self) -> None:
        if self.client is not None:
            self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=True)


@contextmanager
def kernel() -> Iterator[Kernel]:
    """A kernel that is up, and gone at the end."""
    made = Kernel()
    try:
        made.start()
        yield made
    finally:
        made.end()
