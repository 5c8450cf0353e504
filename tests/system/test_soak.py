"""Everything at once, for a while; longer by `python -m tests.soak`."""

from __future__ import annotations

import random

import pytest

import nbtasks
from nbtasks import allow_failure, task
from tests.soak import soak

SECONDS = 45.0
RUNS = 200
LIMIT = 2


@pytest.mark.timeout(400)
@pytest.mark.feature("T9", "T10")
def test_nothing_is_lost_and_nothing_runs_twice_whatever_is_killed() -> None:
    done, problems = soak(SECONDS, seed=random.randrange(10**6))

    assert problems == []
    assert len(done.runs) > 100
    assert all(done.killed[kind] for kind in ("worker", "broker", "pool")), done.killed


@task(retries=2)
def node(number: int, kind: str, needed: list[object]) -> int:
    run = nbtasks.current_run()
    assert run is not None
    if kind == "fails" or (kind == "flaky" and run.attempt == 1):
        raise ValueError(f"{number} {kind}")
    return number + sum(one if isinstance(one, int) else -1 for one in needed)


@pytest.mark.timeout(300)
@pytest.mark.feature("D7", "T8", "T15")
def test_200_runs_that_need_each_other_end_as_they_must(client: object) -> None:
    rng = random.Random(7)
    client.start_workers(3)  # type: ignore[attr-defined]
    nbtasks.limit("few", LIMIT)
    runs: list[nbtasks.Run] = []
    expected: list[tuple[str, int]] = []

    for number in range(RUNS):
        needs = rng.sample(range(number), min(number, rng.choice((0, 1, 2, 3))))
        tolerant = [rng.random() < 0.5 for _ in needs]
        kind = rng.choices(["works", "flaky", "fails"], [7, 2, 1])[0]
        given = [allow_failure(runs[n]) if t else runs[n] for n, t in zip(needs, tolerant, strict=True)]
        one = node.with_options(tags=["few"]) if rng.random() < 0.3 else node
        runs.append(one.delay(number, kind, given))
        ended = [expected[n] for n in needs]
        if any(state != "Completed" and not t for (state, _), t in zip(ended, tolerant, strict=True)):
            expected.append(("UpstreamFailed", 0))
        elif kind == "fails":
            expected.append(("Failed", 0))
        else:
            values = [value if state == "Completed" else -1 for state, value in ended]
            expected.append(("Completed", number + sum(values)))
    _, left = nbtasks.wait(runs, 240)

    assert not left
    states = [run.state.name for run in runs]
    assert states == [state for state, _ in expected]
    assert [run.result() for run in runs if run.state.name == "Completed"] == [
        value for state, value in expected if state == "Completed"
    ]
    assert {"Completed", "Failed", "UpstreamFailed"} <= set(states)
    assert most_at_once([run for run in runs if "few" in run.tags]) <= LIMIT


def most_at_once(runs: list[nbtasks.Run]) -> int:
    """How many of these were executed at the same time, at most."""
    moments = [
        (when, step)
        for run in runs
        for attempt in run.attempts
        for when, step in ((attempt.start, 1), (attempt.end or attempt.start, -1))
    ]
    now = most = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most
