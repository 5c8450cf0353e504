"""`make fresh`: clones HEAD into an empty folder and does there, in an empty HOME, what a newcomer does.

`make demo` and `make test`, twice each; after each nothing may be left: no process whose environment
or command line names that HOME, no socket of ours, no runtime directory. Needs the standard library
only, because it runs before there is any environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
STEPS = ("demo", "demo", "test", "test")
CALLER = ("NBTASKS_", "PYTHON", "VIRTUAL_ENV", "JUPYTER", "JPY_", "IPYTHON", "XDG_", "MAKE", "MFLAGS")
LEAVE_S = 15.0  # for what is on its way out when a command returns
LOOK_S = 0.2


def main() -> int:
    # /tmp, because the path of a socket has at most 107 bytes
    base = Path(tempfile.mkdtemp(prefix="nbf-", dir="/tmp"))
    runtimes_before = set(runtimes())
    try:
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(base / "clone")], check=True)
        for folder in ("home", "tmp"):
            (base / folder).mkdir()
        for step in STEPS:
            print(f"== make {step}", flush=True)
            began_s = time.monotonic()
            status = subprocess.run(["make", step], cwd=base / "clone", env=environment(base)).returncode
            print(f"== make {step}: exit {status} after {time.monotonic() - began_s:.0f} s", flush=True)
            left = wait_for_nothing(base, runtimes_before)
            for line in left:
                print(f"left behind: {line}", flush=True)
            if status or left:
                return 1
        print("== fresh: passed")
        return 0
    finally:
        shutil.rmtree(base, ignore_errors=True)


def environment(base: Path) -> dict[str, str]:
    """The caller's environment without what a newcomer does not have, and with an empty HOME."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CALLER)}
    return {**kept, "HOME": str(base / "home"), "TMPDIR": str(base / "tmp")}


def wait_for_nothing(base: Path, runtimes_before: set[str]) -> list[str]:
    """What is still there after `LEAVE_S`."""
    ends_at = time.monotonic() + LEAVE_S
    while True:
        left = [*processes(str(base)), *sockets(str(base)), *new_runtimes(base, runtimes_before)]
        if not left or time.monotonic() > ends_at:
            return left
        time.sleep(LOOK_S)


def processes(text: str) -> Iterator[str]:
    """Processes whose environment or command line holds `text`."""
    if not Path("/proc").is_dir():
        # macOS: ps shows the environment of our own processes
        lines = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
        yield from (f"process {line.strip()[:200]}" for line in lines.splitlines() if text in line)
        return
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if text.encode() in command + b"\0" + (folder / "environ").read_bytes():
                yield f"process {folder.name} {command.replace(bytes(1), b' ').decode(errors='replace')}"
        except OSError:
            continue  # it ended, or is not ours


def sockets(text: str) -> Iterator[str]:
    """Bound UNIX sockets whose path holds `text`."""
    table = Path("/proc/net/unix")
    lines = table.read_text().splitlines() if table.exists() else []
    yield from (f"socket {line.split()[-1]}" for line in lines if text in line)


def runtimes() -> Iterator[str]:
    """Runtime directories of brokers, where a HOME without XDG_RUNTIME_DIR has them."""
    yield from map(str, Path(f"/tmp/nbtasks-{os.getuid()}").glob("*"))


def new_runtimes(base: Path, before: set[str]) -> Iterator[str]:
    """Runtime directories that came up since, unless they are of a home of somebody else."""
    for name in set(runtimes()) - before:
        try:
            words = (Path(name) / "connection.json").read_text()
        except OSError:
            words = str(base)  # it says no home, so it may well be ours
        if str(base) in words:
            yield f"runtime directory {name}"
    yield from (f"runtime directory {path.parent}" for path in base.glob("tmp/**/connection.json"))


if __name__ == "__main__":
    sys.exit(main())
