"""The one door to pickles: code, arguments, results and failures, as bytes and back.

Functions and classes of `__main__` and of notebooks travel by value, those of importable modules by
reference. Only clients and workers come here; broker and pool carry the bytes unopened.
"""

from __future__ import annotations

import hashlib
import io
import linecache
import os
import pickle
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cloudpickle

from nbtasks.core.codec import VALUE_BYTES_MAX
from nbtasks.errors import FailedRun, NotPicklable, ResultCorrupt, ValueTooLarge

PROTOCOL = 5
REPR_CHARACTERS_MAX = 200
INT_BITS_MAX = 512  # a longer number is described: its digits take quadratic time
TRACEBACK_CHARACTERS_MAX = 200_000
MEBIBYTE = 2**20
PATH_DEPTH_MAX = 20  # how deep the culprit is looked for in what cannot be pickled
PATH_LOOKS_MAX = 2000  # parts that are tried on the way

_PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
_SHAPED = frozenset({"numpy", "pandas", "polars", "torch", "jax", "tensorflow", "scipy", "xarray", "cupy"})


# -- functions ----------------------------------------------------------------------------------------


def dump_function(function: Callable[..., Any]) -> tuple[bytes, str]:
    """Pickle a function with the source lines that exist in no file.

    Returns
    -------
    The bytes, and their digest.

    Raises
    ------
    NotPicklable
        The message names what the function uses and cannot travel.
    """
    try:
        body, sources = _dump_code(function)
    except Exception as error:
        raise NotPicklable(_why_not("the task", _name_of(function), function, error)) from None
    code = pickle.dumps((sources, body), PROTOCOL)
    if len(code) > VALUE_BYTES_MAX:
        raise ValueTooLarge(
            f"the task {_name_of(function)} with all that it uses is {_mib(len(code))} pickled; "
            f"at most {_mib(VALUE_BYTES_MAX)} may travel: pass large values as arguments or by file"
        )
    return code, hashlib.blake2b(code, digest_size=16).hexdigest()


def load_function(code: bytes) -> Callable[..., Any]:
    """The function, with its source lines where tracebacks look for them."""
    sources, body = pickle.loads(code)
    for filename, source in sources:
        entry = linecache.cache.get(filename)
        if entry is None or entry[0] != len(source):
            lines = source.splitlines(keepends=True)
            # without a time stamp linecache never compares the entry with a file
            linecache.cache[filename] = (len(source), None, lines, filename)
    function: Callable[..., Any] = pickle.loads(body)
    return function


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle, which also notes the files of functions and finds those that a decorator hides."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, PROTOCOL)
        self.filenames: set[str] = set()

    def reducer_override(self, value: Any) -> Any:
        if type(value) is types.FunctionType:
            self.filenames.add(value.__code__.co_filename)
            depth = _hidden_depth(value)
            if depth:
                return _find_hidden, (value.__module__, value.__qualname__, depth)
        return super().reducer_override(value)


def _dump_code(value: Any) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    sources = (
        (filename, _cached_source(filename))
        for filename in sorted(pickler.filenames)
        if filename in linecache.cache and not os.path.exists(filename)
    )
    return file.getvalue(), tuple((filename, source) for filename, source in sources if source)


def _cached_source(filename: str) -> str:
    entry: Any = linecache.cache[filename]
    return "".join(entry[2]) if len(entry) == 4 else ""


def _hidden_depth(function: types.FunctionType) -> int:
    """How many `__wrapped__` lead from the module's name to this function; 0: it is not found so.

    A decorated function is not what its module holds under its name, so cloudpickle would send it by
    value, with the globals that it uses.
    """
    module = sys.modules.get(function.__module__ or "")
    if module is None or module.__name__ == "__main__" or module in _by_value():
        return 0
    found: Any = module
    for name in function.__qualname__.split("."):
        found = vars(found).get(name) if isinstance(found, (type, types.ModuleType)) else None
    for depth in range(5):
        if found is function:
            return depth
        found = getattr(found, "__wrapped__", None)
        if found is None:
            break
    return 0


def _by_value() -> Iterable[types.ModuleType]:
    names = cloudpickle.list_registry_pickle_by_value()
    return [sys.modules[name] for name in names if name in sys.modules]


def _find_hidden(module: str, qualname: str, depth: int) -> Any:
    __import__(module)
    found: Any = sys.modules[module]
    for name in qualname.split("."):
        found = vars(found)[name]
    for _ in range(depth):
        found = found.__wrapped__
    return found


# -- arguments and results ----------------------------------------------------------------------------


def dump_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Iterable[str] = ()) -> bytes:
    """Pickle the arguments of one call.

    Parameters
    ----------
    names
        What the user calls the positional arguments, for errors.

    Raises
    ------
    NotPicklable, ValueTooLarge
        The message names the argument.
    """
    whole = (args, dict(kwargs))
    try:
        body = dumps(whole)
    except NotPicklable:
        raise  # it said itself why it cannot travel
    except Exception as error:
        for name, value in _named(args, kwargs, names):
            try:
                dumps(value)
            except Exception as inner:
                raise NotPicklable(_why_not("argument", name, value, inner)) from None
        raise NotPicklable(f"the arguments cannot be pickled: {_line_of(error)}") from error
    if len(body) > VALUE_BYTES_MAX:
        sizes = {name: len(dumps(value)) for name, value in _named(args, kwargs, names)}
        name = max(sizes, key=lambda key: sizes[key])
        raise ValueTooLarge(
            f"argument {name!r} is {_mib(sizes[name])} pickled, all arguments together {_mib(len(body))}; "
            f"at most {_mib(VALUE_BYTES_MAX)} may travel: save large data to a file and pass its path"
        )
    return body


def load_arguments(body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = pickle.loads(body)
    return args, kwargs


def dump_result(value: Any) -> bytes:
    """Pickle what a task returned.

    Raises
    ------
    NotPicklable, ValueTooLarge
        The message says what it is.
    """
    try:
        body = dumps(value)
    except Exception as error:
        raise NotPicklable(_why_not("the result", _type_name(value), value, error)) from None
    if len(body) > VALUE_BYTES_MAX:
        raise ValueTooLarge(
            f"the result, {_article(_type_name(value))}, is {_mib(len(body))} pickled; "
            f"at most {_mib(VALUE_BYTES_MAX)} may travel: save it to a file and return its path"
        )
    return body


def load_result(body: bytes) -> Any:
    """What a task returned.

    Raises
    ------
    ResultCorrupt
        The bytes cannot be read, or a class that they need is not here.
    """
    try:
        return pickle.loads(body)
    except Exception as error:
        raise ResultCorrupt(
            f"a result of {len(body):,} bytes is recorded but cannot be unpickled here: {_line_of(error)}"
        ) from error


def dumps(value: Any) -> bytes:
    """Pickle by cloudpickle's rules; values for which plain pickle does the same take the short way."""
    if _is_plain(value):
        return pickle.dumps(value, PROTOCOL)
    return _dump_code(value)[0]


def _is_plain(value: Any, depth: int = 3) -> bool:
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth and (kind is tuple or kind is list) and len(value) <= 100:
        return all(_is_plain(item, depth - 1) for item in value)
    if depth and kind is dict and len(value) <= 100:
        return all(_is_plain(k, 1) and _is_plain(v, depth - 1) for k, v in value.items())
    return False


def _named(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Iterable[str]
) -> Iterable[tuple[str, Any]]:
    known = list(names)
    known += [f"argument {i + 1}" for i in range(len(known), len(args))]
    yield from zip(known, args, strict=False)
    yield from kwargs.items()


# -- failures -----------------------------------------------------------------------------------------


class RemoteTraceback(Exception):
    """The traceback of an exception in the worker; shown as its cause."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def dump_failure(error: BaseException) -> bytes:
    """Pickle an exception with the text of its traceback; if it does not survive the way, the text alone."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        text = f"{type(error).__name__}: (its traceback cannot be shown)\n"
    if len(text) > TRACEBACK_CHARACTERS_MAX:
        half = TRACEBACK_CHARACTERS_MAX // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return pickle.dumps((_travelling(error), text, _line_of(error)), PROTOCOL)


def _travelling(error: BaseException) -> bytes:
    """The exception alone, if it comes out of its pickle as what it was; else nothing."""
    try:
        body = dumps(error)
        if len(body) <= VALUE_BYTES_MAX // 2 and type(pickle.loads(body)).__name__ == type(error).__name__:
            return body
    except Exception:
        return b""
    return b""


def load_failure(body: bytes) -> BaseException:
    """The exception as it was raised, caused by its remote traceback; a `FailedRun` if it cannot be had."""
    try:
        inner, text, line = pickle.loads(body)
    except Exception as error:
        return ResultCorrupt(f"a failure is recorded but cannot be read: {_line_of(error)}")
    failure: BaseException = FailedRun(line)
    try:
        found = pickle.loads(inner) if inner else None
    except Exception:
        found = None  # its class is not here, or is another one
    if isinstance(found, BaseException):
        failure = found
    failure.__cause__ = RemoteTraceback(text)
    return failure


# -- words --------------------------------------------------------------------------------------------


def safe_repr(value: Any) -> str:
    """What may be shown of an argument: plain values cut in the middle, of others type and shape.

    Calls no code of the user's, so that submitting never does.
    """
    kind = type(value)
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
        return f"<{_type_name(value)}{_shape(value)}>"[:REPR_CHARACTERS_MAX]
    return f"<{_type_name(value)}>"[:REPR_CHARACTERS_MAX]


def _shape(value: Any) -> str:
    try:
        return f" {tuple(int(n) for n in value.shape)}"
    except Exception:
        return ""


def _type_name(value: Any) -> str:
    kind = type(value)
    module = getattr(kind, "__module__", "")
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    return repr(name if isinstance(name, str) else _type_name(function))


def _line_of(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())[:300]
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _mib(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB"


# -- the culprit --------------------------------------------------------------------------------------


def _why_not(role: str, name: str, value: Any, error: BaseException) -> str:
    """Say which part of `value` cannot be pickled, by the way that leads to it."""
    looks = [PATH_LOOKS_MAX]
    path, culprit = _culprit(value, looks, {id(value)})
    shown = f"the result, {_article(name)}," if role == "the result" else f"{role} {name}"
    if not path:
        return f"{shown} cannot be pickled: {_line_of(error)}"
    where = f"{name}{path}" if role == "argument" and path[0] in ".[{" else path
    return f"{shown} cannot be pickled, because {where} is {_article(_type_name(culprit))}: {_line_of(error)}"


def _culprit(value: Any, looks: list[int], seen: set[int], depth: int = 0) -> tuple[str, Any]:
    """The way to the deepest part that cannot be pickled; "" if no part is to blame."""
    if depth >= PATH_DEPTH_MAX:
        return "", value
    for step, part in _parts(value):
        if id(part) in seen or looks[0] <= 0:
            continue
        looks[0] -= 1
        seen.add(id(part))
        try:
            dumps(part)
        except Exception:
            rest, culprit = _culprit(part, looks, seen, depth + 1)
            if rest.startswith(("its ", "the name ")):
                return f"{rest} (of {step})", culprit
            return step + rest, culprit
    return "", value


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, types.MethodType):
        yield "its object", value.__self__
        value = value.__func__
    if isinstance(value, types.FunctionType):
        code = value.__code__
        for name in _global_names(code):
            if name in value.__globals__:
                yield f"the name {name!r}", value.__globals__[name]
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
    elif isinstance(value, (type, types.ModuleType)):
        return
    elif isinstance(getattr(value, "__dict__", None), dict):
        yield from ((f".{name}", part) for name, part in vars(value).items())


def _global_names(code: types.CodeType) -> list[str]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names += _global_names(constant)
    return names
