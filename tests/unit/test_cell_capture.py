"""Which names of a notebook a cell takes along, as values, as modules or as what runs will give."""

from __future__ import annotations

import math
import types
import xml.dom.minidom
from typing import Any

import pandas as pd
import pytest

from nbtasks.cell import Capture, capture, names_of
from nbtasks.core.messages import Need
from nbtasks.pickling import NamedOutput
from nbtasks.pickling.upstream import Upstream, quote
from nbtasks.run import Run

pytestmark = pytest.mark.feature("N2")


def notebook(source: str = "", **names: Any) -> dict[str, Any]:
    """A notebook's namespace, in which this cell was executed."""
    namespace = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace


def taken(source: str, names: dict[str, Any], **options: Any) -> Capture:
    return capture(source, names_of(source), names, **options)


def a_run(name: str = "load") -> Run:
    return Run("01990000-0000-7000-8000-0000000000ab", name, f"cell:{name}", (), "{}", client=None)


def waiting_for(**runs: Run) -> Any:
    """What the names of these runs will be."""
    return lambda name: NamedOutput(runs[name], name) if name in runs else None


# -- what is taken ------------------------------------------------------------------------------------


def test_what_the_cell_reads_is_taken_and_nothing_else() -> None:
    found = taken("c = a + 1", notebook(a=1, b=2))

    assert found.values == {"a": 1}


def test_a_module_is_imported_and_not_pickled() -> None:
    found = taken("m.pi", notebook(m=math))

    assert found.modules == {"m": "math"}
    assert not found.values


def test_tables_of_sql_and_functions_of_formulas_are_taken() -> None:
    names = notebook("def cube(x):\n    return x ** 3", df=pd.DataFrame(), users=object(), m=math, x=1)

    found = taken("print('x').sql('select * from df join users')\nprint('y ~ cube(x) + m.log(x)')", names)

    assert set(found.values) == {"df", "cube"}
    assert found.modules == {"m": "math"}


def test_a_table_of_sql_that_a_run_will_assign_is_what_the_run_gives() -> None:
    found = taken("df = print('x').sql('select * from df')", notebook(), pending=waiting_for(df=a_run()))

    assert isinstance(found.values["df"], NamedOutput)


def test_a_submodule_that_the_cell_finds_as_an_attribute_is_imported_too() -> None:
    found = taken("xml.dom.minidom.parseString('<a/>')", notebook(xml=xml))

    assert "xml.dom.minidom" in found.submodules
    assert "xml.sax" not in found.submodules


def test_a_module_that_cannot_be_imported_travels_itself() -> None:
    made = types.ModuleType("made_here")

    found = taken("made.x", notebook(made=made))

    assert found.values == {"made": made}


def test_a_name_of_the_notebook_hides_a_builtin() -> None:
    assert taken("max(1, 2)", notebook()).values == {}
    assert taken("max(1, 2)", notebook(max=3)).values == {"max": 3}


def test_the_shell_is_not_taken() -> None:
    found = taken("get_ipython().system('ls')", notebook(get_ipython=object()))

    assert not found.names


def test_a_name_that_is_perhaps_read_is_taken_if_it_is_there() -> None:
    source = "try:\n    a\nexcept NameError:\n    a = 1"

    assert taken(source, notebook(a=5)).values == {"a": 5}
    assert taken(source, notebook()).values == {}


def test_names_that_are_asked_for_are_taken_unread() -> None:
    found = taken("eval('a')", notebook(a=1), also=["a"])

    assert found.values == {"a": 1}


# -- what is refused ----------------------------------------------------------------------------------


def test_a_missing_name_is_a_name_error_now() -> None:
    with pytest.raises(NameError, match="'nope' is not defined") as caught:
        taken("nope + 1", notebook())

    assert caught.value.name == "nope"


def test_a_missing_name_that_is_asked_for_is_an_error_even_if_it_is_a_builtin() -> None:
    with pytest.raises(NameError, match="'max'"):
        taken("1", notebook(), also=["max"])


def test_isolated_takes_only_what_is_asked_for() -> None:
    names = notebook(a=1, b=2)

    found = taken("b", names, also=["b"], is_isolated=True)

    assert found.values == {"b": 2}
    with pytest.raises(NameError, match=r"'a' is needed, but --isolated ships only what -i names"):
        taken("a + b", names, also=["b"], is_isolated=True)


# -- what runs will give ------------------------------------------------------------------------------


def test_a_name_that_a_run_will_assign_is_what_the_run_gives() -> None:
    run = a_run()

    found = taken("df + 1", notebook(df="old"), pending=waiting_for(df=run))

    [value] = found.values.values()
    assert isinstance(value, NamedOutput)
    assert (value.run, value.name) == (run, "df")
    assert value.need() == Need(str(run.id))


@pytest.mark.parametrize(
    "definition",
    [
        "def f():\n    return df",
        "def g():\n    return df\ndef f():\n    return g()",
        "class f:\n    def __init__(self):\n        df",
        "class g:\n    @property\n    def p(self): return df\nf = lambda: g().p",
        "import functools\ndef f0(): return df\n@functools.wraps(f0)\ndef f(): return 1",
    ],
)
def test_also_when_only_a_function_of_the_notebook_reads_it(definition: str) -> None:
    found = taken("f()", notebook(definition), pending=waiting_for(df=a_run()))

    assert isinstance(found.values["df"], NamedOutput)


def test_a_run_is_replaced_by_its_result() -> None:
    run = a_run()

    found = taken("run + 1", notebook(run=run))

    assert isinstance(found.values["run"], Upstream)


@pytest.mark.parametrize("source", ["run.result()", "await run", "print(run.state)"])
def test_a_run_that_the_cell_uses_as_a_handle_stays_one(source: str) -> None:
    found = taken(source, notebook(run=a_run()))

    assert isinstance(found.values["run"], quote)
