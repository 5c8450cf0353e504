"""One call for each item: how the arguments of `map` become those of single calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, Generic, NamedTuple, TypeVar

from nbtasks.pickling.upstream import Upstream, quote
from nbtasks.tasks.packing import Call

T = TypeVar("T")


# of a function written in C that does not tell
ANYTHING = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)


class unmapped(Generic[T]):
    """An argument of `map` that every call gets whole, although it could be iterated."""

    def __init__(self, value: T) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"unmapped({self.value!r})"


class _Column(NamedTuple):
    """An argument that differs from call to call."""

    values: list[Any]


class _Whole(NamedTuple):
    """An argument that is the same for all."""

    value: Any


class Calls:
    """The calls that one `map` makes.

    Raises
    ------
    TypeError
        The arguments do not fit the function, or one is a dict or a data frame.
    ValueError
        No argument can be iterated, or their lengths differ.
    """

    def __init__(
        self, name: str, signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}() {error}") from None
        names = _names(bound)
        wrapped = [_wrap(name, names.get(i, f"argument {i + 1}"), value) for i, value in enumerate(args)]
        options = {word: _wrap(name, word, value) for word, value in kwargs.items()}
        self.number = _length(name, names, wrapped, options)
        # bound once with the wrappers in place, so that a call costs no binding of its own
        bound = signature.bind(*wrapped, **options)
        bound.apply_defaults()
        self._args = [_as_column(value) for value in bound.args]
        self._kwargs = {word: _as_column(value) for word, value in bound.kwargs.items()}
        self._parameters = {word: _spread(value) for word, value in bound.arguments.items()}

    def __iter__(self) -> Iterator[Call]:
        """Positional arguments, keyword arguments, and all by the name of their parameter."""
        words, labels = list(self._kwargs), list(self._parameters)
        positional = zip(*map(_stream, self._args), strict=False) if self._args else repeat(())
        keyword = zip(*map(_stream, self._kwargs.values()), strict=False) if words else repeat(())
        named = zip(*map(_stream, self._parameters.values()), strict=False) if labels else repeat(())
        for _, args, values, parameters in zip(range(self.number), positional, keyword, named, strict=False):
            yield args, dict(zip(words, values, strict=True)), dict(zip(labels, parameters, strict=True))


class BoundCalls(Calls):
    """Calls by keyword of a task that fills in the rest: `bind` makes one of what the call gives."""

    def __init__(self, calls: Calls, bind: Callable[[dict[str, Any]], Call]) -> None:
        self.number = calls.number
        self._calls = calls
        self._bind = bind

    def __iter__(self) -> Iterator[Call]:
        for _, kwargs, _ in self._calls:
            yield self._bind(kwargs)


def _wrap(task: str, name: str, value: Any) -> _Column | _Whole:
    if isinstance(value, unmapped):
        return _Whole(value.value)
    if isinstance(value, Mapping):
        raise TypeError(
            f"{task}.map() got a dict for {name!r}; it would map the keys: "
            f"pass list({name}), list({name}.items()), or unmapped({name}) for the whole dict"
        )
    if rows := _rows_of(value):
        raise TypeError(
            f"{task}.map() got a data frame for {name!r}; it would map the names of its columns: "
            f"pass {name}.{rows}(), a groupby of it, or unmapped({name}) for the whole frame"
        )
    if isinstance(value, (str, bytes, bytearray, Upstream, quote)) or not isinstance(value, Iterable):
        return _Whole(value)
    try:
        return _Column(list(value))
    except TypeError:
        return _Whole(value)  # such as an array without dimensions


def _rows_of(value: Any) -> str:
    """The method that gives the rows of a data frame, as pandas or polars call it; "": it is none."""
    kind = type(value)
    if not hasattr(kind, "columns"):
        return ""
    return next((method for method in ("itertuples", "iter_rows") if hasattr(kind, method)), "")


def _names(bound: inspect.BoundArguments) -> dict[int, str]:
    """What the positional arguments of a call are called."""
    names: dict[int, str] = {}
    for parameter in bound.signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names[len(names)] = parameter.name
        elif parameter.kind is parameter.VAR_POSITIONAL:
            start = len(names)
            for i in range(len(bound.arguments.get(parameter.name, ()))):
                names[start + i] = f"{parameter.name}[{i}]"
    return names


def _length(
    task: str, names: dict[int, str], args: list[_Column | _Whole], kwargs: Mapping[str, _Column | _Whole]
) -> int:
    columns = {names.get(i, str(i)): value for i, value in enumerate(args)} | dict(kwargs)
    lengths = {name: len(value.values) for name, value in columns.items() if isinstance(value, _Column)}
    if not lengths:
        raise ValueError(
            f"{task}.map() got nothing to map over: no argument is an iterable (strings count as one value)"
        )
    if len(set(lengths.values())) > 1:
        words = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(
            f"{task}.map() got iterables of different lengths: {words}; use unmapped() for whole values"
        )
    return next(iter(lengths.values()))


def _as_column(value: Any) -> _Column | _Whole:
    # what is not wrapped is a default, which is never mapped
    return value if isinstance(value, (_Column, _Whole)) else _Whole(value)


def _spread(value: Any) -> _Column | _Whole:
    """A parameter's column; the items of a variadic one may be columns themselves."""
    if isinstance(value, (_Column, _Whole)):
        return value
    if isinstance(value, tuple):
        columns = [_as_column(item) for item in value]
        if any(isinstance(column, _Column) for column in columns):
            return _Column(list(zip(*map(_stream, columns), strict=False)))
        return _Whole(tuple(column.value for column in columns if isinstance(column, _Whole)))
    if isinstance(value, dict):
        columns = [_as_column(item) for item in value.values()]
        if any(isinstance(column, _Column) for column in columns):
            rows = zip(*map(_stream, columns), strict=False)
            return _Column([dict(zip(value, row, strict=True)) for row in rows])
        named = zip(value, columns, strict=True)
        return _Whole({key: column.value for key, column in named if isinstance(column, _Whole)})
    return _Whole(value)


def _stream(column: _Column | _Whole) -> Iterable[Any]:
    return column.values if isinstance(column, _Column) else repeat(column.value)
