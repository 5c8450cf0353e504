"""What a run finds around itself in a worker, and what it leaves behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nbtasks.pickling.mains import main_of
from nbtasks.wire.spool import Spool
from nbtasks.worker.surroundings import Surroundings

SHELLS = {"frames": 1}


@pytest.fixture
def shell() -> Any:
    return SimpleNamespace(user_ns=SHELLS)


@pytest.fixture
def surroundings(tmp_path: Path, shell: Any) -> Iterator[Surroundings]:
    loop = asyncio.new_event_loop()
    close = loop.close
    yield Surroundings(tmp_path, Spool(tmp_path / "spool"), loop, shell)
    close()


def of_notebook(source: str, **names: Any) -> Any:
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace["f"]


def test_magics_of_a_task_find_the_globals_of_its_function(surroundings: Surroundings, shell: Any) -> None:
    before = sys.modules["__main__"]
    function = of_notebook("def f(): return get_ipython()", get_ipython=None, path="p")

    surroundings.stand_in(main_of(function))

    assert shell.user_ns is function.__globals__
    assert sys.modules["__main__"].path == "p"

    surroundings.restore()

    assert shell.user_ns is SHELLS
    assert sys.modules["__main__"] is before


def test_a_task_without_magics_leaves_the_names_of_the_shell(surroundings: Surroundings, shell: Any) -> None:
    for function in (of_notebook("def f(): pass", path="p"), of_notebook, len):
        surroundings.stand_in(main_of(function))
        assert shell.user_ns is SHELLS
    surroundings.restore()
