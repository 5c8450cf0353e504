"""Loggers of a notebook in a task: what it set up holds there, and is gone after the run."""

from __future__ import annotations

import logging
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from nbtasks import pickling
from nbtasks.pickling import logs

NAME = "tests.notebook"


@pytest.fixture(autouse=True)
def loggers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As they are in a new process, and afterwards as they were."""
    root, own = logging.root, logging.getLogger(NAME)
    before = root.level, list(root.handlers)
    forget()
    yield
    monkeypatch.setattr(logs, "_applies", False)
    logs.take_back()
    forget()
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    assert not own.handlers


def forget() -> None:
    logging.root.setLevel(logging.WARNING)
    logging.getLogger(NAME).setLevel(logging.NOTSET)
    for logger in (logging.root, logging.getLogger(NAME)):
        logger.handlers[:] = []


def loaded_in_a_worker(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    forget()
    monkeypatch.setattr(logs, "_applies", True)
    return pickle.loads(body)


def test_a_logger_logs_in_a_task_as_in_its_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.basicConfig(force=True, level=logging.INFO, format="%(levelname)s: %(message)s")
    own = logging.getLogger(NAME)
    own.addHandler(logging.StreamHandler(sys.stdout))
    body = pickling.dumps([own])

    [found] = loaded_in_a_worker(body, monkeypatch)
    found.info("one")
    logs.take_back()
    found.info("two")

    assert found is own
    assert capsys.readouterr() == ("one\n", "INFO: one\n")


def test_the_module_brings_how_its_root_is_set_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.basicConfig(force=True, level=logging.DEBUG, format="%(message)s")
    body = pickling.dumps([logging])

    [found] = loaded_in_a_worker(body, monkeypatch)
    found.debug("one")

    assert found is logging
    assert capsys.readouterr().err == "one\n"


def test_loading_a_logger_elsewhere_changes_nothing() -> None:
    logging.basicConfig(force=True, level=logging.INFO)
    body = pickling.dumps([logging, logging.getLogger(NAME)])
    forget()

    assert pickle.loads(body) == [logging, logging.getLogger(NAME)]
    assert (logging.root.level, logging.root.handlers) == (logging.WARNING, [])


def test_a_handler_that_writes_elsewhere_stays_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    own = logging.getLogger(NAME)
    own.setLevel(logging.DEBUG)
    own.addHandler(logging.NullHandler())
    body = pickling.dumps([own])

    [found] = loaded_in_a_worker(body, monkeypatch)

    assert (found.level, found.handlers) == (logging.DEBUG, [])


@pytest.mark.parametrize("value", [logging, logging.getLogger(NAME), logging.root, pickle])
def test_what_nobody_set_up_travels_as_its_name(value: Any) -> None:
    body = pickling.dumps([value])

    assert pickle.loads(body) == [value]
    assert b"stderr" not in body
