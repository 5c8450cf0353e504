"""Notebooks as tools execute them: what they keep can be read, and nothing of them is left behind.

The notebook starts a broker with two workers by magic and does not stop it, as most notebooks will.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.homes import end_leftovers, environment
from tests.system import tasks
from tests.system.waiting import until

TOOL_S = 150
ROOT = str(Path(__file__).parents[2])
CELLS = [
    "%load_ext nbtasks\n%nbtasks start -w 2",
    """
from nbtasks import task

@task
def double(x):
    print(f"doubling {x}")
    return 2 * x

@task
def draw():
    import matplotlib.pyplot as plt
    plt.plot([1, 2, 4])
    plt.show()
""",
    "runs = double.map(range(4), deferred=True)\nruns.result(60)",
    "run = double.delay(21)\nrun.wait(60)\nrun",
    "runs",
    "print(await run)",
    "drawn = draw.delay()\ndrawn.wait(60)\ndrawn.show()",
    "%nbtasks board",
]
RUN, LIST, BOARD = 3, 4, 7  # the cells that display them


@pytest.fixture
def place(home: Path) -> Iterator[Path]:
    """A folder with the notebook; its home's broker ends with whoever executes it, not with us."""
    write_notebook(home.parent, CELLS)
    with environment({"NBTASKS_OWNER_PID": None, "PYTHONPATH": ROOT}):
        yield home.parent


def write_notebook(place: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, place / "in.ipynb")


def command(name: str, *words: str) -> list[str]:
    return [str(Path(sysconfig.get_path("scripts")) / name), *words]


TOOLS = {
    "nbclient": command("jupyter-execute", "in.ipynb", "--output", "out"),
    "papermill": command("papermill", "in.ipynb", "out.ipynb"),
    "nbconvert": command("jupyter-nbconvert", "--execute", "--to", "html", "--output", "out", "in.ipynb"),
    "nbval": [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "in.ipynb"],
}


def nothing_is_left(place: Path) -> None:
    """No process of this home, and no sockets."""
    left = end_leftovers(place)
    assert not left, f"left behind: {left}"
    sockets = list((place / "r").rglob("*"))
    assert not sockets, f"left behind: {sockets}"


def execute(tool: str, place: Path) -> None:
    done = subprocess.run(TOOLS[tool], cwd=place, capture_output=True, text=True, timeout=TOOL_S)
    assert done.returncode == 0, done.stdout + done.stderr
    nothing_is_left(place)


@pytest.mark.feature("N8")
def test_nbval_finishes_and_leaves_nothing_behind(place: Path) -> None:
    execute("nbval", place)


@pytest.mark.feature("N8")
@pytest.mark.parametrize("tool", ["nbclient", "papermill"])
def test_a_tool_keeps_text_and_html_without_widgets_and_leaves_nothing_behind(place: Path, tool: str) -> None:
    execute(tool, place)

    shown = [bundle(cell) for cell in nbformat.read(place / "out.ipynb", as_version=4).cells]

    assert not any("widget" in kind for data in shown for kind in data)
    assert shown[RUN]["text/plain"] == "Run 'double': Completed"
    assert "double(x=21)" in shown[RUN]["text/html"]
    assert shown[LIST]["text/plain"] == "RunList of 4 runs of double"
    assert shown[LIST]["text/html"].count("<tr>") == 5
    assert shown[BOARD]["text/plain"] == "Board of 6 runs: 6 completed"


@pytest.mark.feature("N4", "N8")
def test_the_page_of_nbconvert_shows_results_and_figures_and_nothing_is_left_behind(place: Path) -> None:
    execute("nbconvert", place)

    page = (place / "out.html").read_text()
    words = " ".join(re.sub("<[^>]*>", " ", page).split())

    assert "[0, 2, 4, 6]" in page
    assert "✓ Completed" in words
    assert "double(x=21)" in page
    assert "data:image/png;base64," in page
    assert "vnd.jupyter.widget-view" not in page


@pytest.mark.feature("N8")
@pytest.mark.parametrize("tool", ["nbclient", "nbval"])  # papermill and nbconvert are built on nbclient
def test_a_tool_that_is_killed_leaves_nothing_behind(place: Path, tool: str, tmp_path: Path) -> None:
    noted = str(tmp_path / "noted")
    hold = f"""
from nbtasks import task
from tests.system import tasks
task(tasks.hold).map([{noted!r}] * 3, {str(tmp_path / "never")!r}, deferred=True).result()
"""
    write_notebook(place, [CELLS[0], hold])
    victim = subprocess.Popen(
        TOOLS[tool], cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until(lambda: len(tasks.lines(noted)) == 2, "both workers execute a run")
    finally:
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()

    nothing_is_left(place)


RESTARTS = """
import nbformat
from jupyter_core.utils import run_sync
from nbclient import NotebookClient

BEFORE = [
    "%load_ext nbtasks\\n%nbtasks start -w 2",
    "from nbtasks import task\\nfrom tests.system import tasks",
    "run = task(tasks.hold).delay(NOTED, RELEASE, 'survived')",
    "import os\\nwhile not os.path.exists(NOTED): pass",
    "print(run.id, nbtasks.connect().status().broker_pid)",
]
AFTER = [
    "%load_ext nbtasks\\n%nbtasks start",
    "[run] = nbtasks.runs()\\nopen(RELEASE, 'w').close()\\nassert run.result(60) == 'survived'",
    "print(run.id, nbtasks.connect().status().broker_pid)",
]
NAMES = f"import nbtasks\\nNOTED, RELEASE = {NOTED!r}, {RELEASE!r}"
notebook = nbformat.v4.new_notebook()
client = NotebookClient(notebook, kernel_name="python3", timeout=100)

def printed_last(sources):
    for source in sources:
        cell = nbformat.v4.new_code_cell(source)
        notebook.cells.append(cell)
        client.execute_cell(cell, len(notebook.cells) - 1)
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")

with client.setup_kernel():
    before = printed_last([NAMES, *BEFORE])
    client.kc.stop_channels()
    run_sync(client.km.restart_kernel)(now=True)
    run_sync(client.async_start_new_kernel_client)()
    after = printed_last([NAMES, *AFTER])
print(before == after, before, after)
"""


@pytest.mark.feature("N8")
def test_a_kernel_that_a_tool_restarts_finds_its_runs(place: Path, tmp_path: Path) -> None:
    names = f"NOTED, RELEASE = {str(tmp_path / 'noted')!r}, {str(tmp_path / 'release')!r}\n"

    done = subprocess.run(
        [sys.executable, "-c", names + RESTARTS], cwd=place, capture_output=True, text=True, timeout=TOOL_S
    )

    assert done.stdout.startswith("True "), done.stdout + done.stderr
    nothing_is_left(place)


def bundle(cell: Any) -> dict[str, str]:
    """What a cell displayed as its value."""
    found = [output.data for output in cell.outputs if output.output_type == "execute_result"]
    return dict(found[0]) if found else {}
