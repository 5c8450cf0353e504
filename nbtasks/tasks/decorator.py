"""Making tasks of functions, and executing the runs of several of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, overload

from nbtasks.context import Served, submitter
from nbtasks.run.variables import P, R_co
from nbtasks.tasks import options
from nbtasks.tasks.definition import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nbtasks.tasks.words import Words


@overload
def task(fn: Callable[P, R_co], /, **given: Unpack[Words]) -> Task[P, R_co]: ...
@overload
def task(**given: Unpack[Words]) -> Callable[[Callable[P, R_co]], Task[P, R_co]]: ...
@options.spelled_out
def task(fn: Any = None, /, **given: Any) -> Any:
    """Make a task of a function: `@task`, `@task(retries=3)`, `task(function, ...)`; options as in `Task`."""
    if fn is None:
        return functools.partial(Task, **given)
    return Task(fn, **given)


def serve(*tasks: Task[..., Any], limit: int | None = None) -> Any:
    """Execute the runs of these tasks on workers of this machine, those that wait already included.

    In a script it blocks until SIGINT, SIGTERM or SIGHUP, then until what runs has ended. In a notebook it
    returns a pool (`.stop()`, `.scale(n)`), because a notebook must stay free.

    Parameters
    ----------
    limit
        How many runs at a time; else the number of CPUs, at most 10.
    """
    if not tasks:
        raise TypeError("serve() takes the tasks to serve")
    for one in tasks:
        if not isinstance(one, Task):
            raise TypeError(f"serve() takes tasks, not {one!r}; decorate it with @task")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise TypeError(f"limit is a whole number, not {limit!r}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is a number from 1 on, not {limit}")
    served = [Served(one.key, one.name, one.dumped()[0]) for one in tasks]
    return submitter().serve(served, limit)
