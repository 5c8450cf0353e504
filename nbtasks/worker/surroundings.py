"""What a run may change in its process, put back so that the next run finds the worker as it was.

A run also brings surroundings of its own: the submitter's working directory and its paths to modules.
"""

from __future__ import annotations

# signal's own functions make an enum of every answer, which is most of their cost
import _signal  # type: ignore[import-not-found]
import asyncio
import builtins
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any

from nbtasks.core.messages import Spec
from nbtasks.pickling import logs
from nbtasks.pickling.mains import Main
from nbtasks.wire.spool import Spool
from nbtasks.worker import unanswered
from nbtasks.worker.modules import LocalModules

_SIGNALS = tuple(
    int(getattr(signal, name))
    for name in ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2")
)
_STREAMS = ("stdin", "stdout", "stderr", "displayhook", "excepthook", "breakpointhook")


class Surroundings:
    """Remembers the process as it is when this is made; the main thread only.

    Parameters
    ----------
    scratch
        The directory where the worker stays between runs, and where runs stay whose own is not there.
    loop
        The main thread's event loop.
    shell
        The kernel's shell.
    """

    def __init__(self, scratch: Path, spool: Spool, loop: asyncio.AbstractEventLoop, shell: Any) -> None:
        self._scratch = str(scratch)
        self._spool = spool
        self._loop = loop
        # a run that closes "the" event loop, as old recipes do, means one of its own
        loop.close = lambda: None  # type: ignore[method-assign]
        self._path = list(sys.path)
        self._own_paths: tuple[str, ...] = ()  # of the last run that brought any
        self._all_paths: list[str] = []  # sys.path with them
        self._modules = LocalModules()
        # the encoded variables: comparing them costs a tenth
        self._environment = dict(os.environ._data)  # type: ignore[attr-defined]
        self._streams = {name: getattr(sys, name) for name in _STREAMS}
        self._print = builtins.print
        self._main = sys.modules["__main__"]
        self._shell = shell
        self._names = shell.user_ns
        self._lends = False  # names of a run to the shell
        self._handlers = {number: _signal.getsignal(number) for number in _SIGNALS}
        self._recursion_limit = sys.getrecursionlimit()
        os.umask(umask := os.umask(0o077))  # there is no way to ask without setting it
        self._umask = umask
        self._collects = gc.isenabled()

    def enter(self, spec: Spec, arrived_s: float) -> str:
        """Go where the run was submitted; returns a warning if that is not possible.

        Parameters
        ----------
        arrived_s
            When the run came here, mono seconds.
        """
        self._modules.enter(spec.sys_path, arrived_s)
        sys.breakpointhook = unanswered.refuse
        if spec.sys_path:
            if spec.sys_path != self._own_paths:
                self._own_paths = spec.sys_path
                self._all_paths = [*spec.sys_path, *(e for e in self._path if e not in spec.sys_path)]
            sys.path[:] = self._all_paths
        if not spec.cwd:
            self.rest()
            return ""
        try:
            os.chdir(spec.cwd)
        except OSError as error:
            self.rest()
            reason = error.strerror or "not there"
            return f"nbtasks: cannot enter {spec.cwd} ({reason}); the run stays in {self._scratch}\n"
        return ""

    def stand_in(self, main: Main) -> None:
        """Let this be `__main__` for the run."""
        sys.modules["__main__"] = main  # type: ignore[assignment]
        if "get_ipython" in (names := vars(main)):
            # !command $x and %magic in a function of the notebook find its globals, as they do there
            self._lends = True  # first: an interrupt may come in between
            self._shell.user_ns = names

    def restore_output(self) -> None:
        """Put back where output goes, so that all of it is taken in."""
        for name, value in self._streams.items():
            setattr(sys, name, value)
        builtins.print = self._print
        self._spool.redirect()  # that is cheaper than a look where they end

    def restore(self) -> None:
        """Put back everything else that the run changed; what cannot be put back is left."""
        sys.modules["__main__"] = self._main
        if self._lends:
            self._shell.user_ns, self._lends = self._names, False
        self._modules.leave()
        logs.take_back()
        self._restore_interpreter()
        self._restore_signals()
        if os.environ._data != self._environment:  # type: ignore[attr-defined]
            os.environb.clear()
            os.environb.update(self._environment)

    def rest(self) -> None:
        """Leave the directory of the last run."""
        try:
            os.chdir(self._scratch)
        except OSError:
            os.chdir("/")

    def _restore_interpreter(self) -> None:
        sys.path[:] = self._path
        os.umask(self._umask)
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        if self._collects and not gc.isenabled():
            gc.enable()
        # asyncio.run leaves the thread without a loop
        asyncio.set_event_loop(self._loop)

    def _restore_signals(self) -> None:
        _signal.setitimer(_signal.ITIMER_REAL, 0.0)
        for number, handler in self._handlers.items():
            if _signal.getsignal(number) != handler:
                known: Any = signal.SIG_DFL if handler is None else handler
                signal.signal(number, known)
