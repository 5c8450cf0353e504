"""What the figures are held against: the floor that no version may miss, and where we are going."""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    floor: float
    goal: float

    def holds(self, value: float) -> bool:
        """Whether `value` is at least as good as the floor."""
        return value >= self.floor if self.goal >= self.floor else value <= self.floor


TARGETS = {
    "W1 single submits, runs/s": Target(2_000, 5_000),
    "W1b map, runs/s": Target(6_000, 15_000),
    "W2 round trip p50, ms": Target(1.0, 0.5),
    "W2 round trip p99, ms": Target(4.0, 1.2),
    "W3 submit blocks p50, µs": Target(450, 220),
    "W4 echo of 1 MB, s": Target(0.01, 0.003),
    "W4 echo of 100 MB, s": Target(0.2, 0.06),
    "W4 echo of 1000 MB, s": Target(2, 0.5),
    "W5 nothing to first result, s": Target(2, 0.8),
    "W6 100,000 queued, bytes a run in the broker": Target(1_000, 300),
    "W6 enqueued/s": Target(10_000, 30_000),
    "W6 drain against a map on an empty queue": Target(0.7, 1.0),
    "W7 worker killed to running again, s": Target(0.05, 0.005),
    "W8 broker killed, runs that survive": Target(1_000, 1_000),
    "W8 broker killed, back after s": Target(2, 0.5),
}

LIMIT = "hop"  # no rival: what it does is a part of what any broker in Python does

# What the others did on the machine for which the floors were set.
THERE: dict[str, dict[str, float]] = {
    "pool": {
        "W1 single submits, runs/s": 8_848,
        "W2 round trip p50, ms": 0.29,
        "W2 round trip p99, ms": 0.65,
    },
    "loky": {"W1b map, runs/s": 8_288},
    "hop": {
        "W1b map, runs/s": 20_065,
        "W2 round trip p50, ms": 0.346,
        "W2 round trip p99, ms": 0.936,
    },
}


def times_as_good(figure: str, value: float, other: float) -> float:
    """How many times better `value` is than `other`: more of a rate is better, less of anything else."""
    return value / other if "/s" in figure else other / value
