"""The kernel of a worker: a real one, whose main thread serves clients and executes runs by turns.

Its event loop is stopped when a run arrives and started again when none is left, so user code finds a main
thread without a running loop, as in a script, while any Jupyter client may attach in between. All other
threads of the kernel go on during a run: heartbeat, control, iopub, subshells.
"""

from __future__ import annotations

import gc
import sys
import threading
from typing import Any

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from tornado.ioloop import IOLoop
from traitlets import Type
from traitlets.config import Config

from nbtasks.worker.agent import Agent
from nbtasks.worker.capture import ZMQWorkerShell
from nbtasks.worker.executor import Executor

NEXT_RUN_S = 0.005  # so long the main thread waits for another run before it serves clients
CLIENT_S = 0.01  # so long runs wait for clients that said something, at a time


class WorkerKernel(IPythonKernel):  # type: ignore[misc]
    """Tells the app when a client speaks, and the agent when one shuts the kernel down."""

    shell_class = Type(ZMQWorkerShell)

    async def shell_channel_thread_main(self, msg: Any) -> None:
        self.parent.client_spoke.set()
        await super().shell_channel_thread_main(msg)

    def do_shutdown(self, restart: bool) -> dict[str, Any]:
        # in the control thread; the worker ends once its run is over and recorded
        if self.parent.agent is not None:
            self.parent.agent.leave()
        content: dict[str, Any] = super().do_shutdown(restart)
        return content


class WorkerApp(IPKernelApp):  # type: ignore[misc]
    """Made and initialized in the main thread, then given its agent and executor, then started."""

    name = "nbtasks-worker"
    kernel_class = Type(WorkerKernel, klass=IPythonKernel)
    agent: Agent | None = None
    executor: Executor | None = None

    def __init__(self, *, connection_file: str, sockets: str) -> None:
        config = Config()
        # no profile's history (a database per user) and no working directory in sys.path
        config.HistoryManager.enabled = False
        config.WorkerApp.ignore_cwd = True
        super().__init__(config=config, connection_file=connection_file, transport="ipc", ip=sockets)
        self.outstream_class = "nbtasks.worker.capture.RunStream"
        self.displayhook_class = "nbtasks.worker.capture.RunDisplayHook"
        self.capture_fd_output = False  # descriptors 1 and 2 end in the spool
        self.parent_handle = 0  # the death of the pool does not end us
        self.client_spoke = threading.Event()

    def parse_command_line(self, argv: Any = None) -> None:
        """There is none: to build the parser takes as long as to import tornado."""

    def init_kernel(self) -> None:
        """Without a debugger: it is a third of a worker's start, and could not step while a run executes."""
        is_free = "debugpy" not in sys.modules
        if is_free:
            sys.modules["debugpy"] = None  # type: ignore[assignment]  # not to be found
        try:
            super().init_kernel()
        finally:
            if is_free:
                del sys.modules["debugpy"]  # a run may import it

    def init_extensions(self) -> None:
        """Load none: a profile is for notebooks."""

    def init_code(self) -> None:
        """Run no startup files."""

    def start(self) -> None:
        """Serve and execute until the agent says that all is over."""
        assert self.agent is not None
        assert self.executor is not None
        self.kernel.start()
        gc.freeze()  # what is here now stays: to look for cycles in it costs every run a little
        loop = self.io_loop = IOLoop.current()
        self.agent.wake_main = lambda: loop.add_callback(loop.stop)
        self.agent.start()
        while self.agent.exit_status is None:
            loop.start()
            self._execute_all(loop)

    def _execute_all(self, loop: IOLoop) -> None:
        assert self.agent is not None
        assert self.executor is not None
        while push := self.agent.next_push(NEXT_RUN_S):
            self.executor.execute(push)
            if self.client_spoke.is_set():
                self.client_spoke.clear()
                self.executor.rest()
                loop.call_later(CLIENT_S, loop.stop)
                loop.start()
        self.executor.rest()
