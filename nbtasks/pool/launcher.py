"""Worker processes: starting them as kernels, signalling them, and finding out how they ended."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import msgspec

from nbtasks.core.messages import Exited, PeerId
from nbtasks.core.records import Signal
from nbtasks.pool.kinds import DEVICES, Workers
from nbtasks.wire import marker, spool
from nbtasks.wire.private import private_dir, runtime_dir
from nbtasks.wire.process import ProcessWatch, born, child_environment

INLINE_BACKEND = "module://matplotlib_inline.backend_inline"


class WorkerProcess:
    """One worker, from its start to its end.

    A kernel can make its connection file itself, and is only started and signalled here: a KernelManager
    would do no more, and importing it takes as long as all else that a pool does before its first worker.

    Raises
    ------
    OSError
        It could not be started.
    """

    def __init__(
        self,
        name: PeerId,
        pool: PeerId,
        home: Path,
        serves: Path | None,
        environment: dict[str, str],
        kind: Workers,
    ) -> None:
        self.name = name
        self.device = environment.get(DEVICES, "") if kind.devices else ""
        folder = private_dir(_folder(home))
        self._connection_file = folder / f"{name}.json"
        self._sockets = private_dir(runtime_dir(home) / "k") / name  # with -1, -2 … behind
        self._marker = _marker_path(home, name)
        self._spool = folder / f"{name}.spool"
        command = [
            *(*kind.command, "-f", str(self._connection_file), "--sockets", str(self._sockets)),
            *("--home", str(home), "--name", name, "--pool", pool),
            *("--marker", str(self._marker), "--spool", str(self._spool)),
            *(() if serves is None else ("--serves", str(serves))),
            *(word for tag in kind.tags for word in ("--tag", tag)),
            *(("--max-runs", str(kind.runs_max)) if kind.runs_max else ()),
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            # its stderr is ours, until it redirects it and keeps this one for its log lines
            cwd=private_dir(home / "scratch"),
            env=environment,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._watch = ProcessWatch(self.pid, born(self.pid) or 0.0)

    def fileno(self) -> int:
        """Readable once the process ended."""
        return self._watch.fileno()

    @property
    def is_running_code(self) -> bool:
        return any(not held.ended for held in marker.read(self._marker))

    def signal(self, act: Signal) -> bool:
        """Signal the process group; False if it does not execute the attempt that the signal is meant for."""
        if act.run and not marker.is_running(self._marker, act.run, act.attempt):
            return False
        self._signal_group(signal.Signals[act.name])
        return True

    def kill(self) -> None:
        self._signal_group(signal.SIGKILL)

    def reaped(self) -> Exited:
        """How the process, which has ended, ended; what it left is ended or removed, but for its marker."""
        # before it is reaped, because until then no other process group can have this number
        self._signal_group(signal.SIGKILL)
        code = self._process.wait()
        exited = Exited(
            self.name,
            _status(code),
            marker.read(self._marker),
            marker.said(self._marker),
            spool.last_words(self._spool),
        )
        self._watch.close()
        self._connection_file.unlink(missing_ok=True)
        for path in self._sockets.parent.glob(f"{self._sockets.name}-*"):
            path.unlink(missing_ok=True)
        spool.remove(self._spool)
        return exited

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return  # everything in it has ended


def forget(home: Path, worker: PeerId) -> None:
    """The exit of this worker is recorded; until then a broker that starts anew would need its marker."""
    _marker_path(home, worker).unlink(missing_ok=True)


def _folder(home: Path) -> Path:
    return home / "workers"


def _marker_path(home: Path, worker: PeerId) -> Path:
    return _folder(home) / f"{worker}.marker"


def environment(home: Path, owner: int | None) -> dict[str, str]:
    """What workers find in their environment: ours, without the ties to a notebook or a test."""
    variables = child_environment(home)
    variables["MPLBACKEND"] = INLINE_BACKEND
    if owner is not None:
        variables["NBTASKS_OWNER_PID"] = str(owner)
    return variables


def last_text(exited: Exited) -> str:
    """The end of what the process said, as text."""
    outputs = msgspec.json.decode(exited.last_words) if exited.last_words else []
    return "".join(output.get("text", "") for output in outputs)[-2000:].strip()


def _status(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
