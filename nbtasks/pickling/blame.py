"""Saying what cannot be pickled: which argument, which captured name, which part of it."""

from __future__ import annotations

import enum
import functools
import types
from collections.abc import Callable, Iterable
from typing import Any

from nbtasks.pickling.texts import sought_by

REPR_CHARACTERS_MAX = 200
INT_BITS_MAX = 512  # a longer number is described: its digits take quadratic time
PATH_DEPTH_MAX = 20  # how deep the culprit is looked for in what cannot be pickled
PATH_LOOKS_MAX = 2000  # parts that are tried on the way

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_SHAPED = frozenset({"numpy", "pandas", "polars", "torch", "jax", "tensorflow", "scipy", "xarray", "cupy"})

_OF_CLASSES = (types.GetSetDescriptorType, types.MemberDescriptorType)  # they are made with the class

Dump = Callable[[Any], object]  # raises if its argument cannot be pickled


class Described(str):
    """What is shown of a value that is not there any more, or not yet."""

    def __repr__(self) -> str:
        return str(self)


def safe_repr(value: Any) -> str:
    """What may be shown of an argument: plain values cut in the middle, of others type and shape.

    Calls no code of the user's, so that submitting never does.
    """
    kind = type(value)
    if kind is Described:
        return str(value)
    if kind is str or kind is bytes:
        if len(value) <= REPR_CHARACTERS_MAX - 10:
            text = repr(value)
        else:
            text = repr(value[: REPR_CHARACTERS_MAX // 2]) + "…" + repr(value[-REPR_CHARACTERS_MAX // 4 :])
        return text if len(text) <= REPR_CHARACTERS_MAX else text[: REPR_CHARACTERS_MAX - 1] + "…"
    if kind is int and value.bit_length() > INT_BITS_MAX:
        return f"<int of {value.bit_length():,} bits>"
    if kind in _PLAIN:
        return repr(value)
    if kind in (list, tuple, set, frozenset, dict):
        return f"<{kind.__name__} of {len(value):,}>"
    if (kind.__module__ or "").partition(".")[0] in _SHAPED:
        return f"<{type_name(value)}{_shape(value)}>"[:REPR_CHARACTERS_MAX]
    return f"<{type_name(value)}>"[:REPR_CHARACTERS_MAX]


def _shape(value: Any) -> str:
    try:
        return f" {tuple(int(n) for n in value.shape)}"
    except Exception:
        return ""


def type_name(value: Any) -> str:
    kind = type(value)
    module = getattr(kind, "__module__", "")
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    return repr(name if isinstance(name, str) else type_name(function))


def line_of(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())[:300]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def why_not(role: str, name: str, value: Any, error: BaseException, dump: Dump) -> str:
    """Say which part of `value` cannot be pickled by `dump`, by the way that leads to it."""
    looks = [PATH_LOOKS_MAX]
    path, culprit = _culprit(value, dump, looks, {id(value)})
    shown = f"the result, {article(name)}," if role == "the result" else f"{role} {name}"
    if not path:
        return f"{shown} cannot be pickled: {line_of(error)}"
    where = f"{name}{path}" if role == "argument" and path[0] in ".[{" else path
    return f"{shown} cannot be pickled, because {where} is {article(type_name(culprit))}: {line_of(error)}"


def _culprit(value: Any, dump: Dump, looks: list[int], seen: set[int], depth: int = 0) -> tuple[str, Any]:
    """The way to the deepest part that cannot be pickled; "" if no part is to blame."""
    blamed: tuple[str, Any] = "", value
    if depth >= PATH_DEPTH_MAX:
        return blamed
    for step, part in _parts(value):
        if id(part) in seen or looks[0] <= 0:
            continue
        looks[0] -= 1
        seen.add(id(part))
        try:
            dump(part)
        except Exception:
            rest, culprit = _culprit(part, dump, looks, seen, depth + 1)
            if rest.startswith(("its ", "the name ", "the class ")):
                return f"{rest} (of {step})", culprit
            if rest or not isinstance(_function_of(part), types.FunctionType):
                return step + rest, culprit
            # a function is to blame for what it uses, and a method may use but its class
            blamed = blamed if blamed[0] else (step, culprit)
    return blamed


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, types.MethodType):
        yield "its object", value.__self__
    value = _function_of(value)
    if isinstance(value, types.FunctionType):
        code = value.__code__
        for name in _global_names(code):
            if name in value.__globals__:
                yield f"the name {name!r}", value.__globals__[name]
        yield from ((f"the name {name!r}", part) for name, part in sought_by(value).items())
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=False):
            try:
                yield f"the name {name!r}", cell.cell_contents
            except ValueError:
                continue  # not assigned yet
        yield from ((f"its default {i + 1}", part) for i, part in enumerate(value.__defaults__ or ()))
    elif isinstance(value, dict):
        yield from ((f"[{safe_repr(key)}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from (("{…}", part) for part in value)
    elif isinstance(value, type):
        yield from _parts_of_class(value)
    elif not isinstance(value, types.ModuleType):
        if isinstance(getattr(value, "__dict__", None), dict):
            yield from ((f".{name}", part) for name, part in vars(value).items())
        yield f"the class {type(value).__qualname__}", type(value)


def _parts_of_class(cls: type) -> Iterable[tuple[str, Any]]:
    yield from ((f"the class {base.__qualname__}", base) for base in cls.__bases__)
    if isinstance(cls, enum.EnumMeta):
        return  # its members lead back to it
    parts = [
        (f".{name}", part)
        for name, part in vars(cls).items()
        if name != "_abc_impl" and not isinstance(part, _OF_CLASSES)
    ]
    # functions last: they may lead back to the class, and by this to what is to blame
    yield from sorted(parts, key=lambda named: isinstance(_function_of(named[1]), types.FunctionType))


def _function_of(value: Any) -> Any:
    """The function in a method, a property and their like; else the value itself."""
    if isinstance(value, (types.MethodType, classmethod, staticmethod)):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    return value.func if isinstance(value, functools.cached_property) else value


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _global_names(constant)
    return names
