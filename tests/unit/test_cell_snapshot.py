"""The names of a cell on their way: what is shared stays shared, what changes later does not show."""

from __future__ import annotations

import linecache
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from nbtasks import pickling
from nbtasks.cell import Snapshot, capture, names_of
from nbtasks.cell.snapshot import LARGE_BYTES, Opened
from nbtasks.errors import NotPicklable
from nbtasks.pickling import NamedOutput, Offered
from tests.unit.test_cell_capture import a_run, notebook, taken, waiting_for

pytestmark = pytest.mark.feature("N2")


def travelled(source: str, names: dict[str, Any]) -> dict[str, Any]:
    """The namespace in which the cell would be executed."""
    return unpacked(Snapshot(taken(source, names), names))


def unpacked(snapshot: Snapshot) -> dict[str, Any]:
    payload, _ = pickling.dump_arguments((snapshot.frozen,), {})
    [opened], _ = pickling.load_arguments(payload)
    assert isinstance(opened, Opened)
    return {**opened.namespace(), **opened.values}


def test_what_two_names_share_is_shared_where_the_cell_runs() -> None:
    part = [1]

    found = travelled("a, b", notebook(a={"part": part}, b=part))

    assert found["a"]["part"] is found["b"]


def test_all_functions_and_classes_see_one_namespace() -> None:
    names = notebook("k = 2\ndef f(): return k\nclass C:\n    def m(self): return f() + k")

    found = travelled("f(), C().m()", names)

    assert found["f"].__globals__ is found["C"].m.__globals__
    found["f"].__globals__["k"] = 10
    assert found["C"]().m() == 20


def test_a_later_change_does_not_reach_what_is_kept() -> None:
    names = notebook(items=[1], array=np.zeros(100_000))
    kept = Snapshot(taken("items, array", names), names).kept()

    names["items"].append(2)
    names["array"][0] = 1

    found = unpacked(kept)
    assert found["items"] == [1]
    assert found["array"][0] == 0


@pytest.mark.parametrize("size", [10, 100_000])
def test_an_array_may_be_written_to_where_the_cell_runs(size: int) -> None:
    names = notebook(array=np.zeros(size))
    kept = Snapshot(taken("array", names), names).kept()

    found = unpacked(kept)

    found["array"][0] = 1
    assert found["array"].flags.writeable


def test_a_large_array_stays_outside_of_the_pickle() -> None:
    names = notebook(array=np.zeros(100_000))

    payload, _ = pickling.dump_arguments((Snapshot(taken("array", names), names).frozen,), {})

    assert [buffer.nbytes for buffer in payload.buffers] == [800_000]


def test_source_lines_of_the_notebooks_functions_travel() -> None:
    source = "def f():\n    return 1  # here\n"
    linecache.cache["<cell 7>"] = (len(source), None, source.splitlines(keepends=True), "<cell 7>")
    names = notebook()
    exec(compile(source, "<cell 7>", "exec"), names)
    snapshot = Snapshot(taken("f()", names), names)
    del linecache.cache["<cell 7>"]

    function = unpacked(snapshot)["f"]

    assert function.__code__.co_filename == "<cell 7>"
    assert "here" in linecache.getline("<cell 7>", 2)


class Model:
    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.feature("D8")
def test_what_cannot_travel_is_named_with_the_way_to_it() -> None:
    names = notebook(fine=1, model=Model())

    with pytest.raises(NotPicklable, match=r"the name 'model' cannot be pickled, because \.lock is a"):
        Snapshot(taken("fine, model", names), names)


@pytest.mark.feature("D8")
def test_what_a_function_uses_and_cannot_travel_is_named() -> None:
    names = notebook("def f(): return guard", guard=threading.Lock())

    with pytest.raises(NotPicklable, match=r"the name 'f' cannot be pickled, because the name 'guard'"):
        Snapshot(taken("f()", names), names)


def test_the_names_of_pending_runs_are_needs_and_get_their_values() -> None:
    run, names = a_run(), notebook()
    source = "df, df2"
    captured = capture(source, names_of(source), names, pending=waiting_for(df=run, df2=run))
    payload, needs = pickling.dump_arguments((Snapshot(captured, names).frozen,), {})

    shared = [1]
    with pickling.given(lambda run, tolerant: Offered(None, {"df": shared, "df2": shared})):
        [opened], _ = pickling.load_arguments(payload)

    assert {need.run for need in needs} == {str(run.id)}
    assert opened.values["df"] is opened.values["df2"]
    assert opened.values["df"] == [1]


def test_the_result_of_a_run_that_offers_names_is_its_value() -> None:
    payload, _ = pickling.dump_arguments((a_run(),), {})

    with pickling.given(lambda run, tolerant: Offered(3, {"df": 4})):
        [value], _ = pickling.load_arguments(payload)

    assert value == 3


def test_each_part_says_how_it_travels() -> None:
    names = notebook("import math as m\nfrom json import dumps\ndef f(): pass", a=[1])
    source = "m, dumps, f, a, df"
    captured = capture(source, names_of(source), names, pending=waiting_for(df=a_run()))

    parts = {part.name: part for part in Snapshot(captured, names).parts()}

    assert parts["m"].how == "by import of math"
    assert parts["dumps"].how == "by import of json"
    assert parts["f"].how == parts["a"].how == "by value"
    assert parts["a"].kind == "list"
    assert parts["df"].how == "from run 'load'"


def test_only_large_values_are_called_large() -> None:
    names = notebook(big=np.zeros(LARGE_BYTES // 8 + 1), small=np.zeros(10))

    assert [part.name for part in Snapshot(taken("big, small", names), names).large()] == ["big"]
    assert Snapshot(taken("small", names), names).large() == []


def test_parameters_are_shown_without_calling_the_users_code() -> None:
    names = notebook("class C:\n    def __repr__(self): raise ValueError", a=1)
    names["c"] = names["C"]()
    source = "a, c, df"
    captured = capture(source, names_of(source), names, pending=waiting_for(df=a_run()))

    shown = Snapshot(captured, names).shown()

    assert {name: pickling.safe_repr(value) for name, value in shown.items()} == {
        "a": "1",
        "c": "<C>",
        "df": "<from run 'load'>",
    }


def test_a_named_output_says_what_it_is() -> None:
    assert "df" in repr(NamedOutput(a_run(), "df"))
    assert pickle.loads(pickle.dumps(Offered(1, {"a": 2}))) == Offered(1, {"a": 2})
