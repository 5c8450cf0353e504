"""User code around a run: hooks, and the condition of a retry, called as `(task, run, state)`.

What a hook raises is logged and changes nothing; a condition that raises says no.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nbtasks import context
from nbtasks.context import RunContext
from nbtasks.core.hooks import ENDS, RUNNING
from nbtasks.tasks import loglines

HOOKS = (RUNNING, *ENDS)
CONDITION = "retry_condition"  # the field of `Options`


class Around:
    """The user code around one attempt.

    Parameters
    ----------
    task
        Gives the task; called when there is user code that wants it.
    run
        The attempt.
    given
        Field of `Options` -> the functions that were given for it.
    """

    def __init__(self, task: Callable[[], Any], run: RunContext, given: Mapping[str, Any]) -> None:
        self.run = run
        self._make_task = task
        self._task: Any = None
        self._given = given

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to call at all, as of most tasks."""
        return not self._given

    def has(self, word: str) -> bool:
        """Whether there is anything to call."""
        return bool(self._given.get(word))

    def ask(self, word: str, state: Any, inside: RunContext | None = None) -> bool:
        """Call what was given for this hook or condition, in order; whether the last one said yes.

        Parameters
        ----------
        inside
            The run that this code is part of, if it is not the one that it is told of.
        """
        answer = True
        for function in self._functions(word):
            answer = False
            with self._guarded(word, function, inside or self.run):
                answer = bool(context.finished(function(self._task, self.run, state)))
        return answer

    async def ask_async(self, word: str, state: Any) -> bool:
        """Like `ask`, within an event loop."""
        answer = True
        for function in self._functions(word):
            answer = False
            with self._guarded(word, function, self.run):
                made = function(self._task, self.run, state)
                answer = bool(await made if inspect.isawaitable(made) else made)
        return answer

    def _functions(self, word: str) -> tuple[Callable[..., Any], ...]:
        found = self._given.get(word) or ()
        if found and self._task is None:
            self._task = self._make_task()
        return found if isinstance(found, tuple) else (found,)

    @contextmanager
    def _guarded(self, word: str, function: Callable[..., Any], inside: RunContext) -> Iterator[None]:
        with context.running(inside):
            try:
                yield
            except (Exception, SystemExit) as error:
                name = getattr(function, "__name__", type(function).__name__)
                what = "the condition of a retry" if word == CONDITION else f"{word} hook"
                follows = "there is no retry" if word == CONDITION else "the run is as it was"
                loglines.raised(inside.name, f"{what} {name!r} raised: {follows}", error)
