"""Local modules: forgotten when their files change, and looked at no more often than runs arrive."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks.worker import modules
from nbtasks.worker.modules import LocalModules

NAME = "a_module_of_the_submitter"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a local module, older than any run."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / f"{NAME}.py"
    write(path, "VALUE = 1", age_s=100)
    yield path
    sys.modules.pop(NAME, None)


def write(path: Path, text: str, age_s: float) -> None:
    path.write_text(text)
    at = time.time() - age_s
    os.utime(path, (at, at))
    importlib.invalidate_caches()


def run(local: LocalModules, file: Path, arrived_s: float) -> object:
    """What a run sees in the module that arrived at this time."""
    local.enter([str(file.parent)], arrived_s)
    value = importlib.import_module(NAME).VALUE
    local.leave()
    return value


@pytest.mark.feature("W9")
def test_an_edited_module_is_seen_by_the_next_run_that_arrives(file: Path) -> None:
    local = LocalModules()
    assert run(local, file, time.monotonic()) == 1

    write(file, "VALUE = 'edited'", age_s=50)

    assert run(local, file, time.monotonic()) == "edited"


def test_runs_that_arrived_before_the_last_look_do_not_look_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = LocalModules()
    arrived_s = time.monotonic()
    run(local, file, arrived_s)
    run(local, file, arrived_s)  # the first look: before it nothing was imported
    looks: list[str] = []
    stamp = modules._stamp
    monkeypatch.setattr(modules, "_stamp", lambda path: (looks.append(path), stamp(path))[1])

    run(local, file, arrived_s)
    assert looks == []

    run(local, file, time.monotonic())
    assert looks == [str(file)]


def test_a_module_that_changed_while_its_run_executed_is_not_trusted_by_any(file: Path) -> None:
    local = LocalModules()
    arrived_s = time.monotonic()
    run(local, file, arrived_s)
    run(local, file, arrived_s)
    sys.modules.pop(NAME)
    local = LocalModules()
    local.enter([str(file.parent)], arrived_s)
    write(file, "VALUE = 'new'", age_s=-5)  # while the run executes
    importlib.import_module(NAME)
    local.leave()
    write(file, "VALUE = 'newer'", age_s=-5)
    local._looked_s = time.monotonic()

    assert run(local, file, arrived_s) == "newer"


def test_other_roots_forget_whenever_they_arrived(file: Path, tmp_path: Path) -> None:
    local = LocalModules()
    arrived_s = time.monotonic()
    run(local, file, arrived_s)
    before = sys.modules[NAME]
    local.enter([str(tmp_path), "/elsewhere"], arrived_s - 1)

    assert NAME not in sys.modules or sys.modules[NAME] is not before
