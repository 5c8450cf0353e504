"""A cell gives the same names on a worker as in the kernel, whatever simple cells came before it.

Cells bind names anew, and change no object in place: what came back is a copy of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import nbtasks
from nbtasks.cell import names_of
from tests.homes import fresh_home
from tests.shells import fresh_shell

EXAMPLES_MAX = 15
FIRST = """
import math, collections as co
ONE, TWO = 1, [2, 2]
def pair(x): return [x, TWO]
a, b, c = 0, "b", [ONE]
"""
NAMES = "abcd"

names = st.sampled_from(NAMES)
known = st.sampled_from("abc")  # always bound
literals = st.sampled_from(["1", "'text'", "[1, 2]", "{'k': (1, 2)}", "None", "{1, 2}", "2.5"])
expressions = st.one_of(
    literals,
    known,
    st.builds("[{0}, {1}]".format, known, known),
    st.builds("pair({})".format, known),
    st.builds("(lambda x: (x, {}))(ONE)".format, known),
    st.builds("[(i, {}) for i in range(2)]".format, known),
    st.builds("str({}) + str(math.floor(TWO[0]))".format, known),
    st.builds("co.Counter(str({}))".format, known),
    st.builds("(d := {})".format, known),
)
statements = st.one_of(
    st.builds("{} = {}".format, names, expressions),
    st.builds("{0} = {1} = {2}".format, names, names, expressions),
    st.builds(
        "if {0}:\n    {1} = {2}\nelse:\n    {3} = {4}".format, known, names, expressions, names, expressions
    ),
    st.builds("for {0} in range(2):\n    {1} = [{0}]".format, st.sampled_from("ij"), names),
    st.builds("def get(x={0}):\n    return x, {1}\n{2} = get()".format, known, known, names),
    st.builds("class Box:\n    held = {0}\n{1} = Box.held, Box().held".format, known, names),
    st.builds("try:\n    {0} = {1} / 0\nexcept Exception as e:\n    {0} = str(type(e))".format, names, known),
    st.builds("t = {}; del t".format, literals),
    st.builds("%time {} = {}".format, names, known),
    st.builds("{} = !echo {{ONE}}".format, names),
)
cells = st.lists(statements, min_size=1, max_size=4).map("\n".join)
notebooks = st.lists(cells, min_size=1, max_size=3)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    """A notebook in this process, with one broker and one worker for all examples."""
    place: Path = tmp_path_factory.mktemp("shell")
    with fresh_shell(place) as shell, fresh_home() as home, nbtasks.connect(home) as client:
        client.start_workers(1)
        shell.run_line_magic("load_ext", "nbtasks")
        yield shell


def executed(shell: InteractiveShell, sources: list[str]) -> tuple[dict[str, Any], list[list[str]]]:
    """The data that the notebook holds after these cells, and the names that each of them left bound."""
    shell.reset(new_session=False)
    bound = []
    with capture_output():
        for source in [FIRST, *sources]:
            shell.run_cell(source).raise_error()
            text = shell.transform_cell(source.partition("\n")[2] if source[:2] == "%%" else source)
            binds = names_of(text).binds
            bound.append(sorted(name for name in binds if name in shell.user_ns))
    hidden = shell.user_ns_hidden
    found = {name: value for name, value in shell.user_ns.items() if name not in hidden and name[0] != "_"}
    return {name: data_of(value) for name, value in found.items()}, bound[1:]


def data_of(value: Any) -> Any:
    """What can be compared: functions and classes of two executions are never equal."""
    if callable(value):
        return getattr(value, "__qualname__", value)
    return list(value) if type(value).__name__ == "SList" else value


@pytest.mark.feature("N2")
# a failing notebook is short as it is; to make it shorter would take minutes
@settings(max_examples=EXAMPLES_MAX, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(sources=notebooks)
def test_a_cell_leaves_the_same_names_as_in_the_kernel(shell: InteractiveShell, sources: list[str]) -> None:
    here, bound = executed(shell, sources)

    delayed = [
        f"%%delay --wait -o {','.join(names)}\n{source}" if names else f"%%delay --wait\n{source}"
        for source, names in zip(sources, bound, strict=True)
    ]
    there, _ = executed(shell, delayed)

    assert there == here
