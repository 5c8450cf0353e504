"""What travels by value and cloudpickle does not know how, or not fully."""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any

_CACHED: Any = type(functools.cache(len))  # of what `lru_cache` and `cache` make
_PARAMETERS = frozenset({typing.ParamSpec, getattr(typing, "TypeVarTuple", typing.ParamSpec)})
# of what `reduction_of` may know
KINDS = frozenset({types.FunctionType, _CACHED, typing.NewType, functools.cached_property, *_PARAMETERS})

_OF_CACHED = frozenset(vars(functools.cache(len)))  # attributes that it has from the first on
_DISPATCHING: Any = functools.singledispatch(len)  # all that it makes have one code


def reduction_of(value: Any) -> Any:
    """What a pickle holds of what no module has under its name; `NotImplemented`: as usual."""
    kind = type(value)
    if kind is _CACHED:
        further = {name: it for name, it in vars(value).items() if name not in _OF_CACHED}
        return _cached, (value.__wrapped__, *value.cache_parameters().values()), further or None
    if kind is typing.NewType:
        return typing.NewType, (value.__name__, value.__supertype__), dict(vars(value))
    if kind is functools.cached_property:
        # up to Python 3.11 it holds a lock
        state = {name: it for name, it in vars(value).items() if name not in ("func", "lock")}
        return functools.cached_property, (value.func,), state
    if kind in _PARAMETERS:
        return kind, (value.__name__,)
    if getattr(value, "__code__", None) is _DISPATCHING.__code__:
        return _dispatching, (value.__wrapped__, dict(value.registry))
    return NotImplemented


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _dispatching(function: Callable[..., Any], registry: dict[type, Callable[..., Any]]) -> Any:
    found = functools.singledispatch(function)
    for cls, handler in registry.items():
        found.register(cls, handler)
    return found


def with_slots(cls: type, reduction: tuple[Any, ...]) -> tuple[Any, ...]:
    """What cloudpickle makes of a class, with the slots of its instances from the first on.

    Slots are fixed when a class is made, and cloudpickle gives it its attributes later: its instances would
    have a `__dict__` there, and come back with a state that the class here refuses.
    """
    if "__slots__" not in vars(cls) or issubclass(cls, (enum.Enum, tuple)) or _is_made_elsewhere(cls):
        return reduction  # an enum has another reduction, and what is a tuple has no slots
    make, (metaclass, name, bases, namespace, *more), *rest = reduction
    namespace = {**namespace, "__slots__": _slots(cls)}
    return make, (metaclass, name, bases, namespace, *more), *rest


def _is_made_elsewhere(cls: type) -> bool:
    """Whether a compiled metaclass makes the slots, and takes none: as that of msgspec's Structs."""
    make: Any = type(cls).__new__
    return make is not type.__new__ and not isinstance(make, types.FunctionType)


def _slots(cls: type) -> tuple[str, ...]:
    """Under the names that they have in the class, private ones with its name before them.

    They are copies, for what is shared by chance would make equal classes unequal bytes.
    """
    kinds = (types.MemberDescriptorType, types.GetSetDescriptorType)
    return tuple(
        "".join(name)
        for name, attribute in vars(cls).items()
        if isinstance(attribute, kinds) and attribute.__objclass__ is cls
    )
