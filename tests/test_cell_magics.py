"""`%%delay` and `%%task` in a real IPython shell without a broker: what is refused, shown and completed."""

from __future__ import annotations

import inspect
import pickle
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nbtasks.cell import CellTask
from nbtasks.errors import NotPicklable
from tests.shells import fresh_shell

pytestmark = pytest.mark.feature("N2")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[InteractiveShell]:
    with fresh_shell(tmp_path) as shell:
        shell.run_line_magic("load_ext", "nbtasks")
        yield shell


def delay(shell: InteractiveShell, line: str, body: str) -> Any:
    return shell.run_cell_magic("delay", line, body)


def printed(shell: InteractiveShell, line: str, body: str) -> str:
    with capture_output() as captured:
        delay(shell, line, body)
    return str(captured.stdout)


# -- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "body"),
    [
        ("", ""),
        ("", "# nothing but a comment\n"),
        ("--dance", "1"),
        ("-o", "x = 1"),
        ("-o x,,y", "x = y = 1"),
        ("-o 3", "x = 1"),
        ("-o z", "x = 1"),
        ("-i a+b", "1"),
        ("--handle run.x", "1"),
        ("--timeout soon", "1"),
        ("--timeout 0", "1"),
        ("--retries -1", "1"),
        ("stray", "1"),
        ("--handle a,b", "1"),
        ("--handle class", "1"),
        ("-o None", "1"),
        ("-i lambda", "1"),
    ],
)
def test_wrong_usage_is_a_usage_error(shell: InteractiveShell, line: str, body: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        delay(shell, line, body)

    assert not (tmp_path / "broker.lock").exists()


@pytest.mark.parametrize("line", ["", "a b", "3x", "a,b", "None", "class"])
def test_a_task_takes_one_name(shell: InteractiveShell, line: str) -> None:
    with pytest.raises(UsageError):
        shell.run_cell_magic("task", line, "1")


def test_a_name_without_its_option_is_told_what_to_write(shell: InteractiveShell) -> None:
    with pytest.raises(UsageError, match="there is no option 'fit'; write -n fit"):
        delay(shell, "fit", "1")


@pytest.mark.parametrize("name", ["delay", "task"])
def test_the_help_of_a_cell_magic_writes_it_as_one(shell: InteractiveShell, name: str) -> None:
    text = shell.find_cell_magic(name).__doc__ or ""

    assert f"  %%{name} [" in text
    assert f"\n  %{name}" not in text


def test_a_missing_name_is_a_name_error_and_nothing_is_started(
    shell: InteractiveShell, tmp_path: Path
) -> None:
    with pytest.raises(NameError, match="'nope'"):
        delay(shell, "", "nope + 1")

    assert not (tmp_path / "broker.lock").exists()


def test_a_value_that_cannot_travel_is_named_and_nothing_is_started(
    shell: InteractiveShell, tmp_path: Path
) -> None:
    shell.user_ns["guard"] = {"lock": threading.Lock()}

    with pytest.raises(
        NotPicklable, match=r"the name 'guard' cannot be pickled, because \['lock'\].*; make it in the cell"
    ):
        delay(shell, "", "guard")

    assert not (tmp_path / "broker.lock").exists()


def test_what_is_refused_is_shown_in_one_line(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        shell.run_cell("%%delay\nnope")

    assert captured.stdout.strip() == (
        "NameError: name 'nope' is not defined in the notebook, and no run will assign it"
    )


def test_a_syntax_error_tells_the_line_that_the_notebook_shows(shell: InteractiveShell) -> None:
    with pytest.raises(SyntaxError) as caught:
        delay(shell, "", "x = 1\ny = = 2\n")

    assert caught.value.lineno == 3  # the magic's line is the first


@pytest.mark.parametrize("magic", ["%%delay", "%%task fit", "%%delay --dry-run"])
def test_a_syntax_error_is_shown_as_that_of_any_cell(shell: InteractiveShell, magic: str) -> None:
    def shown(cell: str) -> str:
        with capture_output() as captured:
            result = shell.run_cell(cell)
        assert isinstance(result.error_before_exec or result.error_in_exec, SyntaxError)
        return re.sub(r"(Cell )?In *\[\d+\]|<ipython-input-[^>]*>", "CELL", captured.stdout)

    assert shown(f"{magic}\nx = 1\ny = = 2\n") == shown("# no magic\nx = 1\ny = = 2\n")


def test_a_syntax_error_elsewhere_is_shown_as_ever(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        shell.run_cell("def f():\n    compile('y = = 2', 'x.py', 'exec')\nf()")

    assert "most recent call last" in captured.stdout


# -- --dry-run ----------------------------------------------------------------------------------------


def test_a_dry_run_shows_what_would_travel_and_starts_nothing(
    shell: InteractiveShell, tmp_path: Path
) -> None:
    shell.run_cell("import math as m\ndef f(x): return x\n")
    shell.user_ns["a"] = np.zeros(1000)

    text = printed(shell, "--dry-run -o b", "b = f(a) * m.pi")

    head, *rows, last = text.splitlines()
    assert head.startswith("3 names would travel, ")
    assert [row.split() for row in rows] == [
        ["a", "numpy.ndarray", "8.1", "kB", "by", "value"],
        ["f", "function", "<", "1.0", "kB", "by", "value"],
        ["m", "module", "by", "import", "of", "math"],
    ]
    assert last == "assigned when it is done: b"
    assert not (tmp_path / "broker.lock").exists()


def test_a_dry_run_tells_what_cannot_be_known(shell: InteractiveShell) -> None:
    text = printed(shell, "--dry-run", "exec(open('x.py').read())")

    assert "0 names would travel" in text
    assert "not known: " in text


@pytest.mark.parametrize(
    ("body", "doubt"),
    [
        ("exec(open('x.py').read())\nresult", r"exec\(\) may "),
        ("%run x.py\nresult", "%run may "),
        ("%sql result << select 1\nresult", "%sql may "),
        ("get_ipython().user_ns['result'] = 1\nresult", r"get_ipython\(\).user_ns may "),
        ("locals().update(d)\nresult", r"locals\(\) may "),
    ],
)
def test_a_name_that_hidden_code_may_bind_is_told_and_not_refused(
    shell: InteractiveShell, body: str, doubt: str
) -> None:
    shell.user_ns["d"] = {"result": 1}

    with capture_output() as captured:
        delay(shell, "--dry-run", body)

    [line] = captured.stderr.splitlines()
    assert re.match(f"nbtasks: not defined in the notebook: 'result'; {doubt}", line)


def test_a_cell_may_leave_as_every_notebook_may(shell: InteractiveShell) -> None:
    assert "0 names would travel" in printed(shell, "--dry-run", "exit(1) if exit else quit()")


def test_a_future_import_of_an_earlier_cell_holds_for_names_too(shell: InteractiveShell) -> None:
    shell.run_cell("from __future__ import annotations")

    assert "0 names would travel" in printed(shell, "--dry-run", "def f(x: Later): ...")


def test_a_name_of_i_is_refused_though_hidden_code_may_bind_it(shell: InteractiveShell) -> None:
    with pytest.raises(NameError, match="'result'"):
        delay(shell, "-i result", "%run x.py")


def test_the_line_of_the_magic_may_end_in_a_comment(shell: InteractiveShell) -> None:
    text = printed(shell, "--dry-run -o b  # it is -o c otherwise", "b = 1")

    assert text.splitlines()[-1] == "assigned when it is done: b"


# -- in place -----------------------------------------------------------------------------------------


def test_braces_on_the_line_are_left_alone(shell: InteractiveShell) -> None:
    shell.user_ns["x"] = 3

    with pytest.raises(UsageError, match=r"'\{x\}'"):
        delay(shell, "-o {x}", "x")


def test_names_of_a_function_around_are_taken(shell: InteractiveShell) -> None:
    shell.run_cell(
        "def f():\n    local = 1\n    get_ipython().run_cell_magic('delay', '--dry-run', 'local')\n"
    )

    with capture_output() as captured:
        shell.run_cell("f()")

    assert "local  int" in captured.stdout


def test_a_task_of_a_cell_has_the_names_as_they_were(shell: InteractiveShell) -> None:
    shell.run_cell("items, k = [1], 2\ndef f(): return k\n")
    shell.run_cell("%%task job --retries 2\nitems.append(k)\nitems, f()\n")
    shell.run_cell("items.append(9); k = 9")
    job = shell.user_ns["job"]

    assert isinstance(job, CellTask)
    assert (job.name, job.retries) == ("job", 2)
    assert job() == ([1, 2], 2)
    assert job(k=5) == ([1, 5], 5)
    assert job.with_options(retries=0)(items=[]) == ([2], 2)
    assert shell.user_ns["items"] == [1, 9]


def test_a_task_of_a_cell_explains_itself_by_its_names_and_its_source(shell: InteractiveShell) -> None:
    shell.run_cell("import math\nitems, k = [1], 2\ndef f(): return k\n")
    shell.run_cell("%%task job\nmax(items) + f() + math.pi + k\n")
    job = shell.user_ns["job"]

    for task in (job, job.with_options(retries=1), pickle.loads(pickle.dumps(job, 5))):
        assert str(inspect.signature(task)) == "(*, f=..., items=<list of 1>, k=2, math=...)"
        assert inspect.getdoc(task) == "# %%task job\nmax(items) + f() + math.pi + k"
        assert task.description == ""


def test_a_task_takes_only_names_that_its_cell_reads(shell: InteractiveShell) -> None:
    shell.run_cell("k = 2")
    shell.run_cell("%%task job\nk + 1\n")

    with pytest.raises(TypeError, match=r"the cell of job\(\) reads no name 'z'; it reads k"):
        shell.user_ns["job"](z=1)
    with pytest.raises(TypeError, match="keyword arguments"):
        shell.user_ns["job"](1)


def test_a_call_here_leaves_the_shell_as_it_was(shell: InteractiveShell) -> None:
    shell.run_cell("k = 2")
    shell.run_cell("%%task job\nnew = k\nget_ipython().user_ns['new'] / 0\n")
    before = shell.user_ns, shell.user_module, input

    with pytest.raises(ZeroDivisionError):
        shell.user_ns["job"]()

    assert (shell.user_ns, shell.user_module, input) == before
    assert "new" not in shell.user_ns


def test_an_error_here_shows_the_lines_of_the_cell(shell: InteractiveShell) -> None:
    shell.run_cell("%%task job\nzero = 0\n1 / zero  # this line\n")

    with capture_output() as captured:
        shell.run_cell("job()")

    assert "1 / zero  # this line" in re.sub(r"\x1b\[[0-9;]*m", "", captured.stdout)


def test_without_a_shell_that_loaded_nbtasks_a_cell_says_what_it_needs(shell: InteractiveShell) -> None:
    shell.run_cell("%%task job\n1\n")
    shell.run_line_magic("unload_ext", "nbtasks")

    with pytest.raises(RuntimeError, match=r"%load_ext nbtasks"):
        shell.user_ns["job"]()


# -- help and completion ------------------------------------------------------------------------------


@pytest.mark.parametrize("magic", ["%%delay", "%%task"])
def test_help_names_the_options(shell: InteractiveShell, magic: str) -> None:
    text = shell.object_inspect(magic)["docstring"]

    assert "--isolated" in text
    assert "worker" in text


def completions(shell: InteractiveShell, text: str, at: int | None = None) -> list[str]:
    shell.Completer.use_jedi = False  # it has its own results, and nothing to do with ours
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(text, len(text) if at is None else at)]


def test_options_are_completed(shell: InteractiveShell) -> None:
    assert completions(shell, "%%delay --ti") == ["--timeout"]
    assert "--handle" not in completions(shell, "%%task job --")
    assert "--handle" in completions(shell, "%%delay -n x --")


def test_names_of_the_notebook_are_completed_after_i(shell: InteractiveShell) -> None:
    shell.user_ns.update(alpha=1, alps=2)

    assert completions(shell, "%%delay -i al") == ["alpha", "alps"]
    assert completions(shell, "%%delay -i alpha,alp") == ["alpha", "alps"]


def test_names_that_the_cell_binds_are_completed_after_o(shell: InteractiveShell) -> None:
    text = "%%delay -o co\ncount = 1\ncolour = 2\nother = 3"

    assert completions(shell, text, len("%%delay -o co")) == ["colour", "count"]
