"""What only texts in a function of the notebook name travels with it, if it can be meant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbtasks import pickling
from nbtasks.errors import NotPicklable


def there(source: str, **names: Any) -> dict[str, Any]:
    """The globals of the notebook's function `f` where it is executed."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, namespace)
    found: dict[str, Any] = pickling.load_function(pickling.dump_function(namespace["f"])[0]).__globals__
    return found


def test_names_of_a_query_travel() -> None:
    found = there("def f(df):\n    top = 3\n    return df.query('a > @low and a < @top')", low=1, top=2)

    assert found["low"] == 1
    assert "top" not in found


def test_names_of_a_query_in_a_function_within_travel() -> None:
    found = there(
        "def f(df):\n    def g():\n        return df.eval(f'a + @low * {df.size}')\n    return g()", low=1
    )

    assert found["low"] == 1


@pytest.mark.parametrize("call", ["duckdb.sql", "duckdb.connect().execute", "con.sql", "pl.sql"])
def test_tables_of_sql_travel(call: str) -> None:
    frame = pd.DataFrame({"a": [1]})
    source = f"def f():\n    return {call}('SELECT * FROM one\\nJOIN two USING (a) join three')"

    found = there(source, one=frame, two=np.ones(2), three=object())

    assert found["one"].equals(frame)
    assert found["two"].tolist() == [1, 1]
    assert "three" not in found


def test_functions_and_modules_of_a_formula_travel() -> None:
    found = there(
        "def cube(x):\n    return x ** 3\n"
        "def f():\n    return ols('y ~ cube(x) + np.log(x) + log(z) + C(w) + x', data).fit()",
        np=np,
        log=np.log,
        C=[1],
        x=2,
    )

    assert found["cube"](2) == 8
    assert (found["np"], found["log"]) == (np, np.log)
    assert not {"x", "C"} & set(found)


def test_a_path_of_a_home_is_no_formula() -> None:
    source = "def train():\n    pass\ndef f():\n    return open('~/data/train.csv')"

    assert "train" not in there(source)


def test_names_of_shell_lines_and_magics_travel() -> None:
    found = there(
        "def f(x):\n    get_ipython().system('echo $path {x} {places[0]}')\n"
        "    get_ipython().run_line_magic('env', 'A=$$other')",
        get_ipython=None,
        path="p",
        x=1,
        places=["q"],
        other=2,
    )

    assert (found["path"], found["places"]) == ("p", ["q"])
    assert not {"x", "other"} & set(found)


@pytest.mark.parametrize(
    "source",
    [
        "def f(df):\n    return get_ipython().ask('{low}')",
        "def f(df):\n    return print('a > @low')",
        "def f(df):\n    return print('from low ~')",
        "def f(con):\n    return con.execute('select a from low')",
        "def f(df):\n    'query @low ~ low(x)'\n    return df.query",
    ],
)
def test_other_texts_name_nothing(source: str) -> None:
    assert "low" not in there(source, low=pd.DataFrame())


def test_what_a_function_names_by_text_and_cannot_travel_is_named() -> None:
    with pytest.raises(NotPicklable, match="'low'"):
        there("def f(df):\n    return df.query('a > @low')", low=(i for i in ()))
