"""A wait for a run that no worker could execute: after a moment it says so, instead of staying silent.

It looks once, and says nothing of a run for which a worker is there or about to come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from nbtasks.core.messages import GetRun, RunFound
from nbtasks.core.states import State
from nbtasks.core.vocabulary import TO_START
from nbtasks.run.detaching import Listen

if TYPE_CHECKING:
    from nbtasks.run.handle import Run

log = logging.getLogger("nbtasks.runs")

LOOK_S = 3.0  # a worker that is there has taken a run long before
ANSWER_S = 1.0  # for a broker to say why; a wait must not become longer by asking


def telling(listen: Listen, waited: Callable[[], Run]) -> Listen:
    """What listens as `listen` does, and warns once if no worker can execute what is waited for.

    Parameters
    ----------
    waited
        Gives a run that has not ended; called if the wait lasts.
    """
    looked = False

    def listens(is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        nonlocal looked
        if looked or (timeout_s is not None and timeout_s <= LOOK_S):
            return listen(is_done, timeout_s)
        started_s = time.monotonic()
        if listen(is_done, LOOK_S):
            return True
        looked = True
        _look(waited)
        left_s = None if timeout_s is None else max(0.0, started_s + timeout_s - time.monotonic())
        return listen(is_done, left_s)

    return listens


def _look(waited: Callable[[], Run]) -> None:
    try:
        run = waited()
        if not run._told_unserved and (reason := _reason(run)):
            run._told_unserved = True
            log.warning(
                "run %r (%s) has not started: %s. It stays queued; %%nbtasks workers N in a notebook or "
                "nbtasks worker in a shell starts workers, nbtasks broker status lists those there are",
                run.name,
                run.id,
                reason,
            )
    except Exception:
        # whoever waits hears of a broker that is in trouble by waiting
        log.debug("why a run waits cannot be said", exc_info=True)


def _reason(run: Run) -> str:
    """Why nobody could execute it; "" if somebody can, or it waits for something else."""
    row = run._client.ask(lambda number: GetRun(number, str(run.id)), RunFound, ANSWER_S).row
    if row is None or row.state != State.PENDING or row.message == TO_START:
        return ""
    return row.message
