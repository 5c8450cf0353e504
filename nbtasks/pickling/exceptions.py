"""Exceptions as pickles, rebuilt without their own `__init__`.

Python pickles an exception as its class, to be called with its `args`. A class with an `__init__` of its own
seldom takes these: it may have other parameters, or make its text of them a second time.
"""

from __future__ import annotations

import builtins
import copyreg
import types
from collections.abc import Callable, Sequence
from typing import Any

GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # from Python 3.11 on

_State = Sequence[dict[str, Any]]  # see `state_of`


def reduction_of(error: BaseException) -> Any:
    """What a pickle holds of one whose class makes itself, or has slots; `NotImplemented` of others."""
    cls = type(error)
    if not (makes_itself(cls) or _slots(cls)) or not is_reduced_by_default(error):
        return NotImplemented
    return reduction(error, args_of(error), state_of(error))


def reduction(error: BaseException, args: Sequence[Any], state: _State) -> tuple[Any, ...]:
    """What a pickle holds: these `args` and this state, for its class."""
    return _made, (type(error), *args), state, None, None, _filled


def is_reduced_by_default(error: BaseException) -> bool:
    """Whether neither its class nor a library says how it is pickled."""
    cls = type(error)
    return (
        cls.__reduce_ex__ is object.__reduce_ex__
        and not isinstance(cls.__reduce__, types.FunctionType)
        and cls not in copyreg.dispatch_table
    )


def args_of(error: BaseException) -> tuple[Any, ...]:
    """What the built-in class that it is made of takes."""
    if isinstance(error, GROUP):
        return error.message, list(error.exceptions)
    args: tuple[Any, ...] = error.__reduce__()[1]  # type: ignore[assignment]
    return args


def state_of(error: BaseException) -> _State:
    """Its `__dict__`, and the attributes that lie elsewhere: in slots, or in a built-in class."""
    own = dict(vars(error))
    reduced: Any = (*error.__reduce__()[2:], {})[0] or {}
    elsewhere = {name: value for name, value in reduced.items() if name not in own}
    elsewhere |= {name: getattr(error, name) for name in _slots(type(error)) if hasattr(error, name)}
    return own, elsewhere


def makes_itself(cls: type[BaseException]) -> bool:
    """Whether it has an `__init__` or `__new__` of its own, which need not take the `args`."""
    made_by: tuple[Callable[..., Any], ...] = (cls.__init__, cls.__new__)
    return any(isinstance(function, types.FunctionType) for function in made_by)


def _slots(cls: type[BaseException]) -> list[str]:
    kinds = [kind for kind in cls.__mro__ if kind.__module__ != "builtins"]
    attributes = [attribute for kind in kinds for attribute in vars(kind).items()]
    return [name for name, attribute in attributes if type(attribute) is types.MemberDescriptorType]


def _made(cls: type[BaseException], *args: Any) -> BaseException:
    base: Any = next(kind for kind in cls.__mro__ if kind.__module__ == "builtins")
    found: BaseException = base.__new__(cls, *args)
    base.__init__(found, *args)
    return found


def _filled(error: BaseException, state: _State) -> None:
    own, elsewhere = state
    if isinstance(type(error).__setstate__, types.FunctionType):
        error.__setstate__(own | elsewhere)
        return
    vars(error).update(own)
    for name, value in elsewhere.items():
        # not setattr: a frozen dataclass refuses it
        object.__setattr__(error, name, value)
