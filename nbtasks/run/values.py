"""Runs among the arguments of a call in this process, at any depth, replaced by their values.

What does not change is passed on as it is, not copied. Background runs get theirs by the pickle that
carries the arguments (`nbtasks.pickling.upstream`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from nbtasks.errors import UpstreamFailed
from nbtasks.pickling.upstream import allow_failure, quote
from nbtasks.run.handle import Run
from nbtasks.run.moments import RunState

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})


def runs_in(value: Any) -> list[Run]:
    """The runs whose values are needed."""
    found: list[Run] = []

    def note(one: Any) -> Any:
        if not isinstance(one, quote):
            found.append(_run_of(one))
        return one

    _changed(value, note)
    return found


def resolved(value: Any) -> Any:
    """The same with values instead of runs; waits for them.

    Raises
    ------
    UpstreamFailed
        A run did not complete; its exception is the cause.
    """
    return _changed(value, _value)


def _value(one: Any) -> Any:
    if isinstance(one, quote):
        return one.value
    if isinstance(one, allow_failure):
        return _run_of(one).result(raise_on_failure=False)
    error = one.exception()
    if error is not None:
        raise UpstreamFailed(
            f"run {one.name!r} ({one.id}), which it needs, ended {one.state.name}"
        ) from error
    return one.result()


def _run_of(one: Any) -> Run:
    inner: Any = one.run if isinstance(one, allow_failure) else one
    run: Any = inner.run if isinstance(inner, RunState) else inner
    return run  # type: ignore[no-any-return]


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, RunState) and value.run is not None:
        return change(value.run)
    if isinstance(value, (Run, allow_failure, quote)):
        return change(value)
    if kind in (list, tuple, set, frozenset):
        items = list(value)
        new = [_changed(item, change) for item in items]
        return value if _same(items, new) else kind(new)
    if kind is dict:
        new_items = {_changed(k, change): _changed(v, change) for k, v in value.items()}
        kept = _same(list(value), list(new_items)) and _same(list(value.values()), list(new_items.values()))
        return value if kept else new_items
    fields = dict(_fields(value))
    new_fields = {name: _changed(part, change) for name, part in fields.items()}
    different = {name: part for name, part in new_fields.items() if part is not fields[name]}
    return _replaced(value, different) if different else value


def _same(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a dataclass, a named tuple, or a model of pydantic."""
    if isinstance(value, type):
        return
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list(getattr(type(value), "_fields", ()) if isinstance(value, tuple) else ())
        names = names or list(getattr(type(value), "model_fields", ()))
    for name in names:
        if hasattr(value, name):
            yield name, getattr(value, name)


def _replaced(value: Any, fields: dict[str, Any]) -> Any:
    if isinstance(value, tuple):
        return value._replace(**fields)  # type: ignore[attr-defined]
    if hasattr(type(value), "model_fields"):
        return value.model_copy(update=fields)
    import copy

    new = copy.copy(value)
    for name, part in fields.items():
        object.__setattr__(new, name, part)  # also of a frozen dataclass
    return new
