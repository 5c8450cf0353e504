"""User code around a run on real workers: names, retry conditions, hooks, loggers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from tests.system.tasks import lines, note


def say_name(path: str, word: str = "default") -> str:
    run = nbtasks.current_run()
    assert run is not None
    note(path, f"{run.name} {run.attempt}")
    if run.attempt == 1:
        raise ValueError("first")
    print("printed")
    return run.name


async def say_name_async(path: str, word: str = "default") -> str:
    await asyncio.sleep(0)
    return say_name(path, word)


@pytest.mark.feature("T7")
@pytest.mark.parametrize("function", [say_name, say_name_async])
def test_a_run_has_its_own_name_everywhere_and_in_every_attempt(
    client: Any, tmp_path: Path, function: Callable[..., Any]
) -> None:
    path, asked = str(tmp_path / "names"), str(tmp_path / "asked")

    def name(word: str) -> str:
        note(asked, word)
        return f"say {word}"

    client.start_workers(1)
    named = task(function, task_run_name=name, retries=1)

    run = named.delay(path)

    assert run.result(timeout=60) == run.name == "say default"
    mapped = named.with_options(task_run_name="{word}").map([path] * 2, ["a", "b"], deferred=True)
    assert nbtasks.get_run(run.id).name == "say default"
    assert [one.wait(timeout=60) and one.name for one in mapped] == ["a", "b"]
    assert {one.name for one in nbtasks.runs()} == {"say default", "a", "b"}
    assert lines(path)[:2] == ["say default 1", "say default 2"]
    assert sorted(lines(path)[2:]) == ["a 1", "a 2", "b 1", "b 2"]
    assert lines(asked) == ["default"]
