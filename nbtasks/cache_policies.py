"""What of a call makes its cache key; policies are added with `+`, and arguments left out with `- "name"`.

A key belongs to its task: equal inputs of two tasks never meet.
"""

from __future__ import annotations

from nbtasks.tasks.caching import DEFAULT, INPUTS, NO_CACHE, RUN_ID, TASK_SOURCE, CachePolicy

__all__ = ["DEFAULT", "INPUTS", "NO_CACHE", "RUN_ID", "TASK_SOURCE", "CachePolicy"]
