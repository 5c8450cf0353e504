"""Notebooks as tasks: their files, their parameters, what is refused, and what travels."""

from __future__ import annotations

import inspect
import json
import math
import pickle
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbtasks
from nbtasks import ExecutedNotebook, FailedCell, FailedRun, context, notebook_task, pickling, task
from nbtasks.cache_policies import TASK_SOURCE
from nbtasks.core.payload import Payload
from nbtasks.notebooks import execution, files, parameters
from nbtasks.notebooks.execution import executed
from nbtasks.notebooks.parameters import injected, literal, signature_of
from nbtasks.pickling.code import load_code
from nbtasks.pickling.failures import RemoteTraceback
from tests.notebook_files import write_notebook
from tests.unit.submitters import MemorySubmitter

DEFAULTS = ("year = 2025\ntitle = 'Sales'", "parameters")


@pytest.fixture
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return write_notebook(tmp_path / "report.ipynb", DEFAULTS, "print(year)")


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(files.read(str(path)))
    return notebook


def sources(notebook: dict[str, Any]) -> list[str]:
    return [cell["source"] for cell in notebook["cells"]]


def signature(tmp_path: Path, source: str) -> str:
    return str(signature_of(read(write_notebook(tmp_path / "any.ipynb", (source, "parameters")))))


# -- the file -------------------------------------------------------------------------------------------


def test_what_is_executed_has_no_outputs_of_an_earlier_execution(report: Path) -> None:
    notebook = read(report)

    assert sources(notebook) == ["# A title", DEFAULTS[0], "print(year)"]
    assert [cell["outputs"] for cell in notebook["cells"][1:]] == [[], []]
    assert "earlier" not in files.read(str(report))


def test_a_file_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.ipynb"):
        notebook_task(tmp_path / "no.ipynb")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is no notebook"),
        ("print(1)", "is no notebook"),
        ("[]", "no number of a format"),
        ('{"nbformat": 3, "worksheets": []}', "format 3; Jupyter saves it in format 4"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "no cells"),
        ('{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}', "its cell 1 is none"),
    ],
)
def test_a_file_that_is_no_notebook_is_said_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "bad.ipynb").write_text(text)

    with pytest.raises(ValueError, match=rf"bad\.ipynb is no notebook.*{reason}|{reason}"):
        notebook_task(tmp_path / "bad.ipynb")


def test_a_notebook_in_another_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is in R, not in Python"):
        notebook_task(write_notebook(tmp_path / "r.ipynb", "x <- 1", kernel="ir", language="R"))


def test_a_path_is_asked_for() -> None:
    with pytest.raises(TypeError, match="takes the path of a notebook, not 3"):
        notebook_task(3)  # type: ignore[arg-type]


# -- its parameters -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a = 1\nb = 'x'", "(*, a=1, b='x')"),
        ("# nothing yet", "()"),
        ("a, b = 1, [2]", "(*, a=1, b=[2])"),
        ("a, *b = load()", "(*, a=load(), b=load())"),
        ("a = b = None", "(*, a=None, b=None)"),
        ("a: int = 1", "(*, a=1)"),
        ("a = 10 * 60  # seconds", "(*, a=10 * 60)"),
        ("import os\na = os.sep\ndef f(): b = 1", "(*, a=os.sep)"),
        ("if True:\n    a = [c for c in 'xy']", "(*, a=[c for c in 'xy'])"),
        ("%matplotlib inline\n!pwd\na = 1", "(*, a=1)"),
        ("a = !pwd", "(**parameters)"),
    ],
)
def test_the_parameters_are_what_their_cell_assigns(tmp_path: Path, source: str, expected: str) -> None:
    assert signature(tmp_path, source) == expected


def test_without_a_cell_for_them_any_name_is_a_parameter(tmp_path: Path) -> None:
    notebook = read(write_notebook(tmp_path / "plain.ipynb", "print(1)"))

    assert signature_of(notebook) is parameters.ANY


def test_help_shows_the_parameters_of_the_file_as_it_is_now(report: Path) -> None:
    made = notebook_task(report)
    before = str(inspect.signature(made))
    write_notebook(report, ("depth = 3", "parameters"))

    assert before == "(*, year=2025, title='Sales')"
    assert str(inspect.signature(made)) == "(*, depth=3)"


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -3, 10**30, 1.5, -0.0, math.inf, -math.inf, 1 + 2j, complex(math.inf, 0),
        "it's\n", b"\0",
        [], [1, "a"], (), (1,), (1, 2), set(), {3, 1}, frozenset(), frozenset({1}), {}, {"a": [{1: (None,)}]},
    ],
)  # fmt: skip
def test_a_literal_is_the_value_again(value: Any) -> None:
    again = eval(literal(value))

    assert again == value
    assert type(again) is type(value)


def test_numbers_of_numpy_are_written_as_plain_ones() -> None:
    assert literal([np.int64(3), np.float64(0.5), np.float32(0.5)]) == "[3, 0.5, 0.5]"
    assert math.isnan(eval(literal(np.float64("nan"))))


def test_given_parameters_are_assigned_after_the_defaults(report: Path) -> None:
    notebook = injected(read(report), {"year": 2026, "title": "It's"})

    import nbformat  # seconds

    cell = notebook["cells"][2]
    assert sources(notebook)[1:] == [
        DEFAULTS[0],
        '# Parameters\nyear = 2026\ntitle = "It\'s"',
        "print(year)",
    ]
    assert cell["metadata"]["tags"] == ["injected-parameters"]
    nbformat.validate(nbformat.from_dict(notebook))


def test_without_a_cell_of_defaults_they_are_assigned_first(tmp_path: Path) -> None:
    notebook = read(write_notebook(tmp_path / "plain.ipynb", "print(a)"))

    assert sources(injected(notebook, {"a": 1}))[0] == "# Parameters\na = 1"


def test_in_an_executed_copy_they_replace_those_of_that_execution(report: Path) -> None:
    before = injected(read(report), {"year": 2026})

    assert sources(injected(before, {"year": 2027}))[1:] == [
        DEFAULTS[0],
        "# Parameters\nyear = 2027",
        "print(year)",
    ]


def test_without_parameters_the_notebook_is_executed_as_it_is(report: Path) -> None:
    assert injected(read(report), {}) == read(report)


# -- calls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"yaer": 1},
            r"report\(\) got an unexpected parameter 'yaer', did you mean 'year'\?; .* year, title",
        ),
        ({"depth": 1}, r"report\(\) got an unexpected parameter 'depth'; the notebook has year, title"),
        ({"title": Path("x")}, r"the parameter 'title' of report\(\) is of type pathlib.*Path; it can be a"),
        ({"title": [{1: print}]}, r"'title' of report\(\) is a list with a builtin_function_or_method in it"),
        ({"year": Fraction(1, 2)}, "is of type fractions.Fraction"),
    ],
)
def test_what_cannot_be_given_is_refused_before_there_is_a_run(
    there: MemorySubmitter, report: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        notebook_task(report).delay(**given)

    assert not there.recorded


def test_parameters_are_given_by_name(report: Path, there: MemorySubmitter) -> None:
    made = notebook_task(report)

    with pytest.raises(TypeError, match="by name, not 2026"):
        made.delay(2026)
    with pytest.raises(TypeError, match="by name, not \\[1, 2\\]"):
        made.map([1, 2], deferred=True)


def test_a_name_that_is_none_in_python_is_refused(tmp_path: Path, there: MemorySubmitter) -> None:
    with pytest.raises(TypeError, match="'a b', which is no name"):
        notebook_task(write_notebook(tmp_path / "plain.ipynb", "1")).delay(**{"a b": 1})


def test_a_parameter_without_a_default_has_to_be_given(tmp_path: Path, there: MemorySubmitter) -> None:
    made = notebook_task(write_notebook(tmp_path / "n.ipynb", ("year: int", "parameters")))

    made.delay(year=1)
    with pytest.raises(TypeError, match="missing the parameter 'year'"):
        made.delay()


def test_what_contains_itself_is_refused(report: Path, there: MemorySubmitter) -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(TypeError, match="'year' of report\\(\\) is nested too deeply"):
        notebook_task(report).delay(year=endless)


def test_a_run_shows_its_parameters_with_the_defaults(report: Path, there: MemorySubmitter) -> None:
    write_notebook(report, ("year = 2025\nfirst = year - 1", "parameters"))

    run = notebook_task(report).delay(year=2026)

    assert run.parameters == {"year": "2026", "first": "year - 1"}


def test_a_map_makes_a_run_for_each_value(report: Path, there: MemorySubmitter) -> None:
    runs = notebook_task(report, task_run_name="of {year}").map(year=[1, 2], title="T", deferred=True)

    assert [run.name for run in runs] == ["of 1", "of 2"]
    assert [run.parameters for run in runs] == [{"year": "1", "title": "'T'"}, {"year": "2", "title": "'T'"}]


@task
def depth() -> Any:
    """Gives a parameter."""


def test_a_run_may_stand_for_a_value_that_is_checked_where_it_is_known(
    report: Path, there: MemorySubmitter
) -> None:
    made = notebook_task(report)

    made.delay(year=[depth.delay()])  # accepted

    with pytest.raises(TypeError, match=r"'year' of report\.ipynb\(\) is of type object"):
        made.fn(year=object())
    with pytest.raises(TypeError, match=r"'year'.* is of type nbtasks"):
        made.delay(year=nbtasks.quote(depth.delay()))


# -- what it is -----------------------------------------------------------------------------------------


def test_it_is_called_as_its_file_and_takes_the_options_of_a_task(report: Path) -> None:
    made = notebook_task(report, retries=2, tags=["month"], timeout_seconds=60)

    assert (made.name, made.key) == ("report", f"notebook:{report}")
    assert (made.retries, made.tags, made.timeout_seconds) == (2, {"month"}, 60.0)
    assert made.with_options(name="other").name == "other"
    assert notebook_task(report, name="other").name == "other"
    with pytest.raises(TypeError, match="no option 'retrys'"):
        notebook_task(report, retrys=1)  # type: ignore[call-arg]


def code_of(there: MemorySubmitter, run: Any) -> Any:
    return load_code(there.recorded[str(run.id)][1]).function


def test_a_run_keeps_the_notebook_as_it_was_when_it_was_made(report: Path, there: MemorySubmitter) -> None:
    made = notebook_task(report)
    first = made.delay()
    write_notebook(report, DEFAULTS, "print('changed')")
    second = made.delay()
    report.unlink()

    assert sources(json.loads(code_of(there, first).source))[-1] == "print(year)"
    assert sources(json.loads(code_of(there, second).source))[-1] == "print('changed')"
    with pytest.raises(FileNotFoundError):
        made.delay()


def test_the_kernel_is_given_half_of_the_time_that_the_worker_has(
    report: Path, there: MemorySubmitter
) -> None:
    run = notebook_task(report, grace_s=1.0).with_options(grace_s=8.0).delay()

    assert code_of(there, run).grace_s == 8.0


def test_a_task_of_a_notebook_travels_with_it(report: Path) -> None:
    made = pickle.loads(pickle.dumps(notebook_task(report, name="mine", retries=1)))
    report.unlink()

    assert (made.name, made.retries, str(inspect.signature(made))) == (
        "mine",
        1,
        "(*, year=2025, title='Sales')",
    )


def test_its_version_and_its_source_for_caches_are_the_cells_and_not_their_outputs(report: Path) -> None:
    made = notebook_task(report, cache_policy=TASK_SOURCE)
    before = made.version, made.cache_key("", {})
    body = report.read_text()

    report.write_text(body.replace("of an earlier execution", "other"))
    executed_again = made.version, made.cache_key("", {})
    report.write_text(body.replace("print(year)", "print(title)"))
    edited = made.version, made.cache_key("", {})

    assert executed_again == before
    assert set(edited).isdisjoint(before)


def test_where_nbclient_is_missing_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "nbtasks.notebooks.kernel", raising=False)
    monkeypatch.delattr("nbtasks.notebooks.kernel", raising=False)
    monkeypatch.setitem(sys.modules, "nbclient", None)

    with pytest.raises(ImportError, match=r"nbclient, which is not installed: pip install 'nbtasks\[noteb"):
        executed("report.ipynb", {"cells": []}, 1.0)


def test_what_is_left_out_of_an_import_is_there_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_grammar.py").write_text("def is_valid_syntax(rule, text): return (rule, text)")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(execution, "GRAMMAR", "slow_grammar")

    with execution._grammar_later():
        from slow_grammar import is_valid_syntax  # type: ignore[import-not-found]

        assert not hasattr(sys.modules["slow_grammar"], "__file__")
    assert "slow_grammar" not in sys.modules

    assert is_valid_syntax("iri", "x") == ("iri", "x")


# -- what comes back ------------------------------------------------------------------------------------


def a_copy() -> ExecutedNotebook:
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "a\nb\n"},
        {
            "output_type": "display_data",
            "metadata": {},
            "data": {"text/plain": "x\ny", "image/png": "aGk=\n", "application/json": {"a": "1\n2"}},
        },
        {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["1\n2", "3"]},
    ]
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "execution_count": 1, "source": "1\n2"}
    cells = [
        {**cell, "outputs": outputs},
        {"cell_type": "markdown", "id": "b", "metadata": {}, "source": "é"},
    ]
    return ExecutedNotebook(
        "a <b>.ipynb", {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    )


def test_an_executed_copy_is_saved_as_nbformat_would(tmp_path: Path) -> None:
    import nbformat  # seconds

    copy = a_copy()
    copy.save(tmp_path / "out.ipynb")
    nbformat.write(nbformat.from_dict(copy.notebook), tmp_path / "expected.ipynb")

    assert (tmp_path / "out.ipynb").read_bytes() == (tmp_path / "expected.ipynb").read_bytes()


def test_an_executed_copy_shows_itself_in_a_few_words() -> None:
    assert repr(a_copy()) == "<executed copy of 'a <b>.ipynb': 2 cells>"
    assert a_copy()._repr_html_() == "Executed copy of <b>a &lt;b&gt;.ipynb</b>: 2 cells"


def failed(copy: ExecutedNotebook) -> FailedCell:
    error = FailedCell("ValueError: no (cell 1 of 2)", copy, "ValueError", "no", ["\x1b[31mline 1", "no"])
    error.__cause__ = RemoteTraceback("line 1\nno")
    return error


def test_a_failed_cell_comes_back_with_the_copy_and_the_traceback_of_the_cell() -> None:
    found = pickling.load_failure(pickling.dump_failure(failed(a_copy())))

    assert isinstance(found, FailedCell)
    assert isinstance(found, FailedRun)
    assert found.notebook.notebook == a_copy().notebook
    assert (str(found), found.ename, found.evalue) == ("ValueError: no (cell 1 of 2)", "ValueError", "no")
    assert str(found.__cause__) == '\n"""\nline 1\nno\n"""'
    assert found._render_traceback_()[-2:] == ["no", "FailedCell: ValueError: no (cell 1 of 2)"]


def test_a_copy_that_is_too_large_is_left_out_of_the_failure() -> None:
    copy = a_copy()
    copy.notebook["metadata"]["much"] = "x" * 33 * 2**20

    found = pickling.load_failure(pickling.dump_failure(failed(copy)))

    assert isinstance(found, FailedCell)
    assert found.notebook is None
    assert found.evalue == "no"


def test_a_result_is_plain_where_it_is_loaded() -> None:
    body = pickling.dump_result(a_copy(), "pickle")

    found = pickling.load_result(Payload([b"".join(body.stream)]))

    assert type(found) is ExecutedNotebook
    assert type(found.notebook) is dict
