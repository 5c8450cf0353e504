"""The user's handles on runs: one, many, and how to find one again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from nbtasks.context import Submitter, submitter
from nbtasks.core.messages import RunFilter
from nbtasks.run import asked
from nbtasks.run.group import RunList, as_completed, wait
from nbtasks.run.handle import Run
from nbtasks.run.moments import RunAttempt, RunState

__all__ = ["Run", "RunAttempt", "RunList", "RunState", "as_completed", "find_runs", "get_run", "runs", "wait"]


def get_run(run: str | UUID) -> Run:
    """The handle on a run of any process.

    Parameters
    ----------
    run
        Its id, a text as `uuid.UUID` takes it or a UUID.

    Raises
    ------
    UnknownRun
        No such run is recorded in this home.
    """
    client = submitter()
    return Run.of_info(client.info(asked.run_id(run)), client)


def runs(
    state: str | Iterable[str] | None = None, task: Any = None, tag: str | None = None, limit: int = 100
) -> RunList:
    """The runs of this home, newest first.

    Parameters
    ----------
    state
        A state type (`"FAILED"`) or the name of a state (`"TimedOut"`); `"failed"` is a type, too. Or a
        list of them.
    task
        A task, or the name or key of one.
    limit
        At most so many.

    Raises
    ------
    ValueError
        There is no such state, or the limit is below 1.
    """
    return find_runs(submitter(), state, task, tag, limit)


def find_runs(
    client: Submitter, state: str | Iterable[str] | None, task: Any, tag: str | None, limit: int
) -> RunList:
    """`runs` of a certain client."""
    if limit < 1:
        raise ValueError(f"limit is a number from 1 on, not {limit}")
    key = getattr(task, "key", task) or ""
    wanted = RunFilter(asked.state_words(state), key, tag or "", limit)
    return RunList(Run.of_info(info, client) for info in client.infos(wanted))
