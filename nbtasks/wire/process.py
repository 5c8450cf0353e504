"""Processes: watch one to its end, start one that outlives its starter, start the broker of a home."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nbtasks.errors import BrokerUnavailable
from nbtasks.wire import connection, lock
from nbtasks.wire.alive import born, is_alive
from nbtasks.wire.connection import Connection
from nbtasks.wire.private import private_dir

__all__ = [
    "ProcessWatch", "born", "child_environment", "is_alive", "launch_detached", "owner_pid",
    "python_command", "start_broker",
]  # fmt: skip

WATCH_PAUSE_S = 0.1  # between two looks where there are no pidfds
START_PAUSE_S = 0.005  # between two looks whether a broker is up
LAUNCHES_MAX = 3  # a launched broker may lose against one that just stops
LOG_BYTES_MAX = 10_000_000  # a log file that is larger at a launch is set aside, over the one before

# A bare interpreter is quick to start, forks before it has threads, and has default signals.
_DETACH = """
import os, sys, _signal
child = os.fork()
if child:
    os.write(1, b"%d" % child)
    os._exit(0)
os.setsid()
_signal.pthread_sigmask(_signal.SIG_SETMASK, ())
for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT):
    _signal.signal(number, _signal.SIG_DFL)
os.dup2(2, 1)
os.execv(sys.argv[1], sys.argv[1:])
"""


class ProcessWatch:
    """Tells of the end of one process; its `fileno` becomes readable then."""

    def __init__(self, pid: int, born_s: float) -> None:
        self.pid = pid
        self._born_s = born_s
        self._closed = threading.Event()
        self._descriptor = self._open()

    def _open(self) -> int:
        descriptor = -1
        if sys.platform == "linux":
            try:
                descriptor = os.pidfd_open(self.pid)
            except OSError:
                descriptor = -1  # it is gone, or this kernel has no pidfds
        if descriptor >= 0:
            # checked after opening: the descriptor names one process for ever, its pid does not
            if is_alive(self.pid, self._born_s):
                return descriptor
            os.close(descriptor)
        reading, writing = os.pipe()
        if is_alive(self.pid, self._born_s):
            threading.Thread(
                target=self._look, args=(writing,), name=f"watch-{self.pid}", daemon=True
            ).start()
        else:
            os.close(writing)
        return reading

    def _look(self, writing: int) -> None:
        while is_alive(self.pid, self._born_s):
            if self._closed.wait(WATCH_PAUSE_S):
                break
        os.close(writing)

    def fileno(self) -> int:
        return self._descriptor

    def is_dead(self) -> bool:
        return not is_alive(self.pid, self._born_s)

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            os.close(self._descriptor)


def python_command(module: str, *arguments: str) -> list[str]:
    """The command line of `python -m module` in this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def child_environment(home: str | Path) -> dict[str, str]:
    """The environment for a broker or a pool: ours without what ties it to a Jupyter parent or a test."""
    scrubbed = ("JPY_", "PYTEST_", "COV_CORE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(scrubbed)}
    environment["NBTASKS_HOME"] = str(home)
    package = Path(__file__).resolve().parents[2]
    if package.name not in ("site-packages", "dist-packages"):
        # run from a checkout: the child starts in another directory and would not find us
        paths = [str(package), *environment.get("PYTHONPATH", "").split(os.pathsep)]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, paths)))
    return environment


def launch_detached(
    arguments: Sequence[str],
    log_path: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: str | Path = "/",
) -> int:
    """Start a process that outlives this one: not its child, in its own session, without a terminal.

    Parameters
    ----------
    arguments
        The command; its first item is the path of a program.
    log_path
        Where its stdout and stderr are appended.

    Returns
    -------
    Its pid.

    Raises
    ------
    OSError
        It could not be started.
    """
    log_path = Path(log_path)
    private_dir(log_path.parent)
    if log_path.exists() and log_path.stat().st_size > LOG_BYTES_MAX:
        log_path.replace(log_path.with_name(log_path.name + ".1"))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    log = os.open(log_path, flags, 0o600)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _DETACH, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            check=False,
        )
    finally:
        os.close(log)
    if done.returncode or not done.stdout:
        raise OSError(f"{arguments[0]} could not be started; see {log_path}")
    return int(done.stdout)


def owner_pid() -> int | None:
    """The process with which everything that this one starts has to end; None: nothing has to.

    That is `NBTASKS_OWNER_PID`, or, in a kernel that no Jupyter server started, the tool that runs it.
    """
    if text := os.environ.get("NBTASKS_OWNER_PID"):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"NBTASKS_OWNER_PID={text!r} is not the number of a process") from None
    if "JPY_SESSION_NAME" not in os.environ and os.environ.get("JPY_PARENT_PID", "").isdigit():
        return int(os.environ["JPY_PARENT_PID"])
    return None


def start_broker(home: str | Path, timeout_s: float = 10.0) -> Connection:
    """Return the connection to the broker of this home, started if there is none.

    Any number of processes may call this at once: the lock on the home decides which broker stays.

    Raises
    ------
    BrokerUnavailable
        None came up in time; the message holds the last lines of its log.
    """
    home = private_dir(home)
    log_path = home / "logs" / "broker.log"
    log_start = log_path.stat().st_size if log_path.exists() else 0
    deadline = time.monotonic() + timeout_s
    launched: tuple[int, float] | None = None
    launches = 0
    while time.monotonic() < deadline:
        if found := connection.read(home):
            return found
        if lock.owner(home) is None and not (launched and is_alive(*launched)):
            if launches == LAUNCHES_MAX:
                break
            launches += 1
            pid = launch_detached(
                python_command("nbtasks.broker", "--home", str(home), *_owner_arguments()),
                log_path,
                env=child_environment(home),
                cwd=home,
            )
            launched = (pid, born(pid) or 0.0)
        time.sleep(START_PAUSE_S)
    raise BrokerUnavailable(f"no broker came up for {home}{_last_lines(log_path, log_start)}")


def _owner_arguments() -> list[str]:
    owner = owner_pid()
    return [] if owner is None else ["--owner", str(owner)]


def _last_lines(log_path: Path, start: int, lines_max: int = 12) -> str:
    try:
        with open(log_path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - 8192))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()[-lines_max:]
    except OSError:
        lines = []
    lines = list(dict.fromkeys(lines))  # every launch may have said the same
    return "; its log ends:\n" + "\n".join(lines) if lines else f"; see {log_path}"
