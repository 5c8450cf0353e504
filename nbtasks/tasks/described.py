"""What a task tells of itself."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

from nbtasks.tasks import identity
from nbtasks.tasks.options import Options


class Described:
    """The options of a task by the names that users gave them, and what kind of function it has."""

    fn: Any
    _options: Options

    @property
    def name(self) -> str:
        return self._options.name

    @property
    def key(self) -> str:
        return self._options.key

    @property
    def description(self) -> str:
        return self._options.description

    @property
    def tags(self) -> frozenset[str]:
        return self._options.tags

    @functools.cached_property
    def version(self) -> str:
        """The one that was given, else a digest of the source; for people, nothing depends on it."""
        return self._options.version or identity.source_digest(self.fn)

    @property
    def retries(self) -> int:
        return self._options.retries

    @property
    def retry_delay_seconds(self) -> float | list[float]:
        delays = self._options.retry_delays_s
        return delays[0] if len(delays) == 1 else list(delays)

    @property
    def retry_jitter_factor(self) -> float:
        return self._options.retry_jitter

    @property
    def retry_condition_fn(self) -> Callable[..., Any] | None:
        return self._options.retry_condition

    @property
    def timeout_seconds(self) -> float | None:
        return self._options.timeout_s or None

    @property
    def crash_retries(self) -> int:
        return self._options.crash_retries

    @property
    def log_prints(self) -> bool:
        return self._options.log_prints

    @property
    def grace_s(self) -> float:
        return self._options.grace_s

    @property
    def refresh_cache(self) -> bool:
        return self._options.refresh_cache

    @functools.cached_property
    def _signature(self) -> inspect.Signature | None:
        try:
            return inspect.signature(self.fn)
        except ValueError:
            return None  # some functions written in C have none

    @functools.cached_property
    def _plain_names(self) -> tuple[str, ...] | None:
        """What the parameters are called, if each of them may be given by position; else None."""
        parameters = () if self._signature is None else self._signature.parameters.values()
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = tuple(one.name for one in parameters if one.kind in kinds)
        return names if names and len(names) == len(parameters) else None

    # -- marks by which libraries know what has to be awaited; none is made before somebody looks ---------

    @property
    def _is_coroutine_mark(self) -> Any:
        """What `inspect.iscoroutinefunction` looks for, from Python 3.12 on."""
        return getattr(inspect, "_is_coroutine_mark", None) if self._is_async else None

    @property
    def _is_coroutine(self) -> Any:
        """What `asyncio.iscoroutinefunction` looks for; whoever calls that has imported it."""
        marks = sys.modules.get("asyncio.coroutines")
        return getattr(marks, "_is_coroutine", None) if self._is_async else None

    @property
    def _is_async(self) -> bool:
        target = self.fn if inspect.isroutine(self.fn) else type(self.fn).__call__
        return inspect.iscoroutinefunction(target)
