"""`python -m tests.soak`: runs that fail, leave and are killed, under a broker and pools that are killed.

Whatever is killed by SIGKILL: every run that was accepted ends, every Completed one has the right value, and
no attempt that started ran twice.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbtasks
from nbtasks import task
from tests.homes import fresh_home
from tests.system.tasks import lines, note

WORKERS = 8
SETTLE_S = 240.0  # for all that is left to end, once nothing is killed any more
VICTIMS = ["worker"] * 7 + ["broker"] * 2 + ["pool"]  # one round, in any order
EXITS_EVERY = 37  # of the runs, one leaves the interpreter
BATCH = 20
OPEN_MAX = 300  # runs that have not ended, beyond which nothing new is submitted


def work(n: int, noted: str) -> int:
    """Take some milliseconds; fail one time in five; leave the interpreter now and then."""
    run = nbtasks.current_run()
    assert run is not None
    note(noted, f"{run.run} {run.attempt}")
    time.sleep(random.uniform(0.0, 0.05))
    if n % EXITS_EVERY == 0:
        sys.exit(3)
    if random.random() < 0.2:
        raise ValueError(f"bad luck with {n}")
    return n * n


async def work_async(n: int, noted: str) -> int:
    return work(n, noted)


class Soak:
    """One home, one submitter, one who kills."""

    def __init__(self, client: Any, rng: random.Random, noted: str, say: Callable[[str], None]) -> None:
        self._client = client
        self._rng = rng
        self._noted = noted
        self._say = say
        options: dict[str, Any] = {"retries": 30, "crash_retries": 50}
        self._tasks = [task(work, **options), task(work_async, **options)]
        self.runs: dict[Any, int] = {}  # accepted -> n
        self.killed: Counter[str] = Counter()
        self._n = 0
        self._victims: list[str] = []

    def go(self, seconds: float) -> None:
        """Submit and kill for that long, then let everything end."""
        self._man()
        ends_at, kill_at = time.monotonic() + seconds, time.monotonic() + 2.0
        while time.monotonic() < ends_at:
            self._submit()
            if kill_at <= time.monotonic():
                kill_at = time.monotonic() + self._rng.uniform(0.3, 1.2)
                self._kill()
            time.sleep(0.05)
            self._say(f"{len(self.runs)} runs, killed {dict(self.killed)}")
        until = time.monotonic() + SETTLE_S
        while (left := self._open()) and time.monotonic() < until:
            self._man()
            nbtasks.wait(left, 5)
            self._say(f"{len(self._open())} of {len(self.runs)} runs are left")

    def _open(self) -> list[Any]:
        return [run for run in self.runs if run._state_type is None]

    def _submit(self) -> None:
        if len(self._open()) > OPEN_MAX:
            return
        for _ in range(BATCH):
            self._n += 1
            chosen = self._tasks[self._n % 2]
            try:
                run = chosen.delay(self._n, self._noted)
            except nbtasks.SubmitUnknown as error:
                # it tells whose fate is not known: if it is recorded, it counts
                with suppress(nbtasks.UnknownRun, nbtasks.BrokerUnavailable):
                    self.runs[nbtasks.get_run(error.run_id)] = self._n
            except nbtasks.BrokerUnavailable:
                return
            else:
                self.runs[run] = self._n

    def _kill(self) -> None:
        if not self._victims:
            self._victims = self._rng.sample(VICTIMS, len(VICTIMS))
        kind = self._victims.pop()
        try:
            status = self._client.status()
            victims = {
                "worker": [worker.pid for worker in status.workers],
                "broker": [status.broker_pid],
                "pool": [pool.pid for pool in status.pools],
            }[kind]
            self._man(status)
        except nbtasks.NbtasksError:
            return  # it was killed just now
        if victims:
            with suppress(ProcessLookupError):
                os.kill(self._rng.choice(victims), signal.SIGKILL)
                self.killed[kind] += 1

    def _man(self, status: Any = None) -> None:
        """See that there is a pool: who kills one has to start another."""
        with suppress(nbtasks.NbtasksError):
            if not (status or self._client.status()).pools:
                self._client.start_workers(WORKERS)

    def problems(self) -> list[str]:
        """What must not be, in words."""
        found = [f"run {run.id} has not ended: {run.state}" for run in self._open()]
        began = Counter(lines(self._noted))
        found += [f"attempt {attempt} ran {times} times" for attempt, times in began.items() if times > 1]
        for run, n in self.runs.items():
            kind = run.state.type.value
            if kind == "COMPLETED" and run.result() != n * n:
                found.append(f"run {run.id} of {n} gave {run.result()}")
            wanted = "CRASHED" if n % EXITS_EVERY == 0 else "COMPLETED"
            if kind != wanted:
                found.append(f"run {run.id} of {n} ended {run.state}")
        return found


def soak(seconds: float, seed: int, say: Callable[[str], None] = lambda text: None) -> tuple[Soak, list[str]]:
    """Do it in a home of its own; returns what was done, and what went wrong."""
    with fresh_home() as home, tempfile.TemporaryDirectory() as folder, nbtasks.connect(home) as client:
        done = Soak(client, random.Random(seed), str(Path(folder) / "noted"), say)
        done.go(seconds)
        return done, done.problems()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    last = [0.0]

    def say(text: str) -> None:
        if time.monotonic() > last[0] + 1.0:
            last[0] = time.monotonic()
            print(f"\r{text:<100}", end="", file=sys.stderr, flush=True)

    logging.getLogger("nbtasks").setLevel(logging.WARNING)
    done, problems = soak(options.seconds, seed, say)
    print(f"\nseed {seed}: {len(done.runs)} runs, killed {dict(done.killed)}, {len(problems)} problems")
    print("\n".join(problems[:20]))
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
