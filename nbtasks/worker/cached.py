"""Whether the result of an earlier run is taken: asked after the arguments are there, before the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nbtasks import context, pickling
from nbtasks.core.messages import GetCached, Push, Value
from nbtasks.pickling.code import Code
from nbtasks.tasks.caching import Caching, KeyContext, NoKey, key_of
from nbtasks.wire.blobs import Blobs


class Cached:
    """The cache key of a run, and what is found under it.

    Parameters
    ----------
    bind
        Gives the arguments by name.
    warn
        Tells the user why nothing is cached.
    """

    def __init__(
        self,
        push: Push,
        code: Code,
        bind: Callable[[], Mapping[str, Any]],
        blobs: Blobs,
        warn: Callable[[str], None],
    ) -> None:
        self._blobs = blobs
        self._refresh = push.refresh
        caching: Caching = code.around.get("caching", Caching())
        self.key = push.cache_key
        if caching and not self.key:
            about = KeyContext(push.spec.key, code.function, push.run, push.parent)
            try:
                self.key = key_of(caching, about, bind())
            except NoKey as reason:
                warn(f"{reason}\n")

    def find(self) -> tuple[Any] | None:
        """The result, if there is one to be taken."""
        if not self.key or self._refresh:
            return None
        found = context.submitter().ask(lambda number: GetCached(number, self.key), Value)
        return (pickling.load_result(self._blobs.unpack(found.value)),) if found.found else None
