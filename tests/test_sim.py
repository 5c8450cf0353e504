"""Many bad days: the four real machines under a network, processes and clocks that fail.

A failing seed is the bug report: `python -m tests.sim SEED` prints that day.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.world import simulate

SEEDS = 600
CHUNK = 100

# Words of the trace: a swarm in which one of these never happens proves less than it seems to.
FAULTS = (
    "broker dies before commit", "broker dies after commit", "broker dies while sending",
    "broker dies at a random moment", "broker stops", "killed by SIGKILL", "killed by SIGTERM",
    "exit status 3", "stalled:", "reconnects:", "the wall clock jumps", "is asked to drain", "Stranger(",
    "Rejected(", "Refused(", "Missing(", "Closed(", "Interrupt(", "cancel)", "timeout)", "stale)", "Kill(",
    "Revoke(", "Returned(", "Exited(", "ExitNoted(", "Disband(", "Leave(", "Left(", "Draining(", "is gone",
    "last words", "HelloClient(2)", "Value(",
)  # fmt: skip


@pytest.mark.parametrize("start", range(0, SEEDS, CHUNK))
def test_nothing_that_must_not_happen_happens(start: int) -> None:
    for seed in range(start, start + CHUNK):
        simulate(seed)


def test_the_same_seed_gives_the_same_day_in_any_process() -> None:
    traces = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-m", "tests.sim", "3"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        traces.append(done.stdout)

    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > 100


def test_the_days_are_bad_enough() -> None:
    unseen = set(FAULTS)
    for seed in range(300):
        trace = "\n".join(simulate(seed, tracing=True).trace)
        unseen = {fault for fault in unseen if fault not in trace}
        if not unseen:
            return

    assert not unseen
