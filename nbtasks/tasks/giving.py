"""For type checkers: what a run of a task has as its result.

Each way to call a task has two signatures, one for async functions, because a single one would have its type
of `self` in the body, too.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from nbtasks.tasks.definition import Task

Q = ParamSpec("Q")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Async: TypeAlias = "Task[..., Coroutine[Any, Any, T]]"


class Giving(Protocol[T_co]):
    """A task whose runs have such results; `Task._gives` says what those are."""

    def _gives(self) -> T_co: ...


class Method(Protocol[S_contra, Q, T_co]):
    """A task whose function takes such an object first."""

    def __call__(self, first: S_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> T_co: ...
