"""The logger of a run of this process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from nbtasks.tasks import runlog

Call = Callable[..., Any]


def called(one: Any, *args: Any) -> Any:
    made = one(*args)
    return asyncio.run(made) if asyncio.iscoroutine(made) else made


def submitted(one: Any, *args: Any) -> Any:
    return one.submit(*args).result(timeout=60)


EITHER_WAY = pytest.mark.parametrize("call", [called, submitted])


def log() -> None:
    logger = nbtasks.get_run_logger()
    logger.info("said %d", 1, extra={"mine": 2})
    logger.setLevel(logging.DEBUG)
    logger.debug("detail")


async def log_async() -> None:
    log()


@pytest.mark.feature("T14")
@pytest.mark.parametrize("function", [log, log_async])
@EITHER_WAY
def test_a_run_of_this_process_logs_in_its_name(
    function: Call, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    call(task(function, task_run_name="mine"))

    lines = [line.partition(" | ")[2] for line in capsys.readouterr().err.splitlines()]
    assert [line for line in lines if "Task run" in line and "Created" not in line] == [
        "INFO    | Task run 'mine' - said 1",
        "DEBUG   | Task run 'mine' - detail",
    ]


@pytest.mark.feature("T14")
def test_there_is_no_run_logger_outside_of_a_run() -> None:
    with pytest.raises(RuntimeError, match="outside of a run"):
        nbtasks.get_run_logger()


def test_somebody_else_may_hear_the_lines_about_runs() -> None:
    heard: list[tuple[str, str]] = []
    lines = logging.getLogger("nbtasks.runs")
    before = list(lines.handlers)
    runlog.also(lambda level, text: heard.append((level, text)))

    try:
        task(log, task_run_name="mine")()
    finally:
        lines.handlers[:] = before

    assert heard == [("INFO", "Task run 'mine' - said 1"), ("DEBUG", "Task run 'mine' - detail")]
