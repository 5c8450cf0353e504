"""Who is called with what is heard of a run or of the board."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Union

from nbtasks.core.messages import Board, RunChanged, RunId

Seen = Union[Board, RunChanged, None]  # None: nothing more will be heard
Look = Callable[[Seen], object]


class Looks:
    """Looks by the name of what is looked at; iterated, the names. Guarded by whoever has it."""

    def __init__(self) -> None:
        self._looks: dict[RunId, list[Look]] = {}

    def __iter__(self) -> Iterator[RunId]:
        return iter(self._looks)

    def __len__(self) -> int:
        return len(self._looks)

    def add(self, name: RunId, look: Look) -> bool:
        """Whether it is the first at this name."""
        looks = self._looks.setdefault(name, [])
        looks.append(look)
        return len(looks) == 1

    def drop(self, name: RunId, look: Look) -> bool:
        """Whether it was the last at this name; one that is not there is none."""
        looks = self._looks.get(name, [])
        if look not in looks:
            return False
        looks.remove(look)
        if not looks:
            del self._looks[name]
        return not looks

    def calls(self, name: RunId, seen: Seen) -> list[Callable[[], object]]:
        """What tells all who look at this name."""
        return [partial(look, seen) for look in self._looks.get(name, ())]

    def calls_of_loss(self) -> list[Callable[[], object]]:
        """What tells all that they will hear nothing more."""
        return [call for name in self._looks for call in self.calls(name, None)]
