"""Code, arguments and results, as bytes and back.

Functions and classes of `__main__` and of notebooks travel by value, those of importable modules by
reference.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import cloudpickle

from nbtasks.core.codec import INLINE_BYTES_MAX, VALUE_BYTES_MAX
from nbtasks.core.messages import Need
from nbtasks.core.payload import Payload
from nbtasks.errors import NotPicklable, ResultCorrupt, ValueTooLarge
from nbtasks.pickling import by_value, exceptions, serializers, sources, texts
from nbtasks.pickling.blame import line_of, name_of, type_name, why_not
from nbtasks.pickling.frozen import Frozen
from nbtasks.pickling.upstream import Upstream, quote

PROTOCOL = 5
MEBIBYTE = 2**20

OUTSIDE_BYTES_MIN = 16 * 1024  # of a buffer that is not copied into the pickle

_FILENAME = 10  # where the name of its file stands among what a code object is made of

_SMALL = frozenset({int, float, complex, bool, type(None)})
_CONTAINERS = frozenset({tuple, list, dict})
PLAIN_ITEMS_MAX = 100  # of a container that is looked through


# -- functions ----------------------------------------------------------------------------------------


def dump_function(function: Any, name: str = "") -> tuple[bytes, str]:
    """Pickle a function, or functions together, with the source lines that exist in no file.

    Parameters
    ----------
    name
        What errors call it; else its own name.

    Returns
    -------
    The bytes, and their digest.

    Raises
    ------
    NotPicklable
        The message names what the function uses and cannot travel.
    """
    depth = _depth(function) if type(function) is types.FunctionType else None
    place = None if depth is None else (function.__module__, function.__qualname__, depth)
    known = None if place is None else _references.get(function)
    if known is not None and known[0] == place:
        return known[1], known[2]
    try:
        body, carried = _dump_code(function)
    except Exception as error:
        raise NotPicklable(why_not("the task", name or name_of(function), function, error, dumps)) from None
    code = pickle.dumps((carried, body), PROTOCOL)
    if len(code) > VALUE_BYTES_MAX:
        raise ValueTooLarge(
            f"the task {name or name_of(function)} with all that it uses is {_mib(len(code))} pickled; "
            f"at most {_mib(VALUE_BYTES_MAX)} may travel: pass large values as arguments or by file"
        )
    digest = hashlib.blake2b(code, digest_size=16).hexdigest()
    if place is not None:
        _references[function] = place, code, digest
    return code, digest


# function that travels by reference -> where it is found, bytes, digest: what it does is not in them
_references: WeakKeyDictionary[Any, tuple[tuple[str, str, int], bytes, str]] = WeakKeyDictionary()


def load_function(code: bytes) -> Callable[..., Any]:
    """The function, with its source lines where tracebacks look for them."""
    carried, body = pickle.loads(code)
    sources.remember(carried)
    function: Callable[..., Any] = pickle.loads(body)
    return function


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Cloudpickle, which also notes the files of functions and finds those that a decorator hides."""

    def __init__(
        self,
        file: Any,
        takes_in: Callable[[pickle.PickleBuffer], bool] | None = None,
        needs: list[Need] | None = None,
    ) -> None:
        super().__init__(file, PROTOCOL, takes_in)
        self.filenames: set[str] = set()
        self._needs = needs

    def reducer_override(self, value: Any) -> Any:
        if self._needs is not None and isinstance(value, (Upstream, quote, Frozen)):
            if isinstance(value, Frozen):
                self._needs += value.needs
                return value.__reduce__()
            if isinstance(value, quote):
                return pickle.loads, (dumps(value.value),)
            if need := value.need():
                self._needs.append(need)
                return value.stand_in(need)
            return value.at_hand()
        kind = type(value)
        if kind is types.FunctionType:
            self.filenames.add(value.__code__.co_filename)
            depth = _depth(value)
            if depth:
                return _find_hidden, (value.__module__, value.__qualname__, depth)
            if value.__code__ is by_value.DISPATCHING and depth is None:
                return by_value.dispatching_reduction(value)
            return texts.with_sought(value, super().reducer_override(value))
        if kind in by_value.REDUCERS:
            depth = _depth(value)
            if depth:
                return _find_hidden, (value.__module__, value.__qualname__, depth)
            return by_value.REDUCERS[kind](value) if depth is None else NotImplemented
        if kind is types.CodeType:
            make, parts = self.dispatch_table[types.CodeType](value)
            # cloudpickle from 3.1.3 on forgets the file, without which tracebacks have no source lines; a
            # copy of its name, for what is shared by chance would make equal functions unequal bytes
            filename = "".join(value.co_filename)
            return make, (*parts[:_FILENAME], filename, *parts[_FILENAME + 1 :])
        if issubclass(kind, type):
            reduction = super().reducer_override(value)
            return by_value.with_slots(value, reduction) if "__slots__" in vars(value) else reduction
        # cloudpickle has no rule here for other objects, and is not asked: there may be very many
        if issubclass(kind, BaseException):
            return exceptions.reduction_of(value)
        if value is sys.stdout or value is sys.stderr or value is sys.__stdout__ or value is sys.__stderr__:
            return by_value.output_of(value)
        return NotImplemented


def _dump_code(value: Any) -> tuple[bytes, sources.Sources]:
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(value)
    return file.getvalue(), sources.of(pickler.filenames)


def _depth(function: Any) -> int | None:
    """How many `__wrapped__` lead from the module's name to this function; None: it travels by value.

    A decorated function is not what its module holds under its name, so cloudpickle would send it by
    value, with the globals that it uses.
    """
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or _is_by_value(module):
        return None
    found: Any = module
    path = getattr(function, "__qualname__", "") or getattr(function, "__name__", "")
    for name in path.split("."):
        found = vars(found).get(name) if isinstance(found, (type, types.ModuleType)) else None
    for depth in range(5):
        if found is function:
            return depth
        found = getattr(found, "__wrapped__", None)
        if found is None:
            break
    return None


def _is_by_value(module: types.ModuleType) -> bool:
    """Whether the user registered the module, or a package around it, to travel by value."""
    names = cloudpickle.list_registry_pickle_by_value()
    return bool(names) and any(f"{module.__name__}.".startswith(f"{name}.") for name in names)


def _find_hidden(module: str, qualname: str, depth: int) -> Any:
    __import__(module)
    found: Any = sys.modules[module]
    for name in qualname.split("."):
        found = vars(found)[name]
    for _ in range(depth):
        found = found.__wrapped__
    return found


# -- arguments and results ----------------------------------------------------------------------------


def dump_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Iterable[str] = ()
) -> tuple[Payload, list[Need]]:
    """Pickle the arguments of one call.

    Returns
    -------
    The bytes, and the runs whose values stand among the arguments.

    Parameters
    ----------
    names
        What the user calls the positional arguments, for errors.

    Raises
    ------
    NotPicklable
        The message names the argument.
    """
    needs: list[Need] = []
    return _dumped_call(args, kwargs, names, needs), needs


def dump_values(args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Iterable[str] = ()) -> Payload:
    """The same of a call without runs that stand for their values: those that are there travel as handles."""
    return _dumped_call(args, kwargs, names, None)


def _dumped_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Iterable[str], needs: list[Need] | None
) -> Payload:
    try:
        return dump((args, dict(kwargs)), needs)
    except NotPicklable:
        raise  # it said itself why it cannot travel
    except Exception as error:
        for name, value in _named(args, kwargs, names):
            try:
                dumps(value)
            except Exception as inner:
                raise NotPicklable(why_not("argument", name, value, inner, dumps)) from None
        raise NotPicklable(f"the arguments cannot be pickled: {line_of(error)}") from error


def load_arguments(body: bytes | Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = load(body)
    return args, kwargs


def dump_result(value: Any, serializer: str = "pickle") -> Payload:
    """Write what a task returned.

    Parameters
    ----------
    serializer
        One of `serializers.SERIALIZERS`.

    Raises
    ------
    NotPicklable
        The message says what it is.
    """
    if serializer.endswith("json"):
        payload = Payload([serializers.json_of(value)])
        return serializers.compressed(payload) if serializer != "json" else payload
    try:
        # what is to be compressed is one piece, its buffers included
        return dump(value) if serializer == "pickle" else serializers.compressed(Payload([dumps(value)]))
    except Exception as error:
        raise NotPicklable(why_not("the result", type_name(value), value, error, dumps)) from None


def load_result(body: bytes | Payload) -> Any:
    """What a task returned, however it was written.

    Raises
    ------
    ResultCorrupt
        The bytes cannot be read, or a class that they need is not here.
    """
    try:
        return _load_result(body)
    except Exception as error:
        size = body.size if isinstance(body, Payload) else len(body)
        raise ResultCorrupt(
            f"a result of {size:,} bytes is recorded but cannot be unpickled here: {line_of(error)}"
        ) from error


def _load_result(body: bytes | Payload) -> Any:
    if isinstance(body, Payload) and body.buffers:
        return load(body)
    stream = b"".join(body.stream) if isinstance(body, Payload) else body
    stream, is_json = serializers.opened(stream)
    return json.loads(stream) if is_json else pickle.loads(stream)


def freeze(value: Any) -> Frozen:
    """Pickle a value now, to travel later; with the source lines of its functions."""
    needs: list[Need] = []
    filenames: set[str] = set()
    payload = dump(value, needs, filenames)
    return Frozen(payload, needs, sources.of(filenames))


def dump(value: Any, needs: list[Need] | None = None, filenames: set[str] | None = None) -> Payload:
    """Pickle a value of any size, without a copy of its large parts.

    What offers its memory (arrays do) stays outside of the pickle if it is large; large bytes and texts
    are pieces of the pickle of their own. If all is small, nothing lies outside.

    Parameters
    ----------
    needs
        If given, runs are replaced by their values, and what these are is added here.
    filenames
        If given, the files of functions are added here.
    """
    if _is_plain(value):
        return Payload([pickle.dumps(value, PROTOCOL)])
    buffers: list[memoryview] = []

    def takes_in(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUTSIDE_BYTES_MIN:
            return True
        buffers.append(raw)
        return False

    pieces = _Pieces()
    pickler = _Pickler(pieces, takes_in, needs)
    pickler.dump(value)
    if filenames is not None:
        filenames |= pickler.filenames
    payload = Payload(pieces.all, buffers)
    if buffers and payload.size <= INLINE_BYTES_MAX:
        pieces = _Pieces()
        _Pickler(pieces, needs=None if needs is None else []).dump(value)
        return Payload(pieces.all)
    return payload


def load(body: bytes | Payload) -> Any:
    """What `dump` wrote."""
    if not isinstance(body, Payload):
        return pickle.loads(body)
    stream = body.stream[0] if len(body.stream) == 1 else b"".join(body.stream)
    return pickle.loads(stream, buffers=body.buffers)


class _Pieces:
    """A file to pickle into, which keeps what is written as it is."""

    def __init__(self) -> None:
        self.all: list[bytes] = []

    def write(self, piece: Any) -> int:
        # a bytearray may change before it is stored; the pickler's own frames are bytes
        self.all.append(piece if type(piece) is bytes else bytes(piece))
        return len(piece)


def dumps(value: Any) -> bytes:
    """Pickle by cloudpickle's rules; values for which plain pickle does the same take the short way."""
    if _is_plain(value):
        return pickle.dumps(value, PROTOCOL)
    return _dump_code(value)[0]


def _is_plain(value: Any, depth: int = 3) -> bool:
    kind = type(value)
    if kind in _SMALL:
        return True
    if kind is str or kind is bytes:
        return len(value) < OUTSIDE_BYTES_MIN
    if not depth or kind not in _CONTAINERS or len(value) > PLAIN_ITEMS_MAX:
        return False
    # loops, because a generator costs more than most calls have to be looked at
    if kind is dict:
        for key, item in value.items():  # noqa: SIM110
            if not (_is_plain(key, 1) and _is_plain(item, depth - 1)):
                return False
        return True
    for item in value:  # noqa: SIM110
        if not _is_plain(item, depth - 1):
            return False
    return True


def _named(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], names: Iterable[str]
) -> Iterable[tuple[str, Any]]:
    known = list(names)
    known += [f"argument {i + 1}" for i in range(len(known), len(args))]
    yield from zip(known, args, strict=False)
    yield from kwargs.items()


def _mib(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB"
