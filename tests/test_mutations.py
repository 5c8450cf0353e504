"""The simulator is judged by what it notices: each rule that is taken out of the core turns some seed red."""

from __future__ import annotations

import pytest

from tests.sim.mutations import MUTATIONS, first_red

SEEDS = range(300)
# Where few seeds notice one that did is tried first, and all of them if the core has changed since.
NOTICED = {
    "a submit repeated within a pass is a new run": 40,
    "a refused batch is accepted when it is said again": 71,
    "a worker forgets what it has done": 54,
    "an outbox is emptied with the first answer": 211,
    "a promise is forgotten by who gives up": 54,
    "a lost interrupt is not repeated": 66,
    "a welcome counts for any session": 57,
    "a worker does not say what it holds": 133,
    "a new broker forgets interrupts": 30,
    "a retry waits for a clock that was set back": 85,
    "a run that executes is handed back": 33,
    "workers that were started for waits stay": 12,
    "hooks that a dead worker had begun run again": 117,
    "a hook run that crashed runs again": 161,
    "a condition that says no is not heard": 33,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_rule_that_is_gone_is_missed(name: str) -> None:
    assert first_red(MUTATIONS[name], [NOTICED.get(name, 0), *SEEDS]) is not None
