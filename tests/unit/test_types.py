"""What a type checker makes of a user's code: the types that it finds, and what it refuses."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import nbtasks
from nbtasks import Task, task

PACKAGE = Path(nbtasks.__file__).parent

# a line says in a comment what its reveal_type gives, or why it is refused
CODE = """
from __future__ import annotations
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any
import nbtasks
from nbtasks import Run, RunList, Task, allow_failure, task, unmapped

@task
def fit(depth: int, data: list[int], *, scale: float = 1.0) -> float: return depth * scale
@task(retries=2, tags=["net"])
async def fetch(url: str) -> bytes: return b""
@task
def count(n: int) -> Iterator[int]: yield from range(n)
@task(log_prints=True)
def chat(n: int) -> Generator[str, None, int]:
    yield ""
    return n
@task
async def listen(n: int) -> AsyncIterator[int]: yield n
@task
def nothing() -> None: ...
@task
def open_ended(n: int) -> dict[str, Any]: return {}
@task
def untyped(n): return n

class Model:
    @task
    def times(self, x: int) -> int: return x
    @task
    @staticmethod
    def double(x: int) -> int: return 2 * x

run = fit.delay(3, [1, 2])
model = Model()

# what a call gives
reveal_type(fit)  # Task[[depth: int, data: list[int], *, scale: float =], float]
reveal_type(fit(3, [1]))  # float
reveal_type(fetch("u"))  # Coroutine[Any, Any, bytes]
reveal_type(count(3))  # Iterator[int]
reveal_type(untyped(3))  # Any
reveal_type(task(lambda: 3)())  # int
reveal_type(task(Model, name="m")())  # Model
reveal_type(Task(len, retries=1).delay([]).result())  # int
reveal_type(fit.with_options(retries=3)(1, []))  # float

# what a run gives
reveal_type(run)  # Run[float]
reveal_type(run.result(timeout=3))  # float
reveal_type(run.result(raise_on_failure=False))  # float | BaseException
reveal_type(run.rerun())  # Run[float]
reveal_type(fetch.delay("u"))  # Run[bytes]
reveal_type(count.delay(3).result())  # list[int]
reveal_type(chat.delay(3).result())  # list[str]
reveal_type(listen.delay(3).result())  # list[int]
reveal_type(nothing.delay())  # Run[None]
reveal_type(open_ended.delay(3))  # Run[dict[str, Any]]
reveal_type(untyped.delay(3))  # Run[Any]
reveal_type(fit.apply_async((3, [1]), retries=5, wait_for=[run]))  # Run[float]
reveal_type(fetch.submit("u").result())  # bytes
reveal_type(count.submit(3))  # LocalRun[list[int]]
reveal_type(nbtasks.get_run("id").result())  # Any

# runs among the arguments are as good as their results
reveal_type(fit.delay(allow_failure(run), data=[run, run]))  # Run[float]
reveal_type(fit.submit(run, [1]))  # LocalRun[float]
reveal_type(fit.map([run, run], unmapped([1])))  # RunList[float]

# many runs
runs = fetch.map(["u", "v"], deferred=True)
reveal_type(runs)  # RunList[bytes]
reveal_type(runs.result())  # list[bytes]
reveal_type(runs[0])  # Run[bytes]
reveal_type(runs[1:])  # RunList[bytes]
reveal_type(nbtasks.wait([*runs, fetch.delay("w")])[0])  # set[Run[bytes]]
reveal_type(nbtasks.as_completed(runs))  # Iterator[Run[bytes]]
reveal_type(nbtasks.runs())  # RunList[Any]

async def waits() -> None:
    reveal_type(await fetch("u"))  # bytes
    reveal_type(await run)  # float
    reveal_type(await runs)  # list[bytes]

# methods
reveal_type(model.times(2))  # int
reveal_type(model.times.delay(2))  # Run[int]
reveal_type(Model.times(model, 2))  # int
reveal_type(model.double(2))  # int
reveal_type(Model.double.delay(2))  # Run[int]

# annotations, with what they are generic in and without
def takes(a: Run, b: Run[float], c: RunList, d: Task, e: Task[..., float]) -> None: ...
takes(run, run, runs, fit, fit)

# what is wrong
fit(3, "data")  # refused: arg-type
fit(3)  # refused: call-arg
fit(3, [1], size=3)  # refused: call-arg
fit.with_options(retries=3)("3", [1])  # refused: arg-type
model.times("x")  # refused: arg-type
model.double("x")  # refused: arg-type
text: str = fit.delay(3, [1]).result()  # refused: assignment
texts: list[str] = runs.result()  # refused: assignment
fit.delay(3, [1]).results()  # refused: attr-defined
fit.apply_async((3, [1]), retries="5")  # refused: arg-type
nbtasks.no_such_name  # refused: attr-defined
@task(retry=3)  # refused: call-overload
def mistaken() -> None: ...
"""


def said_by_mypy(path: Path) -> dict[int, str]:
    """What it reveals or refuses, by line; names without their modules."""
    # of the packages that nbtasks uses none has a part in its types, and reading them takes half a minute
    options = ["--no-site-packages", "--follow-imports=silent", "--config-file=", "--no-color-output"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={path.parent / 'cache'}", path.name],
        cwd=path.parent, env={**os.environ, "MYPYPATH": str(PACKAGE.parent)}, capture_output=True, text=True,
    )  # fmt: skip
    said = {}
    for number, kind, text in re.findall(r"^\w+\.py:(\d+): (error|note): (.*)$", done.stdout, re.M):
        if kind == "error":
            said[int(number)] = "refused: " + re.findall(r"\[([\w-]+)\]$", text)[0]
        elif text.startswith("Revealed type is"):
            said[int(number)] = re.sub(r"\b(?:\w+\.)+(?=\w)", "", text.split('"')[1])
    return said


def test_a_type_checker_knows_what_calls_and_runs_give_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(CODE)
    lines = enumerate(CODE.splitlines(), 1)
    expected = {number: line.rpartition("  # ")[2] for number, line in lines if "  # " in line}

    assert said_by_mypy(path) == expected


def test_the_package_says_that_it_has_types() -> None:
    assert (PACKAGE / "py.typed").is_file()


class Callee:
    async def __call__(self) -> int:
        return 3


async def waits() -> int:
    return 3


async def gives() -> AsyncIterator[int]:
    yield 3


def test_an_async_task_is_known_as_one() -> None:
    awaited = [task(waits), task(Callee(), name="callee"), task(waits).with_options(retries=1)]
    others: list[Task] = [task(len), task(gives)]

    # the mark that inspect looks for came with Python 3.12, that of asyncio leaves with 3.16
    looks = [asyncio.iscoroutinefunction] if sys.version_info < (3, 14) else []
    looks += [inspect.iscoroutinefunction] if sys.version_info >= (3, 12) else []
    for is_async in looks:
        assert all(map(is_async, awaited))
        assert not any(map(is_async, others))
