"""What a wrong comparison would not show by itself."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import OTHERS, PLAN, STANDING, _possible


@pytest.mark.parametrize("system", ["pool", "loky"])
def test_a_pool_does_all_that_needs_no_broker(system: str) -> None:
    assert [workload for workload in PLAN if _possible(system, workload)] == [STANDING, "cold"]
    assert _possible(system, "mapped") == "mapped"


def test_nbtasks_does_everything() -> None:
    assert "nbtasks" not in OTHERS
    assert [_possible("nbtasks", workload) for workload in PLAN] == [*PLAN]
