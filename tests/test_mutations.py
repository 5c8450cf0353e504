"""The simulator is judged by what it notices: each rule that is taken out of the core turns some seed red."""

from __future__ import annotations

import pytest

from tests.sim.mutations import MUTATIONS, first_red

SEEDS = range(300)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_rule_that_is_gone_is_missed(name: str) -> None:
    assert first_red(MUTATIONS[name], SEEDS) is not None
