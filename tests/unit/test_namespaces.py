"""The namespaces of runs in a worker."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nbtasks.worker.namespaces import lent


def of_notebook(source: str, **names: Any) -> Any:
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace["f"]


def test_magics_of_a_task_find_the_globals_of_its_function() -> None:
    shell: Any = SimpleNamespace(user_ns={"frames": 1})
    function = of_notebook("def f(): return get_ipython()", get_ipython=None, path="p")

    with lent(shell, function):
        assert shell.user_ns["path"] == "p"

    assert shell.user_ns == {"frames": 1}


def test_a_task_without_magics_leaves_the_names_of_the_shell() -> None:
    shell: Any = SimpleNamespace(user_ns={"frames": 1})

    for function in (of_notebook("def f(): pass", path="p"), of_notebook, len):
        with lent(shell, function):
            assert shell.user_ns == {"frames": 1}
