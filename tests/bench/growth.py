"""What work costs once there is much of it: `python -m tests.bench.growth`.

Three homes side by side, each with one worker: an empty one, one whose journal holds a million finished
runs, and one with 100,000 runs in the queue. The same work goes to each in turns, so that what else
the machine does hits all of them; the ratios to the empty home are what counts. Then: the memory of a
queued run, the rate of enqueueing, a restart, and round trips while a million runs are pruned.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from os import kill
from pathlib import Path
from typing import Any

import psutil

import nbtasks
from nbtasks import task
from tests.homes import environment, stop_broker, variables
from tests.journals import DAY_S, fill, fill_queue

ROUND_TRIPS = 200
MAP_RUNS = 2000


@task(log_prints=False)
def nothing(x: int = 0) -> int:
    return x


class Home:
    """A home with a broker and one worker, or a queue that nobody serves."""

    def __init__(self, name: str, base: Path) -> None:
        self.name = name
        self.base = base
        self.trips_s: list[float] = []
        self.maps_s: list[float] = []
        base.mkdir()
        (base / "h").mkdir(mode=0o700)

    @property
    def journal(self) -> Path:
        return self.base / "h" / "journal.db"

    @contextmanager
    def use(self, retention_days: str = "0") -> Iterator[Any]:
        settings = {"NBTASKS_RETENTION_DAYS": retention_days, "NBTASKS_RETENTION_BYTES": "0"}
        with environment({**variables(self.base), **settings}), nbtasks.connect(self.base / "h") as client:
            yield client

    def round_trips(self, number: int) -> list[float]:
        return [timed(lambda: nothing.delay(1).result(timeout=60)) for _ in range(number)]

    def work(self) -> None:
        with self.use():
            nothing.delay(0).result(timeout=60)
            self.trips_s += self.round_trips(ROUND_TRIPS)
            self.maps_s.append(timed(lambda: nothing.map(range(MAP_RUNS), deferred=True).result(timeout=120)))

    def stop(self) -> None:
        with environment(variables(self.base)):
            stop_broker(self.base / "h")


def timed(do: Callable[[], Any]) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def say(*words: object) -> None:
    print(*words, flush=True)


def compare(homes: list[Home], rounds: int) -> None:
    for i in range(rounds):
        for home in homes if i % 2 else homes[::-1]:
            home.work()
    empty = homes[0]
    for home in homes:
        p50, p99 = (1000 * quantile(home.trips_s, part) for part in (0.5, 0.99))
        rate = MAP_RUNS / statistics.median(home.maps_s)
        against = quantile(empty.trips_s, 0.5) / quantile(home.trips_s, 0.5)
        against_map = statistics.median(empty.maps_s) / statistics.median(home.maps_s)
        say(
            f"{home.name:>18}: round trip p50 {p50:.2f} ms, p99 {p99:.2f} ms (x {against:.2f}); "
            f"map {rate:,.0f} runs/s (x {against_map:.2f})"
        )


def restart(home: Home) -> None:
    with home.use() as client:
        pid = client.status().broker_pid
        kill(pid, signal.SIGKILL)
        took_s = timed(lambda: client.status())
        say(f"{home.name:>18}: after kill -9 of the broker back in {took_s:.2f} s")


def queue_memory(home: Home, number: int) -> None:
    """Runs that nobody takes yet: what one costs in the broker, and how fast they come in."""
    with home.use() as client:
        process = psutil.Process(client.status().broker_pid)
        # until the cache of the journal's pages, which is bounded, is full
        nothing.map(range(number), deferred=True)
        before = process.memory_info().rss
        took_s = timed(lambda: nothing.map(range(number), deferred=True))
        grown = process.memory_info().rss - before
        say(
            f"{home.name:>18}: {grown / number:,.0f} bytes of broker per queued run; "
            f"enqueued {number / took_s:,.0f}/s"
        )
        start = time.perf_counter()
        client.start_workers(1)
        while client.status().counts["PENDING"]:
            time.sleep(0.05)
        drained_s = time.perf_counter() - start
        say(f"{home.name:>18}: drained {2 * number / drained_s:,.0f}/s, a worker's start included")


def prune(home: Home) -> None:
    with home.use() as client:
        quiet = home.round_trips(500)
        done: list[tuple[int, int]] = []
        start = time.perf_counter()
        thread = threading.Thread(target=lambda: done.append(client.prune(older_s=30 * DAY_S)))
        thread.start()
        busy: list[float] = []
        while thread.is_alive() and len(busy) < 3000:
            busy += home.round_trips(50)
        under_load_s = time.perf_counter() - start
        thread.join()
        say(
            f"{home.name:>18}: round trip p50/p99/most {words(quiet)}, during a prune {words(busy)} ms; "
            f"pruned {done} in {time.perf_counter() - start:.0f} s, {under_load_s:.0f} s of it under load"
        )


def words(values: list[float]) -> str:
    return "/".join(f"{1000 * quantile(values, part):.2f}" for part in (0.5, 0.99, 1.0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    logging.getLogger("nbtasks.tasks").setLevel(logging.WARNING)
    base = Path(tempfile.mkdtemp(prefix="nbg-", dir="/tmp"))
    names = ("empty", f"{arguments.finished:,} finished", f"{arguments.queued:,} queued", "filling")
    homes = [Home(name, base / str(i)) for i, name in enumerate(names)]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        for home in homes:
            stack.callback(home.stop)
        say(f"fills the journals under {base}")
        fill(homes[1].journal, arguments.finished)
        fill_queue(homes[2].journal, arguments.queued)
        for home in homes[:3]:
            with home.use() as client:
                client.start_workers(1)
        compare(homes[:3], arguments.rounds)
        for home in homes[:3]:
            restart(home)
        queue_memory(homes[3], arguments.queued)
        prune(homes[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
