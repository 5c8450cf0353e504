"""A notebook in a kernel of its own, driven by nbclient in a thread of its own.

nbclient would handle signals itself, and an interrupt that hit it between two steps could leave a kernel
behind. In another thread none reaches it: the caller waits for what the cells put out, says when to stop,
and the thread ends the kernel in any case. If this process is killed, the kernel ends itself: jupyter_client
tells it whose child it is, and ipykernel looks every second whether that is still so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import nbformat
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from nbtasks.tasks.options import local_paths

TEMPORARY_BYTES_MAX = 80  # so that a socket has less than 103 in a directory of ours below it
LOOK_S = 0.2  # in a thread an interrupt is seen between two looks
SHOWN = ("stream", "display_data", "execute_result", "update_display_data", "clear_output")
PROGRESS, ERROR = "progress", "error"
SKIPPED = "skip-execution"  # nbclient's tag for cells that are left out
_END = "end"

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())
_log.propagate = False  # nbclient raises what it logs, and its warnings would be among the run's output


class Said(NamedTuple):
    """A message of the kernel, or how many of the cells are done."""

    kind: str
    content: Any


class Failure(NamedTuple):
    """Why a cell was the last one."""

    number: int  # of the cell, among those that are executed
    name: str  # of the exception; "": the kernel died
    value: str
    traceback: list[str]


class Session:
    """One execution; what is not about its beginning or end is to be asked after the last of `said`.

    Parameters
    ----------
    notebook
        nbformat 4.
    grace_s
        After an interrupt the kernel is killed in half of it; at its end the worker would be.

    Attributes
    ----------
    failure
        What hindered the last cell.
    error
        What hindered all.
    """

    def __init__(self, notebook: dict[str, Any], grace_s: float) -> None:
        self._node = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
        self._patience_s = grace_s / 2
        self._executed = [cell for cell in self._node.cells if _is_executed(cell)]
        self._number = 0
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._manager: AsyncKernelManager | None = None
        self._cells: asyncio.Task[None] | None = None
        self._stopper: asyncio.Task[None] | None = None
        self._begun: asyncio.Event | None = None
        self._is_ready = self._is_stopping = False
        self._is_over = False
        self.error: BaseException | None = None
        self.failure: Failure | None = None
        self._thread = threading.Thread(target=self._main, name="nbtasks-notebook", daemon=True)

    def start(self) -> None:
        """Begin; whoever is interrupted in here says `stop`, as later."""
        self._thread.start()

    @property
    def total(self) -> int:
        """How many cells are executed."""
        return len(self._executed)

    def copy(self) -> dict[str, Any]:
        """The notebook as far as it was executed."""
        copy: dict[str, Any] = json.loads(json.dumps(self._node))
        return copy

    def said(self) -> Iterator[Said]:
        """All that is put out, until the kernel has ended."""
        while not self._is_over:
            try:
                said = self._said.get(timeout=LOOK_S)
            except queue.Empty:
                if self._thread.ident is None:
                    return  # it was never started
                continue
            if said.kind == _END:
                self._is_over = True
            else:
                yield said

    def stop(self) -> None:
        """Interrupt the cell, execute no other one, and soon kill the kernel; what is said goes on."""
        self._is_stopping = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it is over
                self._loop.call_soon_threadsafe(self._begin_stop)

    # -- the thread ---------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            self.error = error
        finally:
            self._said.put(Said(_END, None))

    async def _all(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)  # of nbclient's tasks when a kernel died
        if self._is_stopping:
            return
        with tempfile.TemporaryDirectory(prefix="nbtasks-", dir=_short()) as directory:
            self._manager = manager = AsyncKernelManager(
                kernel_name=self._kernel_name(),
                connection_file=os.path.join(directory, "kernel.json"),
                transport="ipc",
                ip=os.path.join(directory, "k"),
            )
            client = _Client(self._node, manager, self._said)
            self._begun = client.begun
            self._cells = asyncio.ensure_future(self._execute(client))
            try:
                await self._cells
            finally:
                await self._end(client, manager)

    async def _execute(self, client: _Client) -> None:
        await client.async_start_new_kernel(cwd=os.getcwd(), env=_environment())
        kernel: Any = await client.async_start_new_kernel_client()
        self._is_ready = True
        about = await kernel.kernel_info(reply=True)
        self._node.metadata["language_info"] = about["content"]["language_info"]
        for index, cell in enumerate(self._node.cells):
            if self._is_stopping:
                return
            if not _is_executed(cell):
                continue
            self._said.put(Said(PROGRESS, self._number))
            self._number += 1
            client.begun.clear()
            try:
                await client.async_execute_cell(cell, index)
            except CellExecutionError as error:
                about = client.held or {}
                lines = about.get("traceback") or [error.traceback]
                self.failure = Failure(self._number, error.ename, error.evalue, list(lines))
                break
            except DeadKernelError:
                self.failure = Failure(self._number, "", "the kernel died", [])
                break
            client.tell_held()
        else:
            self._said.put(Said(PROGRESS, self._number))
        client.set_widgets_metadata()

    def _begin_stop(self) -> None:
        self._stopper = asyncio.ensure_future(self._stop())  # kept: a loop forgets its tasks

    async def _stop(self) -> None:
        if self._cells is None or self._manager is None:
            return
        if self._cells.done():
            with suppress(RuntimeError):  # it has ended
                await self._manager.signal_kernel(signal.SIGKILL)
        elif self._is_ready:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._interrupt(self._manager, self._cells), self._patience_s)
        self._cells.cancel()

    async def _interrupt(self, manager: AsyncKernelManager, cells: asyncio.Task[None]) -> None:
        assert self._begun is not None
        await self._begun.wait()  # before, the kernel would ignore it
        await manager.interrupt_kernel()
        await asyncio.wait([cells])

    async def _end(self, client: _Client, manager: AsyncKernelManager) -> None:
        try:
            if not self._is_ready or self._is_stopping:
                await manager.shutdown_kernel(now=True)
            else:
                # politely: it calls what is registered with atexit
                await manager.request_shutdown()
                await manager.finish_shutdown()
                await manager.cleanup_resources()
        finally:
            if client.kc is not None:
                client.kc.stop_channels()

    def _kernel_name(self) -> str:
        wanted = self._node.metadata.get("kernelspec", {}).get("name") or NATIVE_KERNEL_NAME
        if wanted in KernelSpecManager().find_kernel_specs():
            return str(wanted)
        text = f"nbtasks: there is no kernel {wanted!r} here; the notebook runs in {sys.executable}\n"
        self._said.put(Said("stream", {"name": "stderr", "text": text}))
        return str(NATIVE_KERNEL_NAME)


class _Client(NotebookClient):
    """Tells what cells put out as it comes.

    Attributes
    ----------
    held
        An error that may be the cell's last word, which the exception of the run tells; else it is told
        when the cell goes on.
    begun
        Set when the kernel has begun to execute the cell.
    """

    held: dict[str, Any] | None = None

    def __init__(self, node: Any, manager: AsyncKernelManager, said: queue.SimpleQueue[Said]) -> None:
        # timing would make two copies differ in every cell
        super().__init__(node, km=manager, record_timing=False, log=_log)
        self._said = said
        self.begun = asyncio.Event()

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        kind, content = msg["msg_type"], msg["content"]
        if kind == "execute_input":
            self.begun.set()
        if kind in (ERROR, *SHOWN):
            self.tell_held()
        if kind == ERROR:
            self.held = content
        elif kind in SHOWN:
            self._said.put(Said(kind, content))
        return super().process_message(msg, cell, cell_index)

    def tell_held(self) -> None:
        if self.held is not None:
            self._said.put(Said(ERROR, self.held))
            self.held = None


def _is_executed(cell: Any) -> bool:
    tags = cell.metadata.get("tags") or ()
    return bool(cell.cell_type == "code" and cell.source.strip() and SKIPPED not in tags)


def _environment() -> dict[str, str]:
    """The kernel finds the modules that the submitter found."""
    paths = [*local_paths(), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)} if paths else dict(os.environ)


def _short() -> str | None:
    """Where directories have paths short enough for sockets; None: where they usually are."""
    return None if len(os.fsencode(tempfile.gettempdir())) <= TEMPORARY_BYTES_MAX else "/tmp"
