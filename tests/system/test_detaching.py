"""■ while a cell waits for runs: the wait is left, or the runs are cancelled; in a real kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from tests.system import tasks
from tests.system.kernels import Cell, Kernel, kernel
from tests.system.waiting import until

SHARES_WORKERS = True
COUNTDOWN = "Detaching in 2 s; ■ again cancels the run\n"
COUNTDOWN_OF_2 = "Detaching in 2 s; ■ again cancels the 2 runs\n"

# Says when the cell waits: whoever pressed ■ earlier would hit what comes before that.
WATCH = """
import signal, threading, time
hold = task(tasks.hold)

def watch():
    def look():
        while getattr(signal.getsignal(signal.SIGINT), "__name__", "") != "_note":
            time.sleep(0.005)
        print("waits")
    threading.Thread(target=look).start()
"""

hold = task(tasks.hold)

WAITS = ["run.result()", "run.wait()", "run.exception()"]
WAITS_OF_MANY = [
    "runs.result()",
    "runs.wait()",
    "nbtasks.wait(runs)",
    "list(nbtasks.as_completed(runs))",
]


@pytest.fixture(scope="module")
def notebook(house: tuple[Any, Any]) -> Iterator[Kernel]:
    """A kernel that loaded the extension, in the home of this module."""
    with kernel() as made:
        made.run(
            "%load_ext nbtasks\nimport nbtasks\nfrom nbtasks import task\nfrom tests.system import tasks"
        )
        made.run(WATCH)
        yield made


@pytest.fixture
def held(notebook: Kernel, workers: Any, tmp_path: Path) -> Any:
    """A folder of this test; its runs end when the file `release` is in it."""
    notebook.run(f"noted, release = {str(tmp_path / 'noted')!r}, {str(tmp_path / 'release')!r}")
    return tmp_path


def begin(notebook: Kernel, held: Path, number: int) -> list[nbtasks.Run]:
    """Start runs in the notebook, and wait until they execute."""
    ids = notebook.run(
        f"runs = nbtasks.RunList(hold.delay(noted, release, f'task{{i}}') for i in range({number}))\n"
        "run = runs[0]\nprint(*(run.id for run in runs))"
    )
    until(lambda: len(tasks.lines(str(held / "noted"))) == number, "the runs execute")
    return [nbtasks.get_run(word) for word in ids.split()]


@pytest.mark.feature("N7")
@pytest.mark.parametrize("code", WAITS)
def test_an_interrupt_detaches_and_the_run_goes_on(notebook: Kernel, held: Path, code: str) -> None:
    [run] = begin(notebook, held, 1)

    cell = interrupted(notebook, code).end()
    state = run.state.name
    (held / "release").touch()

    assert cell.text == f"waits\n{COUNTDOWN}"
    name, value, traceback = cell.error
    assert (name, state) == ("Detached", "Running")
    assert value == f"run 'hold' goes on; wait for it again, or find it by nbtasks.get_run('{run.id}')"
    assert traceback == f"Detached: {value}"
    assert run.result(timeout=60) == "task0"
    assert notebook.run("print(run.result())") == "task0\n"


@pytest.mark.feature("N7")
def test_a_second_interrupt_cancels_the_run(notebook: Kernel, held: Path) -> None:
    [run] = begin(notebook, held, 1)

    cell = interrupted(notebook, "run.result()")
    notebook.interrupt()
    cell.end()

    assert cell.error[:2] == ("CancelledRun", f"run 'hold' ({run.id}) was cancelled")
    assert run.state.name == "Cancelled"


@pytest.mark.feature("N7")
@pytest.mark.parametrize("code", WAITS_OF_MANY)
def test_an_interrupt_leaves_several_runs(notebook: Kernel, held: Path, code: str) -> None:
    runs = begin(notebook, held, 2)

    cell = interrupted(notebook, code, COUNTDOWN_OF_2)
    cell.end()
    (held / "release").touch()

    assert cell.error[0] == "Detached"
    assert cell.error[2] == "Detached: 2 runs go on; wait for them again, or find them by nbtasks.runs()"
    assert [run.result(timeout=60) for run in runs] == ["task0", "task1"]


@pytest.mark.feature("N7")
@pytest.mark.parametrize("code", WAITS_OF_MANY)
def test_a_second_interrupt_cancels_several_runs(notebook: Kernel, held: Path, code: str) -> None:
    runs = begin(notebook, held, 2)

    cell = interrupted(notebook, code, COUNTDOWN_OF_2)
    notebook.interrupt()
    cell.end()

    assert cell.error[:2] == ("CancelledRun", "2 runs were cancelled")
    assert {run.state.name for run in runs} == {"Cancelled"}


@pytest.mark.feature("N7")
def test_a_run_that_ends_during_the_countdown_gives_its_result(notebook: Kernel, held: Path) -> None:
    begin(notebook, held, 1)

    cell = interrupted(notebook, "print(run.result())")
    (held / "release").touch()
    cell.end()

    assert cell.text == f"waits\n{COUNTDOWN}task0\n"
    assert cell.error[0] == ""


def test_the_countdown_goes_on_through_a_loop_that_waits_for_one_run_after_the_other(
    notebook: Kernel, held: Path
) -> None:
    begin(notebook, held, 1)
    notebook.run("ever = hold.delay(noted, release + '2', 'ever')")

    cell = interrupted(notebook, "for each in (run, ever):\n    print(each.result())")
    (held / "release").touch()
    cell.end()

    assert cell.text == f"waits\n{COUNTDOWN}task0\n"
    assert cell.error[0] == "Detached"


@pytest.mark.feature("N7", "N8")
@pytest.mark.parametrize("code", ["await run", "await runs", "async for value in run: pass"])
def test_an_interrupt_of_a_cell_that_awaits_leaves_the_run_at_once(
    notebook: Kernel, held: Path, code: str
) -> None:
    [run] = begin(notebook, held, 1)

    cell = notebook.send(f"print('waits')\n{code}").prints("waits")
    notebook.interrupt()
    cell.end()
    (held / "release").touch()

    assert cell.text == "waits\n"
    assert cell.error[0] == "CancelledError"
    assert run.result(timeout=60) == "task0"


@pytest.mark.feature("N7", "T18")
def test_an_interrupt_of_a_loop_over_what_a_run_yields_is_one_of_a_wait(notebook: Kernel, held: Path) -> None:
    [run] = begin(notebook, held, 1)

    left = interrupted(notebook, "for value in run: pass").end()
    state = run.state.name
    ended = interrupted(notebook, "for value in run: pass")
    notebook.interrupt()
    ended.end()

    assert (left.error[0], state) == ("Detached", "Running")
    assert (
        left.error[1] == f"run 'hold' goes on; wait for it again, or find it by nbtasks.get_run('{run.id}')"
    )
    assert ended.error[:2] == ("CancelledRun", f"run 'hold' ({run.id}) was cancelled")


def test_a_wait_in_a_cell_with_await_is_left_like_any_other(notebook: Kernel, held: Path) -> None:
    [run] = begin(notebook, held, 1)

    cell = interrupted(notebook, "import asyncio\nawait asyncio.sleep(0)\nrun.result()")
    cell.end()
    (held / "release").touch()

    assert cell.error[0] == "Detached"
    assert run.result(timeout=60) == "task0"


def test_without_the_extension_an_interrupt_is_what_it_always_is(notebook: Kernel, held: Path) -> None:
    [run] = begin(notebook, held, 1)
    notebook.run("%unload_ext nbtasks")
    try:
        cell = notebook.send("print('waits')\nrun.result()").prints("waits")
        notebook.interrupt()
        cell.end()
    finally:
        notebook.run("%load_ext nbtasks")
    (held / "release").touch()

    assert (cell.text, cell.error[0]) == ("waits\n", "KeyboardInterrupt")
    assert run.result(timeout=60) == "task0"


def test_in_a_script_ctrl_c_is_a_keyboard_interrupt(workers: Any, tmp_path: Path) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    script = f"""
        from nbtasks import task
        from tests.system import tasks
        task(tasks.hold).delay({noted!r}, {release!r}).result()
    """
    waits = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: tasks.lines(noted), "the run executes")

    os.kill(waits.pid, signal.SIGINT)
    out, err = waits.communicate(timeout=60)
    Path(release).touch()

    assert out == ""
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_a_task_that_waits_is_cancelled_and_detaches_from_nothing(
    workers: Any, client: Any, tmp_path: Path
) -> None:
    noted, release = str(tmp_path / "noted"), str(tmp_path / "release")
    inner = hold.delay(noted, release, "inner")
    until(lambda: tasks.lines(noted), "the inner run executes")

    def outer(run: nbtasks.Run) -> str:
        return str(run.result())

    waits = task(outer).delay(nbtasks.quote(inner))
    until(lambda: waits.state.name == "Running", "the outer run waits")
    waits.cancel()

    assert waits.wait(timeout=60).name == "Cancelled"
    assert "Detaching" not in waits.logs
    Path(release).touch()
    assert inner.result(timeout=60) == "inner"


def interrupted(notebook: Kernel, code: str, says: str = COUNTDOWN) -> Cell:
    """A cell that was interrupted while it waits, and says so."""
    cell = notebook.send(f"watch()\n{code}").prints("waits\n")
    notebook.interrupt()
    return cell.prints(says)
