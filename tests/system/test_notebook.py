"""The magics in a real kernel, driven as nbclient, nbconvert and papermill drive one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import nbtasks
from nbtasks.wire import connection
from tests.homes import end_leftovers, environment

CELL_S = 90
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
TASK = """
from nbtasks import task

@task
def add(a, b):
    print(f"{a} + {b}")
    return a + b
"""


class Notebook:
    """A kernel in which one cell after the other is executed."""

    def __init__(self) -> None:
        self._notebook = nbformat.v4.new_notebook()
        self._client = NotebookClient(
            self._notebook, timeout=CELL_S, kernel_name="python3", extra_arguments=["--log-level=ERROR"]
        )

    def run(self, source: str) -> list[Any]:
        """The outputs of a cell."""
        cell = nbformat.v4.new_code_cell(source)
        self._notebook.cells.append(cell)
        self._client.execute_cell(cell, len(self._notebook.cells) - 1)
        return list(cell.outputs)

    def text(self, source: str) -> str:
        """What a cell wrote to stdout."""
        outputs = self.run(source)
        return "".join(output.text for output in outputs if output.get("name") == "stdout")

    def shown(self, source: str) -> dict[str, str]:
        """What a cell displayed as its value."""
        [data] = [output.data for output in self.run(source) if output.output_type == "execute_result"]
        return dict(data)

    def error(self, source: str) -> str:
        with pytest.raises(CellExecutionError) as caught:
            self.run(source)
        return re.sub(r"\x1b\[[0-9;]*m", "", str(caught.value))


@pytest.fixture
def notebook(home: Path) -> Iterator[Notebook]:
    notebook = Notebook()
    with notebook._client.setup_kernel():
        notebook.run("%load_ext nbtasks")
        yield notebook


def test_a_second_start_says_pid_and_home(notebook: Notebook, home: Path) -> None:
    first = notebook.text("%nbtasks start -w 0")
    second = notebook.text("%nbtasks start -w 0")

    found = connection.read(home)
    assert found is not None
    assert f"broker started: pid {found.pid}, home {home}\n" in first
    assert f"broker already running: pid {found.pid}, home {home}\n" in second


def test_a_pool_is_opened_resized_and_stopped(notebook: Notebook, home: Path) -> None:
    started = notebook.text("%nbtasks start -w 1")
    with nbtasks.connect(home) as client:
        [pool] = client.status().pools
        resized = notebook.text("%nbtasks workers 0..2")
        [resized_pool] = client.status().pools

    assert "pool: 0 to 1 worker, started on demand" in started
    assert (pool.generic, pool.least, pool.most) == (True, 0, 1)
    assert resized == "pool: 0 to 2 workers, started on demand\n"
    assert (resized_pool.pid, resized_pool.least, resized_pool.most) == (pool.pid, 0, 2)


def test_a_start_without_a_number_leaves_the_size_of_the_pool(notebook: Notebook, home: Path) -> None:
    notebook.run("%nbtasks start -w 1")
    notebook.run("%nbtasks start")

    with nbtasks.connect(home) as client:
        assert [pool.most for pool in client.status().pools] == [1]


def test_a_start_refuses_what_the_pool_that_runs_is_not(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 1")

    for option in ("--env A=b", "--kernel nope", "--gpu", "--offer large", "--max-runs 3"):
        text = notebook.error(f"%nbtasks start {option}")
        assert "UsageError: this home's pool runs already, and what its workers are like" in text


@pytest.mark.parametrize("options", ["", "--env A=b"])
def test_a_start_after_the_pool_was_ended_gives_a_new_one(notebook: Notebook, options: str) -> None:
    notebook.run("%nbtasks start -w 1")
    notebook.run(TASK)
    notebook.run("add.delay(1, 2).result(60)")

    started = notebook.text(f"%nbtasks workers 0\n%nbtasks start {options}")

    assert ", started on demand" in started
    assert notebook.shown("add.delay(1, 2).result(60)")["text/plain"] == "3"


def test_a_run_shows_itself_and_its_output_again(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 1")
    notebook.run(TASK)
    notebook.run("run = add.delay(1, 2)\nrun.wait()")

    one, many = notebook.shown("run"), notebook.shown("%nbtasks runs")
    logs = notebook.text("%nbtasks logs run")
    by_expression = notebook.text("%nbtasks logs {run.id}")
    mistyped = notebook.error("%nbtasks runs --state Fialed")

    assert one["text/plain"] == "Run 'add': Completed"
    assert ID.search(one["text/html"])
    assert "add(a=1, b=2)" in one["text/html"]
    assert many["text/plain"] == "1 run: 1 Completed\n✓ Completed  add"
    assert ID.search(many["text/html"])
    assert logs == by_expression == "1 + 2\n"
    assert "UsageError: there is no state 'Fialed', did you mean 'FAILED'?" in mistyped


def test_an_error_comes_back_with_the_line_of_the_cell(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 1")
    notebook.run(TASK)

    text = notebook.error("add.delay(1, 'x').result()")

    assert "TypeError: unsupported operand" in text
    assert "return a + b" in text


PICKLING = """
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

class Net:
    def __init__(self, size):
        self.size = size

def square(x):
    return x * x

@task
def in_a_pool(numbers):
    with multiprocessing.Pool(2) as pool, ProcessPoolExecutor(2) as executor:
        return pool.map(square, numbers), list(executor.map(square, numbers))

@task
def saved(path, model):
    with open(path, "wb") as file:
        pickle.dump(model, file)
    return pickle.loads(pickle.dumps(Net(3))).size
"""


def test_what_a_notebook_defines_can_be_pickled_by_its_tasks(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("%nbtasks start -w 1")
    notebook.run(TASK)
    notebook.run(PICKLING)

    assert notebook.shown("in_a_pool.delay([2, 3]).result()")["text/plain"] == "([4, 9], [4, 9])"
    assert notebook.shown(f"saved.delay({str(tmp_path / 'net')!r}, Net(7)).result()")["text/plain"] == "3"
    loaded = f"pickle.load(open({str(tmp_path / 'net')!r}, 'rb'))"
    assert notebook.shown(f"{loaded}.size, type({loaded}) is Net")["text/plain"] == "(7, True)"


def test_a_cancelled_run_says_so(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 0")
    notebook.run(TASK)
    notebook.run("runs = add.map([1, 2], [3, 4], deferred=True)")

    said = notebook.text("%nbtasks cancel runs")

    assert said == "asked to cancel 2 runs\n"
    assert notebook.shown("{run.wait().name for run in runs}")["text/plain"] == "{'Cancelled'}"
    assert notebook.text("%nbtasks cancel runs") == "asked to cancel 0 runs; 2 had ended already\n"


def test_stop_ends_the_broker_and_the_next_start_has_the_runs(notebook: Notebook, home: Path) -> None:
    notebook.run("%nbtasks start -w 0")
    notebook.run(TASK)
    notebook.run("run = add.delay(1, 2)")

    stopped = notebook.text("%nbtasks stop")
    gone = connection.read(home)
    notebook.run("%nbtasks start -w 1")

    assert stopped == "broker stopped\n"
    assert gone is None
    assert notebook.shown("run.result(60)")["text/plain"] == "3"


def test_wrong_usage_is_one_line(notebook: Notebook) -> None:
    text = notebook.error("%nbtasks dance")

    assert "UsageError" in text
    assert "Traceback" not in text


def test_loading_reloading_and_unloading_in_a_kernel(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 0")
    again = notebook.text("%load_ext nbtasks")
    notebook.run("%reload_ext nbtasks")
    status = notebook.text("%nbtasks status")
    notebook.run("%unload_ext nbtasks")

    assert "already loaded" in again
    assert status.startswith("broker  pid ")
    assert "`%nbtasks` not found" in notebook.error("%nbtasks status")


def test_a_broker_outlives_the_kernel_but_not_the_tool_that_ran_it(home: Path) -> None:
    script = """
import nbformat
from nbclient import NotebookClient
for _ in range(2):
    cell = nbformat.v4.new_code_cell("%load_ext nbtasks\\n%nbtasks start -w 1")
    notebook = nbformat.v4.new_notebook(cells=[cell])
    NotebookClient(notebook, kernel_name="python3").execute()
    print("".join(output.text for output in cell.outputs if output.name == "stdout"))
"""
    with environment({"NBTASKS_OWNER_PID": None}):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=CELL_S)

    pids = re.findall(r"broker (started|already running): pid (\d+)", done.stdout)
    assert [word for word, _ in pids] == ["started", "already running"], done.stderr
    assert pids[0][1] == pids[1][1]
    assert not end_leftovers(home)


def test_a_task_runs_shell_commands_and_magics(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 1\nfrom nbtasks import task\nletters = ['b', 'd']")
    notebook.run(
        "@task\ndef lists(word):\n    lines = !echo a $word\n    !echo {letters[0]} {word}\n"
        "    %env WORD=$word\n"
        "    return list(lines), get_ipython() is not None\n"
        "run = lists.delay('c')"
    )

    assert notebook.text("print(run.result(), run.logs)") == "(['a c'], True) b c\nenv: WORD=c\n\n"


def test_loggers_of_a_notebook_log_in_its_tasks_and_cells(notebook: Notebook) -> None:
    notebook.run(
        "%nbtasks start -w 1\nfrom nbtasks import task\nimport logging\n"
        "logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')\n"
        "log = logging.getLogger('train')\nlog.setLevel(logging.DEBUG)\n"
        "@task\ndef trains():\n    log.debug('one')\n    logging.info('two')\n"
        "@task\ndef logs_nothing():\n    import logging as other\n    other.info('three')"
    )
    notebook.run("%%delay --handle cell\nlogging.getLogger('other').info('four')")

    logs = notebook.text(
        "runs = [trains.delay(), logs_nothing.delay(), cell]\nfor run in runs:\n    run.result(60)\n"
        "print([run.logs for run in runs])"
    )

    assert logs == "['DEBUG one\\nINFO two\\n', '', 'INFO four\\n']\n"
