"""IPython in a terminal, by a pseudo-terminal: the bar of a wait, and Ctrl-C during it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

import nbtasks
from tests.system import tasks
from tests.system.waiting import HANG_S, until

SHARES_WORKERS = True


@pytest.fixture
def terminal(workers: Any, tmp_path: Path) -> Iterator[Any]:
    """IPython that loaded the extension; `hold` ends when the file `release` is there."""
    words = ["-m", "IPython", "--simple-prompt", "--colors=NoColor", "--no-banner", "--no-confirm-exit"]
    spawned = pexpect.spawn(sys.executable, words, encoding="utf-8", timeout=HANG_S, dimensions=(50, 200))
    try:
        spawned.expect(r"In \[1\]")
        noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
        for line in (
            "%load_ext nbtasks",
            "from nbtasks import task; from tests.system import tasks",
            f"noted, release, hold = {noted!r}, {release!r}, task(tasks.hold)",
            "runs = hold.map([noted] * 2, [release, release + '2'], deferred=True); print('sent', len(runs))",
        ):
            spawned.sendline(line)
        spawned.expect("sent 2")
        until(lambda: len(tasks.lines(noted)) == 2, "both runs execute")
        yield spawned
    finally:
        spawned.close(force=True)


def test_a_wait_for_many_runs_shows_a_bar_and_takes_it_away(terminal: Any, tmp_path: Path) -> None:
    terminal.sendline("print('they gave', runs.result())")
    terminal.expect("0 of 2 runs")
    (tmp_path / "release").touch()
    terminal.expect("█████░+ 1 of 2 runs")
    (tmp_path / "release2").touch()
    terminal.expect(r"they gave \['', ''\]")

    assert re.search("\r\x1b\\[K$", terminal.before)


@pytest.mark.feature("N7")
def test_ctrl_c_detaches_at_the_prompt_as_well(terminal: Any, tmp_path: Path) -> None:
    terminal.sendline("runs.result()")
    terminal.expect("0 of 2 runs")
    terminal.sendintr()
    terminal.expect("Detaching in 2 s; Ctrl-C again cancels the 2 runs")
    terminal.expect("Detached: 2 runs go on")

    states = {run.state.name for run in nbtasks.runs(task="hold", limit=2)}
    for name in ("release", "release2"):
        (tmp_path / name).touch()

    assert states == {"Running"}
