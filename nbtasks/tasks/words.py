"""The options of a task by the names that users write; `nbtasks.tasks.options` reads their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict, Union

if TYPE_CHECKING:
    from nbtasks.tasks.caching import CachePolicy, KeyContext

Hooks = Union[Callable[..., Any], Sequence[Callable[..., Any]], None]
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
    retry_condition_fn
        Called as `(task, run, state)`, as a hook, after an attempt that failed, if there are retries left:
        only if it says True there is one. It may be async; if it raises, that is logged and there is no
        retry. An attempt that had to be killed is tried again without asking.
    timeout_seconds, grace_s
        An attempt that takes longer is interrupted, and killed `grace_s` seconds later if it goes on.
    log_prints
        Whether what it prints is logged too.
    result_serializer
        How the result is written: "pickle" (else), "json", "compressed/pickle", "compressed/json".
    cache_policy, cache_key_fn
        What makes two calls have the same result (see `nbtasks.cache_policies`), or a function of
        (context, parameters) that gives a key, None for no caching: then the result of an earlier run with
        that key is taken, the state is Cached and no code runs. Else nothing is cached. Two runs that are
        under way at the same time do not wait for each other.
    cache_expiration
        How long results are taken, a timedelta or seconds; else for as long as they are kept.
    refresh_cache
        Whether it runs in any case, and its result is taken from then on.
    on_running, on_completion, on_failure, on_cancellation, on_crash
        Functions, async or not, called as `(task, run, state)` one after the other: before the code of each
        attempt, and once when the run ended so, after its last attempt. What one raises is logged and changes
        nothing. They run where the run did, as part of it, and a time-out counts them in. If it has no worker
        any more, a run of its own executes them on the next one that can, at most once. `run` has what
        `nbtasks.current_run()` has; `state` has `type`, `name`, `message`, `timestamp` and `result()`.
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
    worker_tags
        What a worker has to offer (`--tag`, `--offer`, `--gpu`) to execute it; else any one will do.
    sticky
        Runs with the same name go to one worker, and share its namespace until it ends.
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
    retry_condition_fn: Callable[..., Any] | None
    timeout_seconds: float | None
    grace_s: float
    log_prints: bool
    result_serializer: str | None
    cache_policy: CachePolicy | None
    cache_key_fn: Callable[[KeyContext, dict[str, Any]], str | None] | None
    cache_expiration: timedelta | float | None
    refresh_cache: bool
    on_running: Hooks
    on_completion: Hooks
    on_failure: Hooks
    on_cancellation: Hooks
    on_crash: Hooks
    crash_retries: int
    priority: int
    eta: datetime | None
    countdown: float | None
    expires: float | datetime | None
    idempotency_key: str | None
    worker_tags: Iterable[str] | None
    sticky: str | None
