"""Starting pools: detached ones for notebooks and clients, one in the foreground for `serve` in a script."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from nbtasks.context import Served
from nbtasks.errors import BrokerUnavailable, NbtasksError
from nbtasks.wire import ids
from nbtasks.wire.cores import cores
from nbtasks.wire.kind import Kind
from nbtasks.wire.private import private_dir, write_private
from nbtasks.wire.process import (
    ProcessWatch,
    born,
    child_environment,
    launch_detached,
    owner_pid,
    python_command,
)

ORDINARY = Kind()
HELLO_S = 30.0  # for a pool to appear at the broker
LOOK_S = 0.02  # between two looks whether it did
STALE_S = 3600.0  # code files of pools that are gone are deleted after this
SERVE_LIMIT = 10  # workers of a serving pool, if nobody says and there are as many CPUs


class Owner(Protocol):
    """What a pool needs of its client."""

    @property
    def home(self) -> Path: ...

    @property
    def drain_s(self) -> float:
        """For running code, if nobody says."""

    def resize(self, pool: str, least: int, most: int, drain_s: float) -> None:
        """Change the bounds of a pool; `most` = 0 ends it."""

    def has_pool(self, name: str = "") -> bool:
        """Whether the broker knows this pool; "": the home's own."""


class Pool:
    """A pool of workers that this client started; it goes on when the client is gone."""

    def __init__(self, owner: Owner, name: str, pid: int) -> None:
        self._owner = owner
        self._born = born(pid) or 0.0
        self.name = name
        self.pid = pid

    def __repr__(self) -> str:
        return f"Pool(pid={self.pid})"

    def scale(self, workers: int) -> None:
        """Have this many workers; those that are too many end when they are done.

        Raises
        ------
        NbtasksError
            The pool is gone.
        """
        if workers < 0:
            raise ValueError(f"a number of workers is not negative, not {workers}")
        self._owner.resize(self.name, workers, workers, self._owner.drain_s)

    def stop(self, drain: bool = True, timeout: float | None = None) -> None:
        """End the pool: once what runs has ended, or at once; returns when its process is gone.

        Parameters
        ----------
        drain
            False: running code is interrupted by a kill.
        timeout
            Seconds for running code; else the setting `drain_s`, 30.
        """
        drain_s = (self._owner.drain_s if timeout is None else timeout) if drain else 0.0
        watch = ProcessWatch(self.pid, self._born)
        try:
            if watch.is_dead():
                return
            try:
                self._owner.resize(self.name, 0, 0, drain_s)
            except BrokerUnavailable:
                raise
            except NbtasksError:
                pass  # the broker does not know it any more: it is about to end
            ends_s = time.monotonic() + drain_s + 15.0
            while not watch.is_dead() and time.monotonic() < ends_s:
                time.sleep(LOOK_S)
        finally:
            watch.close()


def start(
    owner: Owner,
    least: int,
    most: int,
    served: Sequence[Served] | None,
    generic: bool,
    paths: Iterable[str],
    kind: Kind = ORDINARY,
) -> Pool:
    """Start a detached pool; returns when the broker knows it."""
    name = ids.peer_id("p")
    pool_owner = owner_pid()
    options = ["--owner", str(pool_owner)] if pool_owner is not None else []
    options += _kind_options(owner.home, name, kind)
    if generic:
        options.append("--generic")
    log_path = owner.home / "logs" / f"pool-{name}.log"
    pid = launch_detached(
        _command(owner.home, name, least, most, served, options),
        log_path,
        env=_environment(owner.home, served, paths),
        cwd=owner.home,
    )
    pool = Pool(owner, name, pid)
    ends_s = time.monotonic() + HELLO_S
    while not owner.has_pool(name):
        if born(pid) is None or time.monotonic() > ends_s:
            raise NbtasksError(f"the pool did not start; its log ends:\n{_end_of(log_path)}")
        time.sleep(LOOK_S)
    return pool


def set_generic(owner: Owner, least: int, most: int, kind: Kind = ORDINARY) -> None:
    """Let the home's own pool have between `least` and `most` workers; see `Client.set_generic_pool`."""
    if not 0 <= least <= most:
        raise ValueError(f"{least}..{most} is not a range of workers")
    if owner.has_pool():
        if kind != ORDINARY:
            raise NbtasksError(
                "this home's pool runs already, and what its workers are like cannot be changed: stop it by "
                "`%nbtasks workers 0`, then start it anew, or start another pool by client.start_workers(...)"
            )
        try:
            owner.resize("", least, most, owner.drain_s)
            return
        except BrokerUnavailable:
            raise
        except NbtasksError:
            pass  # it just ends
    if most:
        start(owner, least, most, None, generic=True, paths=(), kind=kind)


def run(owner: Owner, most: int, served: Sequence[Served], paths: Iterable[str]) -> int:
    """Run a pool in the foreground until it ends; signals go to it. Returns its exit status."""
    name = ids.peer_id("p")
    # the pool ends with this process, however that ends
    options = ["--owner", str(os.getpid()), "--stays"]
    process = subprocess.Popen(
        _command(owner.home, name, min(1, most), most, served, options),
        stdin=subprocess.DEVNULL,
        env=_environment(owner.home, served, paths),
        # in a group of its own, so that Ctrl-C reaches it once: through us
        start_new_session=True,
    )
    try:
        with _Forwarded(process):
            return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
        shutil.rmtree(_folder(owner.home, name), ignore_errors=True)


def foreground(
    home: Path,
    least: int,
    most: int,
    served: Sequence[Served] | None,
    paths: Iterable[str],
    options: Sequence[str],
    kind: Kind = ORDINARY,
) -> tuple[list[str], Mapping[str, str]]:
    """Command and environment of a pool that is to take the place of this process."""
    name = ids.peer_id("p")
    command = _command(home, name, least, most, served, [*options, *_kind_options(home, name, kind)])
    return command, _environment(home, served, paths)


class _Forwarded:
    """Within this block SIGINT, SIGTERM and SIGHUP of this process go to that one; the main thread only."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # by nohup
                    self._before[number] = signal.signal(number, self._forward)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        self._process.send_signal(number)

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _command(
    home: Path, name: str, least: int, most: int, served: Sequence[Served] | None, options: Sequence[str]
) -> list[str]:
    words = ["--home", str(home), "--name", name, "--least", str(least), "--most", str(most), *options]
    if served is not None:
        words += ["--serves", str(_write_served(home, name, served))]
    return python_command("nbtasks.pool", *words)


def _write_served(home: Path, name: str, served: Sequence[Served]) -> Path:
    """Write code and list of the tasks that a pool serves; returns the list."""
    _sweep(home)
    private_dir(home / "served")
    folder = private_dir(_folder(home, name))
    rows = []
    for number, task in enumerate(served):
        code = folder / f"{number}.code"
        write_private(code, task.code)
        rows.append({"key": task.key, "name": task.name, "code": str(code)})
    listing = folder / "served.json"
    write_private(listing, json.dumps(rows).encode())
    return listing


def _kind_options(home: Path, name: str, kind: Kind) -> list[str]:
    """Write what the workers of a pool are like, if there is anything to say."""
    if kind == ORDINARY:
        return []
    private_dir(home / "served")
    path = private_dir(_folder(home, name)) / "kind.json"
    kind.write(path)
    return ["--kind", str(path)]


def kind_of(
    env: Mapping[str, str] | None = None,
    kernel: str | None = None,
    gpu: bool = False,
    tags: Iterable[str] = (),
    max_runs_per_worker: int | None = None,
) -> Kind:
    """What workers are to be like, checked; see `Client.start_workers`."""
    if isinstance(tags, str):
        raise TypeError(f"tags is a collection of strings, not {tags!r}")
    env, tags, runs_max = dict(env or {}), tuple(dict.fromkeys(tags)), max_runs_per_worker
    for word in (*env, *env.values(), *tags, kernel or ""):
        if not isinstance(word, str) or "\0" in word:
            raise TypeError(f"variables, tags and the name of a kernel are strings, not {word!r}")
    if bad := next((name for name in env if not name or "=" in name), None):
        raise ValueError(f"{bad!r} is not the name of a variable")
    if runs_max is not None and (isinstance(runs_max, bool) or not isinstance(runs_max, int) or runs_max < 1):
        raise ValueError(f"max_runs_per_worker is a number from 1 on, not {runs_max!r}")
    return Kind(env, kernel or "", bool(gpu), tags, runs_max or 0)


def _folder(home: Path, name: str) -> Path:
    return home / "served" / name


def _sweep(home: Path) -> None:
    """Delete code files of pools that have been gone for long."""
    running = {word for words in _command_lines() for word in words}
    for folder in (home / "served").glob("p-*"):
        files = {str(folder / "served.json"), str(folder / "kind.json")}
        if not files & running and time.time() - folder.stat().st_mtime > STALE_S:
            shutil.rmtree(folder, ignore_errors=True)


def _command_lines() -> Iterable[list[str]]:
    import psutil

    for process in psutil.process_iter():
        try:
            yield process.cmdline()
        except psutil.Error:
            continue


def _environment(home: Path, served: Sequence[Served] | None, paths: Iterable[str]) -> Mapping[str, str]:
    """For a serving pool with our paths to modules: its functions are ours, not those of submitters."""
    environment = child_environment(home)
    if served is not None:
        entries = [*paths, *environment.get("PYTHONPATH", "").split(os.pathsep)]
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, entries)))
    return environment


def _end_of(log_path: Path, lines_max: int = 12) -> str:
    try:
        return "\n".join(log_path.read_text("utf-8", "replace").splitlines()[-lines_max:])
    except OSError:
        return f"(see {log_path})"


def is_notebook() -> bool:
    """Whether this process is a kernel, which must stay free."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def serve_limit() -> int:
    """How many runs at a time a serving pool executes, if nobody says."""
    return min(SERVE_LIMIT, cores())
