"""What workers are like: variables, interpreters, GPUs, tags; when they are replaced; sticky runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import nbtasks
from nbtasks import cli, task
from tests.homes import environment
from tests.system import tasks
from tests.system.waiting import until

pytestmark = pytest.mark.feature("W6")


def variable(name: str) -> str | None:
    return os.environ.get(name)


async def variable_async(name: str) -> str | None:
    return os.environ.get(name)


def pid() -> int:
    return os.getpid()


async def pid_async() -> int:
    return os.getpid()


@pytest.mark.feature("W9")
@pytest.mark.parametrize("function", [variable, variable_async])
def test_variables_are_those_of_the_pool_and_not_of_the_submitter(
    client: Any, function: Callable[..., Any]
) -> None:
    client.start_workers(1, env={"OF_THE_POOL": "yes"})

    with environment({"OF_THE_SUBMITTER": "yes"}):
        runs = [task(function).delay("OF_THE_POOL"), task(function).delay("OF_THE_SUBMITTER")]

    assert [run.result(timeout=60) for run in runs] == ["yes", None]


@pytest.mark.parametrize("function", [pid, pid_async])
def test_a_run_goes_to_a_worker_that_offers_what_it_asks_for(
    client: Any, function: Callable[..., Any]
) -> None:
    client.start_workers(1)
    run = task(function, worker_tags=["large"]).delay()
    until(
        lambda: "waiting for a worker that offers large" in run.state.message or run.state.is_final,
        "it says what it waits for",
    )
    assert not run.state.is_final

    client.start_workers(1, tags=["large", "other"])
    found = run.result(timeout=60)

    [large] = {worker.pid for worker in client.status().workers if worker.pid == found}
    assert large == task(function, worker_tags=["large"]).delay().result(timeout=60)


def test_each_worker_sees_one_gpu(client: Any, tmp_path: Path) -> None:
    with environment({"CUDA_VISIBLE_DEVICES": "4,7"}):
        with pytest.raises(nbtasks.NbtasksError, match=r"3 workers with a GPU .* there are 2 GPUs"):
            client.start_workers(3, gpu=True)
        client.start_workers(2, gpu=True)
    release = str(tmp_path / "release")

    @task(worker_tags=["gpu"])
    def device(noted: str) -> str | None:
        tasks.hold(noted, release)
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    runs = [device.delay(str(tmp_path / f"noted{i}")) for i in range(2)]
    until(lambda: all((tmp_path / f"noted{i}").exists() for i in range(2)), "both run")
    Path(release).touch()

    assert sorted(run.result(timeout=60) for run in runs) == ["4", "7"]


def kernelspec(folder: Path, name: str, python: str, language: str = "python") -> None:
    place = folder / "kernels" / name
    place.mkdir(parents=True)
    spec = {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": name}
    (place / "kernel.json").write_text(json.dumps({**spec, "language": language, "env": {"OF": name}}))


def test_workers_are_of_the_kernel_that_is_named(client: Any, tmp_path: Path) -> None:
    other = tmp_path / "python-of-another-environment"
    other.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    other.chmod(0o700)
    kernelspec(tmp_path, "other", str(other))
    kernelspec(tmp_path, "bare", "/bin/false")
    kernelspec(tmp_path, "julia", "/bin/false", language="julia")

    with environment({"JUPYTER_PATH": str(tmp_path)}):
        client.start_workers(1, kernel="other")
        for name, words in {
            "nowhere": "no kernel 'nowhere'; there are: .*other",
            "bare": "kernel 'bare' .* cannot be a worker",
            "julia": "is of julia: workers execute Python",
        }.items():
            with pytest.raises(nbtasks.NbtasksError, match=words):
                client.start_workers(1, kernel=name)

    assert task(variable).delay("OF").result(timeout=60) == "other"


@pytest.mark.parametrize("function", [pid, pid_async])
def test_a_worker_is_replaced_after_so_many_runs(client: Any, function: Callable[..., Any]) -> None:
    client.start_workers(1, max_runs_per_worker=2)

    runs = [task(function).delay() for _ in range(6)]
    found = [run.result(timeout=60) for run in runs]

    assert [found.count(one) for one in dict.fromkeys(found)] == [2, 2, 2]
    assert all(len(run.attempts) == 1 for run in runs)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_sticky_runs_share_a_worker_and_a_namespace(client: Any, workers: Any, asynchronous: bool) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    word = "async " if asynchronous else ""
    exec(
        f"import os\nseen = 0\nlimit = 10\n{word}def counts():\n    global seen\n    seen += 1\n"
        "    return seen, limit, os.getpid()\n",
        namespace,
    )
    counts = task(namespace["counts"])

    mine = counts.with_options(sticky="mine")
    first = [mine.delay().result(timeout=60) for _ in range(3)]
    other = counts.with_options(sticky="other").delay().result(timeout=60)
    alone = counts.delay().result(timeout=60)
    namespace["limit"] = 20  # what the submitter changes is seen
    last = mine.delay().result(timeout=60)

    assert [seen for seen, _, _ in first] == [1, 2, 3]
    assert (other[0], alone[0]) == (1, 1)
    assert last[:2] == (4, 20)
    assert len({one[2] for one in [*first, last]}) == 1


def test_a_namespace_ends_with_its_worker(client: Any, workers: Any) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("import os\nn = 0\ndef up():\n    global n\n    n += 1\n    return n, os.getpid()\n", namespace)
    up = task(namespace["up"], sticky="s")
    assert up.delay().result(timeout=60)[0] == 1
    number, worker = up.delay().result(timeout=60)
    assert number == 2

    os.kill(worker, 9)

    number, other = up.delay().result(timeout=60)
    assert (number, other != worker) == (1, True)


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"env": {"A=B": "x"}}, ValueError, "not the name of a variable"),
        ({"env": {"A": 1}}, TypeError, "are strings, not 1"),
        ({"tags": "gpu"}, TypeError, "tags is a collection of strings"),
        ({"max_runs_per_worker": 0}, ValueError, "from 1 on"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_bad_wishes_are_refused_at_once(
    client: Any, wanted: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        client.start_workers(1, **wanted)
    assert client.status().pools == []


def test_the_command_line_takes_the_same_wishes(client: Any) -> None:
    refused = CliRunner().invoke(cli.main, ["worker", "--env", "novalue"])

    assert (refused.exit_code, "NAME=VALUE" in refused.output) == (2, True)
    assert all(
        word in CliRunner().invoke(cli.main, ["worker", "--help"]).output for word in ("--gpu", "--tag")
    )


def test_options_of_workers_mean_nothing_in_this_process() -> None:
    with pytest.raises(TypeError, match="sticky applies to background runs only"):
        task(pid).with_options(sticky="s").submit()
    with pytest.raises(TypeError, match="worker_tags is a collection of strings"):
        task(pid, worker_tags="gpu")
