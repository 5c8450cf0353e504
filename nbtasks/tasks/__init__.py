"""Tasks: functions that can be called later, elsewhere.

No module here is called `task`: importing a module sets its name in the parent package, and `task` is
the decorator.
"""

from __future__ import annotations

from nbtasks.tasks.decorator import serve, task
from nbtasks.tasks.definition import Task
from nbtasks.tasks.limiting import concurrency, limit, limits, rate_limit
from nbtasks.tasks.mapping import unmapped
from nbtasks.tasks.options import exponential_backoff
from nbtasks.tasks.runlog import get_run_logger

__all__ = [
    "Task",
    "concurrency",
    "exponential_backoff",
    "get_run_logger",
    "limit",
    "limits",
    "rate_limit",
    "serve",
    "task",
    "unmapped",
]
