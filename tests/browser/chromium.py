"""Which Chromium the browser tests drive: one that is here; `python -m tests.browser.chromium` sees to one.

Needs the standard library only, and installs Debian's package if there is none. Playwright would fetch
a browser of its own; one that the system keeps up to date serves as well, and the machines that run the
tests may have no way to Playwright's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

NAMES = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser", "chrome")
MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
APT = (("apt-get", "update"), ("apt-get", "install", "-y", "chromium"))
START_S = 60.0  # of `--version`, which takes a tenth of a second on a quiet machine


def find() -> str | None:
    """The path of a browser that starts; `CHROME_BIN` names one that goes before all others."""
    return next((path for path in _candidates() if _starts(path)), None)


def _candidates() -> Iterator[str]:
    said = os.environ.get("CHROME_BIN")
    yield from filter(None, map(shutil.which, [said] if said else NAMES))
    if not said and sys.platform == "darwin":
        yield from filter(os.path.exists, MAC)


def _starts(path: str) -> bool:
    """Ubuntu's `chromium-browser` may be a script that only says how to get one."""
    try:
        return not subprocess.run([path, "--version"], capture_output=True, timeout=START_S).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


def install() -> bool:
    """Install Debian's package, as root or by a sudo that asks for nothing; whether that was possible."""
    if not shutil.which("apt-get"):
        return False
    before = () if os.geteuid() == 0 else ("sudo", "-n", "DEBIAN_FRONTEND=noninteractive")
    if before and not shutil.which("sudo"):
        return False
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in APT:
        print(" ".join(command), flush=True)
        done = subprocess.run([*before, *command], env=variables, capture_output=True, text=True)
        if done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            return False
    return True


def command() -> str:
    """What installs a browser here, as a user types it."""
    if sys.platform == "darwin":
        return "brew install --cask google-chrome"
    if shutil.which("apt-get"):
        return "sudo apt-get update && sudo apt-get install -y chromium"
    return "install the package chromium"


def missing() -> str:
    """What to say if there is none."""
    return f"the browser tests need Chromium or Chrome, and none is here: {command()}"


def main() -> int:
    if find() or (install() and find()):
        return 0
    print(missing(), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
