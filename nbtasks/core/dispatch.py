"""Methods chosen by the type of a message.

What `functools.singledispatchmethod` does, without its search through classes at every call, which
costs as much as most methods: a message's type is looked up as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args, get_type_hints

Method = TypeVar("Method", bound=Callable[..., Any])


class Dispatch:
    """The methods of one machine: `@on.register` in the class, `self.on[type(message)](self, message, …)`.

    Parameters
    ----------
    whom
        Named in the error about a message that is for somebody else.
    """

    def __init__(self, whom: str) -> None:
        self._whom = whom
        self._by_type: dict[type, Callable[..., Any]] = {}

    def register(self, method: Method) -> Method:
        """Decorate the method for messages of the type that it names for `message`; a Union names several."""
        named = get_type_hints(method)["message"]
        for kind in get_args(named) or (named,):
            self._by_type[kind] = method
        return method

    def __getitem__(self, kind: type) -> Callable[..., Any]:
        found = self._by_type.get(kind)
        if found is None:
            raise TypeError(f"a {kind.__name__} is not a message to a {self._whom}")
        return found
