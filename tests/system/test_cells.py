"""Cells on a worker, from a real kernel: what they see, give, show and raise, and how they end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbtasks
from tests.homes import fresh_home
from tests.system.test_notebook import Notebook

PREAMBLE = """
import math as m
import numpy as np
k = 3
def scaled(x):
    return x * k
class Point:
    def __init__(self, x): self.x = x
    def twice(self): return Point(scaled(self.x))
    def __eq__(self, other): return type(other) is Point and other.x == self.x
"""
# a cell that waits until the notebook lets it go on
GATE = "import tempfile\ngate = tempfile.mkdtemp() + '/open'"
WAIT = "import os, time\nwhile not os.path.exists(gate):\n    time.sleep(0.01)\n"
OPEN = "open(gate, 'w').close()"


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[Notebook, Path]]:
    """A kernel with one worker; every test finds and leaves the names of the preamble."""
    with fresh_home() as home:
        notebook = Notebook()
        with notebook._client.setup_kernel():
            notebook.run("%load_ext nbtasks\n%nbtasks start -w 1")
            notebook.run(PREAMBLE)
            yield notebook, home


@pytest.fixture
def notebook(house: tuple[Notebook, Path]) -> Notebook:
    return house[0]


@pytest.fixture
def home(house: tuple[Notebook, Path]) -> Path:
    return house[1]


def value(notebook: Notebook, source: str) -> str:
    """The text of what a cell gives, on whatever it was put out besides."""
    return notebook.shown(source)["text/plain"]


# -- what a cell sees ---------------------------------------------------------------------------------


@pytest.mark.feature("N2")
def test_a_cell_finds_the_names_of_the_notebook(notebook: Notebook) -> None:
    shown = value(notebook, "%%delay --wait\nscaled(np.arange(3)).tolist(), m.floor(2.5), Point(2).twice().x")

    assert shown == "([0, 3, 6], 2, 6)"


@pytest.mark.feature("N2")
def test_functions_of_the_notebook_see_what_the_cell_assigns(notebook: Notebook) -> None:
    assert value(notebook, "%%delay --wait\nk = 10\nscaled(2), Point(1).twice().x") == "(20, 10)"
    assert value(notebook, "scaled(2)") == "6"


@pytest.mark.feature("N2")
def test_without_waiting_it_gives_a_run_whose_result_is_the_last_expression(notebook: Notebook) -> None:
    shown = value(notebook, "%%delay -n sum --handle handle\nsum(range(k))")

    assert re.fullmatch(r"Run 'sum': \w+|Run 'sum'", shown)
    assert value(notebook, "handle.result(60)") == "3"
    assert value(notebook, "handle.parameters") == "{'k': '3'}"


@pytest.mark.feature("N2")
def test_what_is_changed_after_the_submit_does_not_show(notebook: Notebook) -> None:
    notebook.run("items = [1]")
    notebook.run("%%delay --handle first\nimport time\ntime.sleep(0.2)")
    notebook.run("%%delay --handle second\nitems")
    notebook.run("items.append(2)")

    assert value(notebook, "second.result(60)") == "[1]"


@pytest.mark.feature("N2")
def test_an_instance_of_a_class_of_the_notebook_comes_back_as_one(notebook: Notebook) -> None:
    notebook.run("point = Point(3)")
    notebook.run("%%delay --wait -o there\nthere = point.twice()")

    assert value(notebook, "there == Point(9), isinstance(there, Point)") == "(True, True)"


# -- shell, magics, await -----------------------------------------------------------------------------


@pytest.mark.feature("N2")
def test_commands_and_magics_work_with_the_cells_names(notebook: Notebook) -> None:
    source = """%%delay --wait
word = "cell"
!echo {word} $k
lines = !echo one; echo two
%time total = scaled(2)
get_ipython().user_ns["total"], list(lines)
"""
    outputs = notebook.run(source)

    [text] = [output.text for output in outputs if output.get("name") == "stdout"]
    [shown] = [output.data["text/plain"] for output in outputs if output.output_type == "execute_result"]
    assert text.replace("\r", "").startswith("cell 3\n")  # a command thinks that it writes to a terminal
    assert "Wall time" in text
    assert shown == "(6, ['one', 'two'])"


@pytest.mark.feature("N2")
def test_a_cell_magic_may_be_the_first_line(notebook: Notebook) -> None:
    outputs = notebook.run("%%delay --wait\n%%time\nscaled(5)")

    assert any("Wall time" in output.get("text", "") for output in outputs)
    assert [o.data["text/plain"] for o in outputs if o.output_type == "execute_result"] == ["15"]


@pytest.mark.feature("N2")
def test_top_level_await_and_asyncio_run_work(notebook: Notebook) -> None:
    awaiting = "%%delay --wait\nimport asyncio\ntask = asyncio.create_task(asyncio.sleep(0, 4))\nawait task"
    driving = "%%delay --wait\nimport asyncio\nasyncio.run(asyncio.sleep(0, 5))"

    assert value(notebook, awaiting) == "4"
    assert value(notebook, driving) == "5"


@pytest.mark.feature("N2")
def test_figures_and_displays_come_back(notebook: Notebook) -> None:
    source = """%%delay --wait
%matplotlib inline
import matplotlib.pyplot as plt
from IPython.display import Markdown
display(Markdown("*hello*"))
plt.plot([1, 2]);
"""
    outputs = notebook.run(source)

    kinds = [set(output.data) for output in outputs if "data" in output]
    assert {"text/markdown", "text/plain"} in kinds
    assert {"image/png", "text/plain"} in kinds
    assert not [output for output in outputs if output.output_type == "execute_result"]


@pytest.mark.feature("N2")
def test_a_value_that_cannot_be_shown_says_why_as_in_a_cell_and_the_run_has_it(notebook: Notebook) -> None:
    source = "class Bad:\n    def __repr__(self): raise ValueError('no text')\nBad()"

    waited = notebook.error(f"%%delay --wait --handle odd\n{source}")

    assert "__repr__(self): raise ValueError('no text')" in waited
    assert waited.rstrip().endswith("ValueError: no text")
    assert value(notebook, "odd.state.name, type(odd.result()).__name__, _ is None") == (
        "('Completed', 'Bad', False)"
    )


@pytest.mark.feature("N2")
def test_what_a_pager_would_show_is_output(notebook: Notebook) -> None:
    outputs = notebook.run("%%delay --wait\nk?\n%prun scaled(1)")

    [asked, profiled] = [output.data["text/plain"] for output in outputs if "data" in output]
    assert re.search("Type:.* int", asked)
    assert "function calls" in profiled


@pytest.mark.feature("N2")
@pytest.mark.parametrize(
    "body", ["input('? ')", "%debug", "breakpoint()", "import getpass; getpass.getpass()"]
)
def test_what_would_ask_somebody_is_refused(notebook: Notebook, body: str) -> None:
    assert "RuntimeError: nobody can answer in a run" in notebook.error(f"%%delay --wait\n{body}")


@pytest.mark.feature("N2")
def test_the_shell_of_the_worker_is_as_before_for_the_next_cell(notebook: Notebook) -> None:
    notebook.error("%%delay --wait\nleft = 1\nget_ipython().user_ns['left'] / 0")

    assert value(notebook, "%%delay --wait\n'left' in globals(), 'left' in get_ipython().user_ns") == (
        "(False, False)"
    )


@pytest.mark.feature("N2")
def test_classes_of_the_cell_pickle_as_in_a_kernel(notebook: Notebook) -> None:
    source = "%%delay --wait\nimport pickle\nclass Box: pass\ntype(pickle.loads(pickle.dumps(Box()))) is Box"

    assert value(notebook, source) == "True"


# -- errors -------------------------------------------------------------------------------------------


@pytest.mark.feature("N2")
def test_an_error_shows_the_lines_of_the_cell_and_of_the_notebooks_functions(notebook: Notebook) -> None:
    notebook.run("def divided(x):\n    return x / 0  # in the notebook")
    waited = notebook.error("%%delay --wait\nx = 1\ndivided(x)  # in the cell")
    notebook.run("%%delay --handle failing\ndivided(k)  # another cell")
    later = notebook.error("failing.result(60)")

    for text in (waited, later):
        assert "ZeroDivisionError: division by zero" in text
        assert "return x / 0  # in the notebook" in text
    assert "divided(x)  # in the cell" in waited
    assert "nbtasks/" not in waited.partition("ZeroDivisionError")[2]
    assert "divided(k)  # another cell" in later


@pytest.mark.feature("N2")
def test_a_syntax_error_shows_the_line_of_the_cell_alone(notebook: Notebook) -> None:
    text = notebook.error("%%delay\nx = 1\ny = = 2")

    shown = text.rpartition("------------------")[2]
    assert re.match(r"\s*Cell In\[\d+\], line 3\s+y = = 2\s+\^\s+SyntaxError: invalid syntax\s", shown)


@pytest.mark.feature("N2")
def test_a_last_value_that_cannot_travel_fails_nothing(notebook: Notebook) -> None:
    outputs = notebook.run("%%delay --wait --handle odd -o x\nx = 1\n(i for i in range(3))")

    assert any("the result is None" in output.get("text", "") for output in outputs)
    assert value(notebook, "odd.result(), odd.state.name, x") == "(None, 'Completed', 1)"


@pytest.mark.feature("N2")
def test_a_name_that_cannot_come_back_is_named(notebook: Notebook) -> None:
    text = notebook.error("%%delay --wait -o lock\nimport threading\nlock = {'it': threading.Lock()}")

    assert "NotPicklable: the name 'lock' cannot be pickled, because ['it'] is a" in text


@pytest.mark.feature("N2")
def test_a_refused_cell_makes_no_run(notebook: Notebook, home: Path) -> None:
    notebook.run("import threading\nguard = threading.Lock()")
    with nbtasks.connect(home) as client:
        before = len(client.runs())
        notebook.error("%%delay\nguard")
        notebook.error("%%delay\nnowhere")
        notebook.run("%%delay --dry-run\nk")

        assert len(client.runs()) == before


# -- how it ends --------------------------------------------------------------------------------------


@pytest.mark.feature("N2")
def test_time_outs_retries_and_exits_are_those_of_tasks(notebook: Notebook, tmp_path: Path) -> None:
    slow = notebook.error("%%delay --wait --timeout 0.3\nimport time\ntime.sleep(60)")
    notebook.run(f"path = {str(tmp_path / 'attempts')!r}")
    source = """%%delay --wait --retries 2
with open(path, "a") as file:
    file.write("x")
if len(open(path).read()) < 3:
    raise ValueError
len(open(path).read())
"""
    tried = value(notebook, source)
    left = notebook.error("%%delay --wait\nimport sys\nsys.exit(3)")
    by_exit = notebook.error("%%delay --wait\nexit()\nprint('goes', 'on')")
    by_quit = notebook.error("%%delay --wait\nquit(3)")

    assert "TimedOut: run 'cell'" in slow
    assert "jupyter/cells.py" not in slow
    assert tried == "3"
    assert "CrashedRun" in left
    assert "CrashedRun" in by_exit
    assert "goes on" not in by_exit
    assert "CrashedRun" in by_quit


@pytest.mark.feature("N2")
@pytest.mark.parametrize("body", ["import time\ntime.sleep(60)", "!sleep 60", "x = !sleep 60"])
def test_a_cancelled_cell_ends_at_once_also_within_a_command(notebook: Notebook, body: str) -> None:
    notebook.run(f"%%delay --handle handle\nprint('began', flush=True)\n{body}")
    notebook.run("import time\nwhile 'began' not in handle.logs:\n    time.sleep(0.01)")

    notebook.run("handle.cancel()")

    assert value(notebook, "handle.wait(60).name") == "'Cancelled'"


@pytest.mark.feature("N2")
def test_a_run_of_a_cell_is_run_again_there_or_here(notebook: Notebook) -> None:
    notebook.run("base = 5")
    notebook.run("%%delay --handle handle\nlocal = scaled(base)\nlocal + 1")
    notebook.run("base = 100")

    assert value(notebook, "handle.rerun().result(60), handle.rerun(here=True)") == "(16, 16)"
    assert value(notebook, "'local' in globals()") == "False"


@pytest.mark.feature("N2")
def test_here_without_a_shell_is_a_clear_error(notebook: Notebook, home: Path) -> None:
    notebook.run("%%delay --wait --handle handle\n1")
    run_id = eval(value(notebook, "str(handle.id)"))

    with nbtasks.connect(home) as client, pytest.raises(RuntimeError, match=r"%load_ext nbtasks"):
        client.get_run(run_id).rerun(here=True)


# -- names that come back -----------------------------------------------------------------------------


@pytest.mark.feature("N3")
def test_names_are_assigned_before_the_next_cell_after_the_end(notebook: Notebook) -> None:
    notebook.run("%%delay -o back, again --handle handle\nback = [1]\nagain = back")
    notebook.run("handle.wait(60)")

    assert value(notebook, "back, again is back") == "([1], True)"


@pytest.mark.feature("N3")
def test_a_name_that_the_cell_leaves_unbound_stays_as_it_was_or_fails_it(notebook: Notebook) -> None:
    notebook.run("kept = 1")
    notebook.run("%%delay --wait -o kept\nif k > 100:\n    kept = 2")
    text = notebook.error("%%delay --wait -o missing\nif k > 100:\n    missing = 2")

    assert value(notebook, "kept") == "1"
    assert "NameError: name 'missing' is wanted by -o, but the cell did not bind it" in text


@pytest.mark.feature("N3")
def test_a_name_bound_anew_is_the_users(notebook: Notebook) -> None:
    notebook.run(GATE)
    notebook.run(f"%%delay -o mine --handle handle\n{WAIT}mine = 'theirs'")
    notebook.run(f"mine = 'mine'\n{OPEN}\nhandle.wait(60)")
    outputs = notebook.run("mine")

    assert [o.data["text/plain"] for o in outputs if o.output_type == "execute_result"] == ["'mine'"]
    assert any("mine of run 'cell' not assigned" in output.get("text", "") for output in outputs)


@pytest.mark.feature("N2", "N3")
def test_a_cell_that_needs_a_name_of_a_pending_run_waits_for_it(notebook: Notebook) -> None:
    notebook.run("%nbtasks workers 0..2")
    notebook.run(GATE)
    notebook.run(f"%%delay -n load -o df --handle first\n{WAIT}df = np.arange(4)")
    plan = notebook.text("%%delay --dry-run\ndf + 1")
    notebook.run("%%delay -n use -o total --handle second\ntotal = int(df.sum())")
    waits = value(notebook, "second.state.name")
    notebook.run(f"{OPEN}\nsecond.result(60)")

    assert "from run 'load'" in plan
    assert waits == "'AwaitingDependencies'"
    assert value(notebook, "total, df.tolist()") == "(6, [0, 1, 2, 3])"


@pytest.mark.feature("N2", "N3")
def test_what_a_failed_run_was_to_assign_ends_the_cell_that_needs_it(notebook: Notebook) -> None:
    notebook.run(GATE)
    notebook.run(f"%%delay -n load -o part --handle first\n{WAIT}part = 1 / 0")
    notebook.run("%%delay -n use --handle second\npart + 1")
    notebook.run(OPEN)

    assert value(notebook, "second.wait(60).name") == "'UpstreamFailed'"
    assert "ZeroDivisionError" in notebook.error("first.result(60)")


@pytest.mark.feature("N3")
def test_names_are_collected_by_another_kernel(notebook: Notebook) -> None:
    notebook.run("%%delay -n far -o far_away --handle handle\nfar_away = np.ones(3)")
    notebook.run("handle.wait(60)")
    run_id = eval(value(notebook, "str(handle.id)"))
    other = Notebook()

    with other._client.setup_kernel():
        other.run("%load_ext nbtasks")
        said = other.text(f"%nbtasks collect {run_id}")
        shown = value(other, "far_away.tolist()")

    assert said == "far_away: assigned by run 'far'\n"
    assert shown == "[1.0, 1.0, 1.0]"


@pytest.mark.feature("N1")
def test_attach_shows_runs_here(notebook: Notebook) -> None:
    notebook.run("%%delay -n shown --wait --handle handle\n1")
    run_id = eval(value(notebook, "str(handle.id)"))

    for word in ("handle", run_id, run_id[-8:]):
        [output] = [o for o in notebook.run(f"%nbtasks attach {word}") if o.output_type == "display_data"]
        assert output.data["text/plain"].startswith("Run 'shown'")
        assert run_id in output.data["text/html"]


# -- %%task -------------------------------------------------------------------------------------------


@pytest.mark.feature("N2")
def test_a_task_of_a_cell_runs_with_the_names_as_they_were_or_as_given(notebook: Notebook) -> None:
    notebook.run("depth, data = 2, np.arange(100_000)")
    notebook.run("%%task fit --retries 1\nprint(depth)\nint(data[depth]) + scaled(depth)")
    notebook.run("depth = 50\ndata[:] = 0")

    assert value(notebook, "fit.delay().result(60), fit.delay(depth=4).result(60)") == "(8, 16)"
    assert value(notebook, "fit.map(depth=[1, 2], deferred=True).result(60)") == "[4, 8]"
    assert value(notebook, "fit.delay(depth=7).parameters['depth']") == "'7'"


@pytest.mark.feature("N2")
def test_a_run_among_what_is_given_is_replaced_by_its_result(notebook: Notebook) -> None:
    notebook.run("n = 1")
    notebook.run("%%task plus_one\nn + 1")

    assert value(notebook, "plus_one.delay(n=plus_one.delay(n=5)).result(60)") == "7"


# -- elsewhere ----------------------------------------------------------------------------------------


@pytest.mark.feature("N2")
def test_a_terminal_offloads_cells_as_well(house: tuple[Notebook, Path], tmp_path: Path) -> None:
    import subprocess
    import sys

    script = """
from IPython.terminal.interactiveshell import TerminalInteractiveShell
shell = TerminalInteractiveShell.instance()
for source in (
    "%load_ext nbtasks",
    "k = 4",
    "%%delay --wait -o y\\nprint('there')\\ny = k + 1",
    "print('y is', y)",
):
    shell.run_cell(source).raise_error()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=90)

    assert "there\ny is 5\n" in done.stdout, done.stdout + done.stderr


@pytest.mark.feature("N3")
def test_a_cancelled_cell_assigns_nothing_and_says_so(notebook: Notebook) -> None:
    notebook.run("%%delay -o never --handle handle\nimport time\ntime.sleep(60)\nnever = 1")
    notebook.run("handle.cancel(); handle.wait(60)")
    outputs = notebook.run("1")

    assert any("never not assigned: run 'cell' is Cancelled" in o.get("text", "") for o in outputs)
