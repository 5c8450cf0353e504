"""Loggers with what the notebook made of them: levels, and handlers that write where it prints.

A logger is pickled as its name. What `logging.basicConfig` and the like changed would stay behind, and what a
task logs below WARNING be lost.
"""

from __future__ import annotations

import logging
import sys
import types
from typing import Any, NamedTuple


class _Handler(NamedTuple):
    stream: str  # its name in sys
    level: int
    formatter: logging.Formatter | None


class _Setup(NamedTuple):
    """Of one logger."""

    name: str
    level: int
    propagate: bool
    handlers: tuple[_Handler, ...]


_PLAIN = _Setup("root", logging.WARNING, True, ())

_applies = False
_before: dict[str, tuple[int, bool, list[logging.Handler]]] = {}  # loggers as they were, by name


def apply_here() -> None:
    """Set loggers up when they are loaded in this process: it executes what others made."""
    global _applies
    _applies = True


def take_back() -> None:
    """Leave all loggers as they were before `apply_here` changed them."""
    for name, (level, propagate, handlers) in _before.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, handlers
    _before.clear()


def logger_reduction(logger: logging.Logger) -> Any:
    """What a pickle holds of a logger."""
    return _loaded, (logger.name, setup) if (setup := _setup_of(logger)) else (logger.name,)


def module_reduction(module: types.ModuleType) -> Any:
    """What a pickle holds of the module `logging`, whose functions log by the root; none of others."""
    if module is logging and (setup := _setup_of(logging.root)):
        return _loaded_module, (setup,)
    return NotImplemented


def _setup_of(logger: logging.Logger) -> list[_Setup]:
    """That of a logger and of those above it; empty if nobody changed any."""
    found: list[_Setup] = []
    one: logging.Logger | None = logger
    while one is not None:
        found.append(_Setup(one.name, one.level, one.propagate, tuple(map(_handler_of, _printing(one)))))
        one = one.parent
    is_plain = found[-1] == _PLAIN and all(it[1:] == (logging.NOTSET, True, ()) for it in found[:-1])
    return [] if is_plain else found


def _printing(logger: logging.Logger) -> list[Any]:
    """Its handlers that write where the process prints."""
    prints = sys.stdout, sys.stderr
    return [it for it in logger.handlers if type(it) is logging.StreamHandler and it.stream in prints]


def _handler_of(handler: Any) -> _Handler:
    # one of another class may hold anything
    formatter = handler.formatter if type(handler.formatter) is logging.Formatter else None
    return _Handler("stdout" if handler.stream is sys.stdout else "stderr", handler.level, formatter)


def _loaded(name: str, setup: list[_Setup] | None = None) -> logging.Logger:
    _set_up(setup or [])
    return logging.getLogger(name)


def _loaded_module(setup: list[_Setup]) -> types.ModuleType:
    _set_up(setup)
    return logging


def _set_up(setup: list[_Setup]) -> None:
    for one in setup if _applies else []:
        logger = logging.getLogger(one.name)
        _before.setdefault(one.name, (logger.level, logger.propagate, list(logger.handlers)))
        logger.setLevel(one.level)
        kept = [it for it in logger.handlers if it not in _printing(logger)]
        logger.propagate, logger.handlers[:] = one.propagate, [*kept, *map(_made, one.handlers)]


def _made(handler: _Handler) -> logging.Handler:
    made = logging.StreamHandler(getattr(sys, handler.stream))
    made.setLevel(handler.level)
    made.setFormatter(handler.formatter)
    return made
