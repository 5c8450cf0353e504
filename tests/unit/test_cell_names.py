"""The names of a cell: what it needs, may need, binds; and what the functions of a notebook read."""

from __future__ import annotations
import __future__

from textwrap import dedent
from types import CodeType

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from nbtasks.cell.names import names_of, reads_of
from tests.unit import cells
from tests.unit.cells import Case
from tests.unit.everyday_cells import EVERYDAY

TABLE = [
    *cells.ORDER,
    *cells.DELETING,
    *cells.BRANCHES,
    *cells.LOOPS,
    *cells.TRYING,
    *cells.FUNCTIONS,
    *cells.CLASSES,
    *cells.COMPREHENSIONS,
    *cells.ANNOTATIONS,
    *cells.IMPORTS,
    *cells.ASYNC,
    *cells.TEXTS,
    *cells.MAGICS,
    *EVERYDAY,
]


def transformed(cell: str) -> str:
    return TransformerManager().transform_cell(cell)


@pytest.mark.feature("N2")
@pytest.mark.parametrize("case", TABLE, ids=[case.id for case in TABLE])
def test_a_cell_needs_and_binds_these_names_and_no_others(case: Case) -> None:
    names = names_of(transformed(case.cell))

    found = [" ".join(sorted(part)) for part in (names.needs, names.may_need, names.binds)]
    wanted = [" ".join(sorted(part.split())) for part in (case.needs, case.may_need, case.binds)]
    assert found == wanted
    assert " ".join(names.stars) == case.stars


@pytest.mark.parametrize(
    ("cell", "lineno", "text"),
    [
        ("x = 1\ny = (", 2, "y = ("),
        ("x = 1\n\nreturn x", 3, "return x"),
        ("def f(a):\n    global a", 2, "    global a"),
        ("%%time\nx = 1\ny = = 2", 3, "y = = 2"),
        ("%%capture\n%%time\nx = 1\ny = = 2", 4, "y = = 2"),
        ("x = 1\n%time f(", 2, "f("),
    ],
)
def test_a_cell_that_is_no_python_says_which_line(cell: str, lineno: int, text: str) -> None:
    with pytest.raises(SyntaxError) as caught:
        names_of(transformed(cell))

    assert (caught.value.lineno, (caught.value.text or "").rstrip("\n")) == (lineno, text)


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("exec(code)", "exec()"),
        ("eval(code, space)", "eval()"),
        ("globals()", "globals()"),
        ("'{x}'.format(**locals())", "locals()"),
        ("vars()", "vars()"),
        ("def f():\n    return globals()[n]", "globals()"),
        ("%run a.py", "%run"),
        ("%%sql\nselect * from t", "%%sql"),
        ("get_ipython().user_ns[n]", "get_ipython().user_ns"),
        ("f(get_ipython().run_line_magic('who', ''))", "get_ipython().run_line_magic"),
    ],
)
def test_what_may_hide_names_is_said_once(cell: str, what: str) -> None:
    names = names_of(transformed(f"{cell}\n{cell}" if "%%" not in cell else cell))

    assert [doubt.split(" may use and bind names")[0] for doubt in names.doubts] == [what]
    assert "-i" in names.doubts[0]


@pytest.mark.parametrize(
    "cell",
    [
        "vars(x)",
        "def f():\n    return locals(), vars()",
        "'x' in globals()",
        "globals()['x'] = globals().get('y')",
        "def eval(text): ...\neval(x)",
        "model.eval()",
        "%matplotlib inline",
        "%%bash\necho $x",
        "%%html\n<b>x</b>",
        "!ls",
        "%time f(x)",
    ],
)
def test_what_hides_nothing_raises_no_doubt(cell: str) -> None:
    assert names_of(transformed(cell)).doubts == ()


def code_of(source: str) -> CodeType:
    return compile(dedent(source), "<notebook>", "exec")


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("f(x).y", "f x"),
        ("x = 1\nx", ""),
        ("if c:\n    x = 1\nx", "c x"),
        ("for i in r:\n    x = i\nx", "r i x"),
        ("try:\n    x = f()\nexcept E:\n    pass\nx", "f E x"),
        ("def f(a):\n    b = a\n    return b + x", "x"),
        ("def f():\n    return lambda: [x + k for x in xs]", "k xs"),
        ("def f():\n    def g():\n        return x, f\n    return g", "x f"),
        ("def f():\n    return {x: y for x in xs if z}, (w for x in v)", "xs y z w v"),
        ("def f():\n    class C(B):\n        a = x\n        b = a, (lambda: y)", "B x y"),
        ("def f():\n    class C:\n        if c:\n            x = 1\n        y = x", "c x"),
        ("def f():\n    a = 1\n    class C:\n        b = a, [c for c in a if d]", "d"),
        ("def f():\n    global n\n    n += 1", "n"),
        ("def f():\n    import os\n    return os.path", ""),
        ("def f():\n    return get_ipython(), __name__", ""),
        ("async def f():\n    async with a as b:\n        return [c async for c in d]", "a d"),
        ("def f(df):\n    low = 1\n    return df.query('a > @low and b < @high')", "high"),
        ("def f(a):\n    get_ipython().system('echo {a} {b} $c')", "b c"),
    ],
)
def test_a_function_of_the_notebook_reads_these_globals(source: str, reads: str) -> None:
    assert " ".join(sorted(reads_of(code_of(source)))) == " ".join(sorted(reads.split()))


def test_annotations_are_not_read_if_an_earlier_cell_wanted_it_so() -> None:
    cell = "def f(x: Later) -> Later: ...\ny: Later = 1"

    by_itself, after_it = names_of(cell), names_of(cell, __future__.annotations.compiler_flag)

    assert "Later" in by_itself.needs | by_itself.may_need
    assert not after_it.needs | after_it.may_need


def test_a_long_sum_is_not_too_deep() -> None:
    names = names_of(" + ".join(f"x{number}" for number in range(500)))

    assert names.needs == {f"x{number}" for number in range(500)}
    assert names.doubts == ()


def test_what_is_nested_too_deeply_is_taken_if_it_is_there() -> None:
    chain = "x" + "".join(f".f({number}, a)" for number in range(400))

    names = names_of(f"from m import *\nb = {chain}")

    assert (names.needs, names.may_need, names.binds, names.stars) == (set(), {"x", "a"}, {"b"}, ("m",))
    assert "nested too deeply" in names.doubts[0]
