"""The guards against processes that are left behind, tried on one that is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import fresh, homes

SLEEP = "import time; print('up', flush=True); time.sleep(600)"


@pytest.fixture
def lodger(tmp_path: Path) -> subprocess.Popen[str]:
    """A process whose environment names `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEP],
        env={**os.environ, "NBTASKS_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_a_process_that_is_left_is_named_and_killed(
    lodger: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "LEAVE_S", 0.0)

    left = homes.end_leftovers(tmp_path)

    assert [line.split()[0] for line in left] == [str(lodger.pid)]
    assert lodger.wait() == -signal.SIGKILL
    assert not homes.end_leftovers(tmp_path)


def test_the_newcomers_walk_sees_a_process_that_is_left(
    lodger: subprocess.Popen[str], tmp_path: Path
) -> None:
    seen = list(fresh.processes(str(tmp_path)))
    lodger.kill()
    lodger.wait()

    assert [line.split()[1] for line in seen] == [str(lodger.pid)]
    assert not list(fresh.processes(str(tmp_path)))


def test_a_home_puts_the_environment_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_HOME", "/before")
    monkeypatch.delenv("NBTASKS_RUNTIME_DIR", raising=False)

    with homes.fresh_home() as home:
        inside = os.environ["NBTASKS_HOME"]

    assert inside == str(home)
    assert os.environ["NBTASKS_HOME"] == "/before"
    assert "NBTASKS_RUNTIME_DIR" not in os.environ
    assert not home.parent.exists()
