"""What is measured, each for one system: a function that takes it and gives figures by name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.bench import work
from tests.bench.systems import System, Unsupported

Figures = dict[str, float]
clock = time.perf_counter

WORKERS = 2
SUBMITS = 4000
MAPPED = 20_000
TRIPS = 500
BLOCKS = 1000
QUEUED = 100_000
SURVIVORS = 1000
LONG_S = 10.0  # of trips with one array
PAUSE_S = 0.3  # of rest before what must not be disturbed by what came before


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


# -- with workers that are up -----------------------------------------------------------------------------


def warm(system: System) -> None:
    for handle in [system.submit(work.noop, i) for i in range(200)]:
        system.result(handle)


def single_submits(system: System) -> Figures:
    """W1: submitted one by one, then all results."""
    began = clock()
    handles = [system.submit(work.noop, i) for i in range(SUBMITS)]
    assert [system.result(handle) for handle in handles] == list(range(SUBMITS))
    return {"W1 single submits, runs/s": SUBMITS / (clock() - began)}


def mapped(system: System) -> Figures:
    """W1b: the system's own bulk call."""
    system.map(work.noop, range(MAPPED // 10))
    began = clock()
    assert system.map(work.noop, range(MAPPED)) == list(range(MAPPED))
    return {"W1b map, runs/s": MAPPED / (clock() - began)}


def round_trips(system: System) -> Figures:
    """W2: one after the other, nothing else to do."""
    times_ms = trips_ms(system, TRIPS)
    return {
        "W2 round trip p50, ms": quantile(times_ms, 0.5),
        "W2 round trip p99, ms": quantile(times_ms, 0.99),
    }


def trips_ms(system: System, number: int) -> list[float]:
    for i in range(50):
        system.result(system.submit(work.noop, i))
    time.sleep(PAUSE_S)
    times_ms = []
    for i in range(number):
        began = clock()
        assert system.result(system.submit(work.noop, i)) == i
        times_ms.append((clock() - began) * 1e3)
    return times_ms


def blocking(system: System) -> Figures:
    """W3: how long the submit call takes."""
    times_us, handles = [], []
    for i in range(BLOCKS):
        began = clock()
        handles.append(system.submit(work.noop, i))
        times_us.append((clock() - began) * 1e6)
    for handle in handles:
        system.result(handle)
    return {"W3 submit blocks p50, µs": quantile(times_us, 0.5)}


def arrays(system: System) -> Figures:
    """W4: an array as argument and as result.

    A virtual machine gets its memory from the host when it is first touched, which takes ten times as long
    as any copy; so as much as a trip needs is touched and freed before each one.
    """
    import numpy

    figures: Figures = {}
    for size_mb, times in ((1, 20), (100, 3), (1000, 2)):
        data = numpy.random.default_rng(0).random(size_mb * 125_000)
        total = data[::512].sum()
        seconds = []
        for _ in range(times + 1):
            numpy.ones(4 * data.size)
            began = clock()
            back = system.result(system.submit(work.echo, data))
            assert back.shape == data.shape
            assert back[::512].sum() == total
            seconds.append(clock() - began)
            del back
            if sum(seconds) > LONG_S:
                break
        # without the first one, unless that takes too long to be repeated
        figures[f"W4 echo of {size_mb} MB, s"] = quantile(seconds[1:] or seconds, 0.5)
    return figures


STANDING: tuple[Callable[[System], Figures], ...] = (single_submits, mapped, round_trips, blocking, arrays)


def standing(system: System, workloads: Sequence[Callable[[System], Figures]]) -> Figures:
    """Workloads that share one started system."""
    system.start(WORKERS)
    warm(system)
    figures: Figures = {}
    for workload in workloads:
        figures |= workload(system)
    return figures


# -- with a start of their own ----------------------------------------------------------------------------


def first_cell(system: System) -> Figures:
    """What a user's first cell does, in a fresh interpreter."""
    system.start(1)
    assert system.result(system.submit(work.noop, 7)) == 7
    print("done", flush=True)
    return {}


def first_result(name: str) -> Figures:
    """W5: nothing to the first result, seen from outside."""
    began = clock()
    command = [sys.executable, "-m", "tests.bench.child", name, "first_cell"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        line = child.stdout.readline()
        seconds = clock() - began
        child.stdout.read()  # until it has tidied up
    if line.strip() != "done":
        raise Unsupported("the cold start gave no result")
    return {"W5 nothing to first result, s": seconds}


def queue(system: System) -> Figures:
    """W6: a backlog without workers, then its drain beside that of a short one."""
    system.start(0)
    system.enqueue(work.noop, range(100))
    broker = psutil.Process(system.broker_pid())
    before = broker.memory_info().rss
    began = clock()
    handles = system.enqueue(work.noop, range(QUEUED))
    enqueue_s = clock() - began
    time.sleep(1.0)  # the last commit's pages
    grown = broker.memory_info().rss - before
    began = clock()
    system.add_workers(WORKERS)
    system.result(handles[0])
    first_s = clock()
    for handle in handles:
        system.result(handle)
    drained = QUEUED / (clock() - first_s)
    del handles
    small = max(QUEUED // 10, 100)
    began = clock()
    system.map(work.noop, range(small))
    against_empty = drained / (small / (clock() - began))
    return {
        f"W6 {QUEUED:,} queued, bytes a run in the broker": grown / QUEUED,
        "W6 enqueued/s": QUEUED / enqueue_s,
        "W6 drained/s": drained,
        "W6 drain against a map on an empty queue": against_empty,
    }


def killed_worker(system: System) -> Figures:
    """W7: SIGKILL of the process that runs the task, to the start of its next attempt."""
    system.start(WORKERS)
    warm(system)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "starts")
        handle = system.submit_again_if_lost(work.hold, path, 60.0)
        victim = int(_lines(path, 1)[0].split()[1])
        time.sleep(PAUSE_S)
        known: list[float] = []
        killed = time.time()
        os.kill(victim, signal.SIGKILL)
        again = float(_lines(path, 2)[1].split()[0]) - killed
        threading.Thread(target=handle.cancel, daemon=True).start()
        handle.wait(30)

        lost = system.submit(work.hold, os.path.join(folder, "other"), 60.0)
        victim = int(_lines(os.path.join(folder, "other"), 1)[0].split()[1])
        time.sleep(PAUSE_S)
        killed = clock()
        os.kill(victim, signal.SIGKILL)
        lost.wait(30)
        known.append(clock() - killed)
    return {"W7 worker killed to running again, s": again, "W7 worker killed to known, s": known[0]}


def killed_broker(system: Any) -> Figures:
    """W8: SIGKILL of the broker with runs queued; it is back at the first answer."""
    if not hasattr(system, "kill_broker"):
        raise Unsupported("there is no broker")
    system.start(0)
    handles = system.enqueue(work.noop, range(SURVIVORS))
    system.kill_broker()
    began = clock()
    system.broker_pid()  # asks the next one, which this starts
    back_s = clock() - began
    system.add_workers(WORKERS)
    survived = sum(system.result(handle) == i for i, handle in enumerate(handles))
    return {"W8 broker killed, runs that survive": survived, "W8 broker killed, back after s": back_s}


def _lines(path: str, number: int) -> list[str]:
    """The lines of a file once there are so many."""
    ends_at = clock() + 60
    while clock() < ends_at:
        lines = Path(path).read_text().splitlines() if os.path.exists(path) else []
        if len(lines) >= number:
            return lines
        time.sleep(0.0005)
    raise Unsupported(f"no line number {number} within 60 s")


WORKLOADS: dict[str, Callable[[Any], Figures]] = {
    "first_cell": first_cell,
    "queue": queue,
    "killed_worker": killed_worker,
    "killed_broker": killed_broker,
}
