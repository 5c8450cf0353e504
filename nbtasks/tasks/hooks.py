"""Hooks as decorators: `@report.on_failure` above a function gives the task `report` one more hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from nbtasks.core import hooks
from nbtasks.tasks import options
from nbtasks.tasks.options import Options

H = TypeVar("H", bound=Callable[..., Any])


class Decorators:
    """What a task has for them; a hook is called `(task, run, state)`, after those that it has already."""

    fn: Any
    _options: Options
    _become: Callable[[Any, Options], None]

    def on_running(self, hook: H) -> H:
        """Before the code of each attempt."""
        return self._with(hooks.RUNNING, hook)

    def on_completion(self, hook: H) -> H:
        """When a run completed."""
        return self._with("on_completion", hook)

    def on_failure(self, hook: H) -> H:
        """When a run failed, after its last attempt."""
        return self._with("on_failure", hook)

    def on_cancellation(self, hook: H) -> H:
        """When a run was cancelled."""
        return self._with("on_cancellation", hook)

    def on_crash(self, hook: H) -> H:
        """When the worker of a run died, or its code left the interpreter."""
        return self._with("on_crash", hook)

    def _with(self, word: str, hook: H) -> H:
        options.a_function(word, hook)
        known = getattr(self._options, word)
        self._become(self.fn, msgspec.structs.replace(self._options, **{word: (*known, hook)}))
        return hook
