"""What runs put out in real workers: complete when they are over, in order, and heard while they run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nbtasks import Client, CrashedRun, task
from nbtasks.core.messages import RunChanged
from tests.system.waiting import until

SHARES_WORKERS = True
pytestmark = pytest.mark.feature("N4")


@task
def prints_and_waits(folder: str) -> None:
    import time
    from pathlib import Path

    for number in range(3):
        print("part", number)
        while not (Path(folder) / str(number)).exists():
            time.sleep(0.01)


def test_the_output_of_a_running_run_is_heard_part_by_part(
    client: Client, workers: Any, tmp_path: Path
) -> None:
    heard: list[RunChanged] = []
    run = prints_and_waits.delay(str(tmp_path))
    observation = client.observe_run(str(run.id), lambda seen: heard.append(seen) if seen else None)

    chunks: list[bytes] = []
    for number in range(3):
        until(lambda n=number: heard[-1:] and heard[-1].chunks > n, f"chunk {number} is told of")  # type: ignore[misc]
        chunks += client.output(str(run.id), len(chunks))
        assert [json.loads(chunk)[0]["text"] for chunk in chunks][-1] == f"part {number}\n"
        (tmp_path / str(number)).touch()
    run.result(timeout=60)
    until(lambda: heard[-1].state == "Completed", "the end is told")
    observation.close()

    assert heard[-1].chunks == len(chunks) == 3
    assert client.output(str(run.id), len(chunks)) == []


# -- complete and in order ------------------------------------------------------------------------------


@task
def prints_lines(lines: int) -> None:
    for number in range(lines):
        print("line", number)


def test_100_000_lines_arrive_in_order_and_none_is_lost(client: Client, workers: Any) -> None:
    run = prints_lines.delay(100_000)

    run.result(timeout=120)

    assert run.logs == "".join(f"line {number}\n" for number in range(100_000))


@task
def prints_and_returns(number: int) -> int:
    print("the last word of", number)
    return number


def test_what_is_printed_just_before_the_return_is_there_when_the_result_is(
    client: Client, workers: Any
) -> None:
    for number in range(50):
        run = prints_and_returns.delay(number)
        assert run.result(timeout=60) == number
        assert run.logs == f"the last word of {number}\n"


@task
def puts_out_in_every_way(rounds: int) -> None:
    import ctypes
    import logging
    import subprocess
    import sys
    import threading
    import warnings

    from IPython.display import display

    libc = ctypes.CDLL(None)
    log = logging.getLogger("of.a.test")
    warnings.simplefilter("always")
    for number in range(rounds):
        print("print", number)
        os.write(1, f"write {number}\n".encode())
        subprocess.run(["echo", "child", str(number)], check=True)
        libc.printf(b"libc %d\n", ctypes.c_int(number))
        libc.fflush(None)
        thread = threading.Thread(target=print, args=("thread", number))
        thread.start()
        thread.join()
        log.warning("logging %d", number)
        warnings.warn(f"warning {number}", stacklevel=1)
        print("stderr", number, file=sys.stderr)
        display(f"display {number}")
    libc.printf(b"libc, not flushed\n")


def test_whoever_puts_something_out_it_is_kept_in_its_order(client: Client, workers: Any) -> None:
    sources = ("print", "write", "child", "libc", "thread", "logging", "warning", "stderr", "display")
    run = puts_out_in_every_way.delay(5)

    run.result(timeout=60)

    at = {(name, n): run.logs.find(f"{name} {n}") for name in sources for n in range(5)}
    assert -1 not in at.values(), at
    in_one_thread = [at[name, n] for n in range(5) for name in sources]
    assert in_one_thread == sorted(in_one_thread)
    assert run.logs.endswith("libc, not flushed\n")


@task
def draws() -> None:
    import matplotlib.pyplot as plt

    print("before")
    plt.plot([1, 2])
    plt.show()
    print("after")


def test_a_figure_is_kept_where_it_was_shown(client: Client, workers: Any) -> None:
    run = draws.delay()

    run.result(timeout=60)

    assert [output["output_type"] for output in run.output] == ["stream", "display_data", "stream"]
    assert run.output[1]["data"]["image/png"]


# -- questions --------------------------------------------------------------------------------------------


def asks_for_a_line() -> str:
    return input("? ")


def brings_its_answers() -> str:
    import io
    import sys

    sys.stdin = io.StringIO("the answer\n")
    return input("? ")


def asks_for_a_password() -> str:
    import getpass

    return getpass.getpass()


def asks_a_debugger() -> None:
    breakpoint()


@pytest.mark.parametrize("function", [asks_for_a_line, asks_for_a_password, asks_a_debugger])
def test_a_task_that_asks_somebody_is_told_what_to_do(
    client: Client, workers: Any, function: Callable[[], Any]
) -> None:
    with pytest.raises(RuntimeError, match="nobody can answer in a run"):
        task(function).delay().result(timeout=60)


def test_a_task_may_bring_answers_of_its_own(client: Client, workers: Any) -> None:
    assert task(brings_its_answers).delay().result(timeout=60) == "the answer"


# -- bytes ------------------------------------------------------------------------------------------------


def writes_bytes() -> list[object]:
    import io
    import os
    import sys

    print("a", end="")
    written = sys.stdout.buffer.write(memoryview(b"b\xff"))
    print("c", end="")
    with io.TextIOWrapper(sys.stdout.buffer, "utf-8") as wrapped:
        wrapped.write("é")
    print("d", file=sys.stderr, end="")
    sys.stderr.buffer.write(b"e")
    if not (child := os.fork()):
        sys.stdout.buffer.write(b"\nof a child\n")
        os._exit(0)
    os.waitpid(child, 0)
    print("last")
    return [written, sys.stdout.buffer.writable(), sys.stdout.buffer.closed]


def test_bytes_that_are_written_below_a_stream_are_its_text(client: Client, workers: Any) -> None:
    run = task(writes_bytes).delay()

    assert run.result(timeout=60) == [2, True, False]
    texts = dict.fromkeys(("stdout", "stderr"), "")
    for output in run.output:
        texts[output["name"]] += output["text"]
    assert texts == {"stdout": "ab\N{REPLACEMENT CHARACTER}cé\nof a child\nlast\n", "stderr": "de"}


def test_a_text_is_no_bytes(client: Client, workers: Any) -> None:
    def writes_text() -> None:
        import sys

        sys.stdout.buffer.write("a")  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="bytes-like"):
        task(writes_text).delay().result(timeout=60)


# -- children -------------------------------------------------------------------------------------------


@task
def forks() -> None:
    print("parent, before")
    child = os.fork()
    if not child:
        print("child")
        os._exit(0)
    os.waitpid(child, 0)
    print("parent, after")


def _prints(number: int) -> int:
    print("part", number)
    return number


@task
def has_a_pool_of_processes(method: str) -> list[int]:
    import multiprocessing

    with multiprocessing.get_context(method).Pool(2) as pool:
        values = pool.map(_prints, range(4))
        # the end of the block kills its processes, with what Python still holds back of their output
        pool.close()
        pool.join()
    return values


def test_what_a_forked_child_prints_belongs_to_the_run(client: Client, workers: Any) -> None:
    run = forks.delay()

    run.result(timeout=60)

    assert run.logs == "parent, before\nchild\nparent, after\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_a_pool_of_processes_prints_belongs_to_the_run(
    client: Client, workers: Any, method: str
) -> None:
    run = has_a_pool_of_processes.delay(method)

    assert run.result(timeout=120) == [0, 1, 2, 3]

    assert sorted(run.logs.splitlines()) == [f"part {number}" for number in range(4)]


# -- last words -----------------------------------------------------------------------------------------


def _segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def _exit() -> None:
    os._exit(7)


def _kill() -> None:
    os.kill(os.getpid(), 9)


@pytest.mark.parametrize("end", [_segfault, _exit, _kill])
def test_the_last_words_before_a_death_are_kept(
    client: Client, workers: Any, end: Callable[[], None]
) -> None:
    @task
    def speaks_and_dies() -> None:
        for number in range(1000):
            print("word", number)
        os.write(2, b"written\n")
        print("the last word")
        end()

    run = speaks_and_dies.delay()

    with pytest.raises(CrashedRun):
        run.result(timeout=60)
    words = "".join(f"word {number}\n" for number in range(1000))
    assert run.logs.startswith(words + "written\nthe last word\n")


# -- bars and widgets -----------------------------------------------------------------------------------


@task
def counts(module: str) -> None:
    import importlib

    bars = importlib.import_module(module)
    for _ in bars.tqdm(range(3), desc="outer"):
        for number in bars.tqdm(range(50), desc="inner", leave=False):
            if number == 25:
                print("between")


@pytest.mark.parametrize("module", ["tqdm", "tqdm.auto", "tqdm.notebook"])
def test_bars_are_seen_as_lines_of_text(client: Client, workers: Any, module: str) -> None:
    run = counts.delay(module)

    run.result(timeout=60)

    assert {output["output_type"] for output in run.output} == {"stream"}
    assert run.logs.count("between\n") == 3
    assert "\r" not in run.logs
    assert "outer: 100%" in run.logs
    assert len(run.logs.splitlines()) < 20
    assert "widget" not in run.logs.lower()


@task
def shows_a_widget() -> None:
    import ipywidgets
    from IPython.display import display

    slider = ipywidgets.IntSlider(value=3)
    display(slider)
    slider.value = 4
    display(ipywidgets.HTML("x"))


def test_of_a_widget_its_text_is_kept_and_said_once_that_it_is_not_live(client: Client, workers: Any) -> None:
    run = shows_a_widget.delay()

    run.result(timeout=60)

    assert run.logs.count("live widgets are not supported") == 1
    assert run.logs.count("IntSlider(value=3") == 1
    assert run.logs.count("HTML(value='x')") == 1
    assert not any("widget" in kind for output in run.output for kind in output.get("data", {}))


@task
def prints_a_wide_frame() -> None:
    import pandas as pd

    print(pd.DataFrame([range(1000, 1030)]))


def test_a_wide_frame_is_printed_as_in_a_notebook(client: Client, workers: Any) -> None:
    run = prints_a_wide_frame.delay()

    run.result(timeout=60)

    # twenty columns in lines of 80 characters, where a terminal has as many as one line takes
    assert "1009" in run.logs
    assert "1020" in run.logs
    assert max(map(len, run.logs.splitlines())) <= 80


@task
def asks_whether_it_is_in_a_notebook() -> list[bool]:
    shell = get_ipython()  # type: ignore[name-defined]  # noqa: F821
    return ["zmq" in str(type(shell)).lower(), hasattr(shell, "kernel")]


def test_a_task_may_ask_whether_it_is_in_a_notebook(client: Client, workers: Any) -> None:
    assert asks_whether_it_is_in_a_notebook.delay().result(timeout=60) == [True, True]


@task
def asks_what_plotly_is_told() -> str | None:
    return os.environ.get("PLOTLY_RENDERER")


@pytest.mark.skipif("VSCODE_PID" in os.environ, reason="there plotly knows better")
def test_plotly_is_told_to_draw_as_in_jupyter(client: Client, workers: Any) -> None:
    assert asks_what_plotly_is_told.delay().result(timeout=60) == "plotly_mimetype"
