"""Task runners: where `.submit()` and `map()` execute runs in this process, and the handles they give."""

from __future__ import annotations

from nbtasks.runners.course import Course
from nbtasks.runners.local import LocalRun
from nbtasks.runners.threads import TaskRunner, ThreadPoolTaskRunner, task_runner

__all__ = ["Course", "LocalRun", "TaskRunner", "ThreadPoolTaskRunner", "task_runner"]
