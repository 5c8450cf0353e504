"""What a wrong comparison would not show by itself."""

from __future__ import annotations

import re

import pytest

from tests.bench import report
from tests.bench.__main__ import OTHERS, PLAN, STANDING, _possible
from tests.bench.targets import THERE, times_as_good

NAMES = ["nbtasks", "pool", "hop"]
W1, P50 = "W1 single submits, runs/s", "W2 round trip p50, ms"


def test_more_of_a_rate_is_better_and_less_of_a_time() -> None:
    assert times_as_good(W1, 200.0, 100.0) == 2.0
    assert times_as_good(P50, 2.0, 1.0) == 0.5


def test_a_machine_half_as_fast_has_half_the_speed_by_every_figure() -> None:
    figures = {figure for by_figure in THERE.values() for figure in by_figure}
    medians: dict[str, dict[str, float]] = {figure: {} for figure in figures}
    for name, by_figure in THERE.items():
        for figure, there in by_figure.items():
            medians[figure][name] = there / 2 if "/s" in figure else there * 2

    shares = re.findall(r"\d\.\d\d", report.speed(medians))

    assert shares == ["0.50"] * sum(map(len, THERE.values()))


def test_the_speed_is_told_by_what_was_measured_alone() -> None:
    assert report.speed({}) == ""
    assert "loky" not in report.speed({W1: {"nbtasks": 1.0, "pool": 8_848.0}})


def test_a_slow_machine_does_not_lower_the_floor() -> None:
    slow = {"nbtasks": 1_999.0, "pool": 100.0, "hop": 100.0}

    [row] = report.rows(NAMES, {W1: slow})

    assert dict(zip(report.heads(NAMES), row, strict=True))["floor"] == "2,000 missed"


def test_what_one_system_cannot_do_is_empty_in_its_columns_alone() -> None:
    [row] = report.rows(NAMES, {"W4 echo of 1 MB, s": {"nbtasks": 0.005, "pool": 0.01}})

    words = dict(zip(report.heads(NAMES), row, strict=True))
    assert (words["hop"], words["nbtasks / hop"]) == ("", "")
    assert (words["pool"], words["nbtasks / pool"]) == ("0.01", "0.50")


def test_the_hop_does_what_it_can_of_a_group() -> None:
    assert _possible("hop", STANDING) == "single_submits,mapped,round_trips,blocking"
    assert [_possible("hop", workload) for workload in PLAN[1:]] == [""] * 4


@pytest.mark.parametrize("system", ["pool", "loky"])
def test_a_pool_does_all_that_needs_no_broker(system: str) -> None:
    assert [workload for workload in PLAN if _possible(system, workload)] == [STANDING, "cold"]
    assert _possible(system, "mapped") == "mapped"


def test_nbtasks_does_everything() -> None:
    assert "nbtasks" not in OTHERS
    assert [_possible("nbtasks", workload) for workload in PLAN] == [*PLAN]
