"""Notebooks as tasks in real workers: what they are given and give, and that no kernel outlives its run."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbtasks import Client, CrashedRun, FailedCell, TimedOut, notebook_task, task
from tests.notebook_files import write_notebook
from tests.system import tasks
from tests.system.waiting import until

SHARES_WORKERS = True

PIXEL = base64.b64encode(b"of a figure").decode()
DEFAULTS = ("depth = 1\nfolder = ''", "parameters")
STARTED = "import os; print('kernel', os.getpid(), 'of', os.getppid(), flush=True)"
WAITS = """
import time
try:
    print('waits', flush=True)
    time.sleep(600)
finally:
    print('the last word', flush=True)
"""
STUBBORN = """
import time
while True:
    try:
        print('waits', flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        print('the last word', flush=True)
"""
double = task(tasks.double)


def started(run: Any) -> tuple[int, int]:
    """The pids of its kernel and of its worker."""
    pattern = r"kernel (\d+) of (\d+)\nwaits"
    found = until(lambda: re.search(pattern, run.logs), "its kernel is there, and waits")
    return int(found[1]), int(found[2])


def plain(text: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.feature("S6")
def test_a_run_is_given_parameters_and_its_output_comes_as_the_cells_go(
    client: Client, workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_notebook(
        tmp_path / "report.ipynb",
        DEFAULTS,
        "import os, sys, time\nprint('depth', depth, os.getcwd())\nprint('error', file=sys.stderr)",
        f"from IPython.display import display\ndisplay({{'image/png': '{PIXEL}'}}, raw=True)",
        "while not os.path.exists(folder + '/go'):\n    time.sleep(0.01)",
        "print('after')\ndepth * 10",
    )

    run = notebook_task(path).delay(depth=double.delay(2), folder=str(tmp_path))

    until(lambda: "image/png" in json.dumps(run.output), "the figure is told of")
    until(lambda: run.progress and run.progress.done == 4, "cells are counted")
    assert (run.progress.done, run.progress.total, run.state.name) == (4, 6, "Running")
    (tmp_path / "go").touch()
    done = run.result(timeout=60)

    kinds = [(out["output_type"], out.get("name", "")) for out in run.output]
    assert kinds == [
        ("stream", "stdout"),
        ("stream", "stderr"),
        ("display_data", ""),
        ("stream", "stdout"),
        ("display_data", ""),
    ]
    assert run.output[0]["text"] == f"depth 4 {tmp_path}\n"
    assert run.output[4]["data"] == {"text/plain": "40"}
    assert run.progress.done == 6
    done.save("out.ipynb")
    cells = json.loads(Path("out.ipynb").read_text())["cells"]
    assert cells[2]["source"] == ["# Parameters\n", "depth = 4\n", f"folder = {str(tmp_path)!r}"]
    assert cells[4]["outputs"][0]["data"]["image/png"] == PIXEL
    assert cells[6]["outputs"][-1]["data"]["text/plain"] == ["40"]
    assert "earlier" not in str(done.notebook)


def test_a_cell_that_raises_or_ends_its_kernel_fails_the_run_and_the_copy_is_kept(
    client: Client, workers: Any, tmp_path: Path
) -> None:
    path = write_notebook(
        tmp_path / "report.ipynb",
        ("1 / 0", "raises-exception"),
        "print('before')",
        "def f(text):\n    raise ValueError(text)\nf('it is\\nbad')",
        "print('after')",
        kernel="of another machine",
    )

    dies = write_notebook(tmp_path / "dies.ipynb", "print('before')", "import os; os._exit(3)", "1")

    dead = notebook_task(dies).delay()
    run = notebook_task(path, retries=1, retry_delay_seconds=0).delay()
    error = run.exception(timeout=60)

    assert isinstance(error, FailedCell)
    assert run.state.message == "FailedCell: ValueError: it is bad (cell 3 of 4)"
    assert (error.ename, error.evalue) == ("ValueError", "it is\nbad")
    _, first, second, third, fourth = error.notebook.notebook["cells"]
    assert first["outputs"][0]["ename"] == "ZeroDivisionError"
    assert second["outputs"][0]["text"] == "before\n"
    assert third["outputs"][0]["ename"] == "ValueError"
    assert (fourth["outputs"], fourth["execution_count"]) == ([], None)
    assert len(run.attempts) == 2
    logs = plain(run.logs)
    assert "there is no kernel 'of another machine' here; the notebook runs in" in logs
    assert logs.count("ZeroDivisionError: division by zero") == 2  # one in each attempt
    assert "raise ValueError(text)" in logs
    assert logs.count("bad\nFailedCell: ValueError") == 2
    assert "raise ValueError(text)" in str(error.__cause__)
    error = dead.exception(timeout=60)
    assert isinstance(error, FailedCell)
    assert str(error) == "the kernel died (cell 2 of 3)"
    assert error.notebook.notebook["cells"][1]["outputs"][0]["text"] == "before\n"


def test_a_cancel_interrupts_the_cell_and_ends_the_kernel(
    client: Client, workers: Any, tmp_path: Path
) -> None:
    obedient = write_notebook(tmp_path / "obedient.ipynb", STARTED, WAITS, "print('not me')")
    stubborn = write_notebook(tmp_path / "stubborn.ipynb", STARTED, STUBBORN, "print('not me')")
    runs = [notebook_task(path, grace_s=2.0).delay() for path in (obedient, stubborn)]
    pids = [started(run) for run in runs]

    for run in runs:
        run.cancel()

    for run in runs:
        assert run.wait(timeout=60).name == "Cancelled"
        assert "the last word" in run.logs
        assert "not me" not in run.logs
    assert "time.sleep(600)" in plain(runs[0].logs)  # where it was
    until(lambda: all(is_gone(kernel) for kernel, _ in pids), "the kernels are gone")
    assert not any(is_gone(worker) for _, worker in pids)


def test_a_time_out_may_come_while_the_kernel_starts(client: Client, workers: Any, tmp_path: Path) -> None:
    path = write_notebook(tmp_path / "report.ipynb", STARTED, WAITS)
    pids = [worker.pid for worker in client.status().workers]

    run = notebook_task(path, timeout_seconds=0.4).delay()

    assert isinstance(run.exception(timeout=60), TimedOut)
    assert "Cancelled" not in run.logs
    kernels = [child for pid in pids for child in psutil.Process(pid).children()]
    until(lambda: all(is_gone(kernel.pid) for kernel in kernels), "no kernel is left")
    assert not any(map(is_gone, pids))


def test_a_kernel_does_not_outlive_a_worker_that_is_killed(
    client: Client, workers: Any, tmp_path: Path
) -> None:
    run = notebook_task(write_notebook(tmp_path / "report.ipynb", STARTED, WAITS)).delay()
    kernel, worker = started(run)

    os.kill(worker, signal.SIGKILL)

    assert isinstance(run.exception(timeout=60), CrashedRun)
    until(lambda: is_gone(kernel), "the kernel is gone")


def test_a_plain_call_executes_it_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_notebook(tmp_path / "report.ipynb", DEFAULTS, "import os\nprint(depth, os.getppid())", "2")

    done = notebook_task(path)(depth=3)

    assert capsys.readouterr().out == f"3 {os.getpid()}\n2\n"
    assert done.notebook["metadata"]["language_info"]["version"] == sys.version.split()[0]
