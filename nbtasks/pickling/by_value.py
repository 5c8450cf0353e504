"""What travels by value and cloudpickle does not know how, or not fully."""

from __future__ import annotations

import enum
import functools
import importlib
import io
import logging
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from nbtasks.pickling import logs

_CACHED: Any = functools.cache(len)
_OF_CACHED = frozenset(vars(_CACHED))  # attributes that it has from the first on
DISPATCHING: Any = vars(functools)["singledispatch"](len).__code__  # one code for all that it makes


def _cached_reduction(function: Any) -> Any:
    further = {name: it for name, it in vars(function).items() if name not in _OF_CACHED}
    return _cached, (function.__wrapped__, *function.cache_parameters().values()), further or None


def _cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _cached_property_reduction(value: Any) -> Any:
    # up to Python 3.11 it holds a lock
    state = {name: it for name, it in vars(value).items() if name not in ("func", "lock")}
    return functools.cached_property, (value.func,), state


def dispatching_reduction(function: Any) -> Any:
    """What a pickle holds of what `functools.singledispatch` made."""
    return _dispatching, (function.__wrapped__, dict(function.registry))


def _dispatching(function: Callable[..., Any], registry: dict[type, Callable[..., Any]]) -> Any:
    found = functools.singledispatch(function)
    for cls, handler in registry.items():
        found.register(cls, handler)
    return found


def _new_type_reduction(value: Any) -> Any:
    return typing.NewType, (value.__name__, value.__supertype__), dict(vars(value))


def _parameter_reduction(value: Any) -> Any:
    return type(value), (value.__name__,)


def _method_reduction(method: types.MethodType) -> Any:
    """`get_ipython` of a notebook, a method of its shell, is that of the shell where it is loaded.

    `!command` and `%magic` in a function are calls of it.
    """
    ipython: Any = sys.modules.get("IPython")
    if method.__name__ == "get_ipython" and ipython and method.__self__ is ipython.get_ipython():
        return _shells, ()
    return NotImplemented


def _shells() -> Any:
    return importlib.import_module("IPython").get_ipython


# type -> what a pickle holds of a value of it that no module has under its name
REDUCERS: dict[type, Callable[[Any], Any]] = {
    type(_CACHED): _cached_reduction,
    functools.cached_property: _cached_property_reduction,
    typing.NewType: _new_type_reduction,
    typing.ParamSpec: _parameter_reduction,
    types.MethodType: _method_reduction,
    types.ModuleType: logs.module_reduction,
    logging.Logger: logs.logger_reduction,
    logging.RootLogger: logs.logger_reduction,
}
if sys.version_info >= (3, 11):
    REDUCERS[typing.TypeVarTuple] = _parameter_reduction


def output_of(value: Any) -> Any:
    """What a pickle holds of where this process writes: that of the process in which it is loaded."""
    for name in ("stdout", "stderr", "__stdout__", "__stderr__"):
        if value is getattr(sys, name) and not isinstance(value, io.StringIO):
            return getattr, (sys, name)
    return NotImplemented


def with_slots(cls: type, reduction: Any) -> Any:
    """What cloudpickle makes of a class, with the slots of its instances from the first on.

    Slots are fixed when a class is made, and cloudpickle gives it its attributes later: its instances would
    have a `__dict__` there, and come back with a state that the class here refuses.
    """
    if reduction is NotImplemented or issubclass(cls, (enum.Enum, tuple)) or _is_made_elsewhere(cls):
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
