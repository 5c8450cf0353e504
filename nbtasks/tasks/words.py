"""The options of a task by the names that users write; `nbtasks.tasks.options` reads their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypedDict, Union

Delays = Union[float, Sequence[float], Callable[[int], Sequence[float]], None]


class Words(TypedDict, total=False):
    """What `Task`, `@task` and `with_options` take.

    Parameters
    ----------
    name
        What people read; else the function's name.
    task_run_name
        What one run is called: a template over the parameters, defaults included (`"fetch {url}"`), or a
        function that gives a name. The function is called with those of the run's parameters that it takes,
        by name (one called `parameters` gets all as a dict), once per run when it is made, not per attempt.
    key
        What tells the task from others; else `module:qualname`.
    description
        For people; else the function's docstring.
    tags
        Words by which runs are found and limited; those of `with tags(...)` around a call are added.
    version
        For people; else a digest of the function's source.
    retries, retry_delay_seconds, retry_jitter_factor
        How often code that raised or timed out runs again, and after which pause: a number, a list with one
        for each retry whose last one repeats, or `exponential_backoff(seconds)`; with a factor j a pause d
        lies anywhere in [d - d·j, d + d·j].
    timeout_seconds, grace_s
        An attempt that takes longer is interrupted, and killed `grace_s` seconds later if it goes on.
    log_prints
        Whether what it prints is logged too.
    crash_retries
        How often code runs again whose worker died; background runs only, as all that follows.
    priority
        Runs of a larger one start before others that wait.
    eta, countdown
        Not to be started before this time (with a time zone), or so many seconds after the call.
    expires
        Not to be started any more after this time, or so many seconds after the call: then it is Cancelled.
    idempotency_key
        If a run of this task was submitted with this key before, `.delay()` returns that one.
    """

    name: str
    task_run_name: str | Callable[..., str] | None
    key: str
    description: str | None
    tags: Iterable[str] | None
    version: str | None
    retries: int
    retry_delay_seconds: Delays
    retry_jitter_factor: float | None
    timeout_seconds: float | None
    grace_s: float
    log_prints: bool
    crash_retries: int
    priority: int
    eta: datetime | None
    countdown: float | None
    expires: float | datetime | None
    idempotency_key: str | None
