"""Runs among the arguments of another run: each is replaced by a need, and by its value where it is loaded.

The pickler meets them at any depth, so containers, dataclasses and models of whatever library need no
rules of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from nbtasks.core.messages import Need, RunId
from nbtasks.pickling.offered import Offered, value_in

ValueOf = Callable[[RunId, bool], Any]  # run, whether its failure is a value, too -> what it stored


class Upstream:
    """What stands for the value of a run that may not have ended; a base class."""

    def need(self) -> Need | None:
        """Which run it is; None: its value can travel at once."""
        raise NotImplementedError

    def at_hand(self) -> Any:
        """How its value is pickled if it can travel at once; else as pickling itself would."""
        return NotImplemented

    def stand_in(self, need: Need) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """What the pickle holds instead: a function, and its arguments."""
        return value_of, (need.run, need.tolerant)


class allow_failure(Upstream):
    """An argument that is the exception of a run if that did not complete, instead of hindering the call.

    Parameters
    ----------
    run
        A run.
    """

    def __init__(self, run: Any) -> None:
        if not isinstance(run, Upstream) or isinstance(run, allow_failure):
            raise TypeError(f"allow_failure() takes a run, not {run!r}")
        self.run = run

    def need(self) -> Need | None:
        need = self.run.need()
        return Need(need.run, tolerant=True) if need else None

    def __repr__(self) -> str:
        return f"allow_failure({self.run!r})"


class NamedOutput(Upstream):
    """A name that a run offers beside its result.

    Parameters
    ----------
    run
        A run of a cell.
    """

    def __init__(self, run: Any, name: str) -> None:
        self.run = run
        self.name = name

    def need(self) -> Need | None:
        need: Need | None = self.run.need()
        return need

    def stand_in(self, need: Need) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return output_of, (need.run, self.name)

    def __repr__(self) -> str:
        return f"NamedOutput({self.run!r}, {self.name!r})"


class quote:
    """An argument that travels as it is: runs in it stay handles, nobody waits for them."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"quote({self.value!r})"


_value_of: ContextVar[ValueOf] = ContextVar("nbtasks_value_of")


class given:
    """Where arguments are loaded: what the runs among them gave."""

    def __init__(self, value_of: ValueOf) -> None:
        self._wanted = value_of

    def __enter__(self) -> None:
        self._token = _value_of.set(self._wanted)

    def __exit__(self, *exc: object) -> None:
        _value_of.reset(self._token)


def value_of(run: RunId, tolerant: bool) -> Any:
    """What the pickle holds instead of a run."""
    return value_in(_value_of.get()(run, tolerant))


def output_of(run: RunId, name: str) -> Any:
    """What the pickle holds instead of a name that a run offers."""
    stored = _value_of.get()(run, False)
    if not isinstance(stored, Offered):
        return stored  # a handle stands for itself, where there will never be a value
    if name not in stored.names:
        raise NameError(
            f"name {name!r} is what run {run} was to assign, but its cell did not bind it", name=name
        )
    return stored.names[name]


def united(needs: list[Need]) -> tuple[Need, ...]:
    """Each run once; whoever needs its value is not tolerant."""
    found: dict[RunId, bool] = {}
    for need in needs:
        found[need.run] = need.tolerant and found.get(need.run, True)
    return tuple(Need(run, tolerant) for run, tolerant in found.items())
