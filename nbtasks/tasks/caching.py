"""Cache keys: which earlier run of a task has the result of this one already.

A key is a digest of what the policy names. Values are compared by what they are, not by their pickles,
which differ between processes: containers item by item, functions by their source, the rest by the bytes
that cloudpickle makes of each alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nbtasks import context, pickling
from nbtasks.core.messages import RunId
from nbtasks.tasks import identity

_LOCAL_MAX = 1000  # results of runs of this process that are remembered


class CachePolicy(NamedTuple):
    """What a key is made of; see `nbtasks.cache_policies`."""

    parts: frozenset[str] = frozenset()  # "inputs", "source", "run"
    without: frozenset[str] = frozenset()  # arguments that are left out

    def __add__(self, other: Any) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        return CachePolicy(self.parts | other.parts, self.without | other.without)

    def __sub__(self, name: str) -> CachePolicy:
        """The same without the argument of this name."""
        if not isinstance(name, str):
            raise TypeError(f"what is taken from a cache policy is the name of an argument, not {name!r}")
        return CachePolicy(self.parts, self.without | {name})


INPUTS = CachePolicy(frozenset({"inputs"}))  # all arguments
TASK_SOURCE = CachePolicy(frozenset({"source"}))  # the function's source text
RUN_ID = CachePolicy(frozenset({"run"}))  # the run whose code makes this one; in none: this very run
NO_CACHE = CachePolicy()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


class Caching(NamedTuple):
    """How a task finds earlier results; false if it does not."""

    policy: CachePolicy = NO_CACHE
    key_fn: Callable[[Any, dict[str, Any]], str | None] | None = None

    def __bool__(self) -> bool:
        return self.key_fn is not None or bool(self.policy.parts)


class KeyContext(NamedTuple):
    """What `cache_key_fn` is told besides the parameters."""

    task: str  # key of the task
    function: Callable[..., Any]
    run: RunId
    parent: RunId  # the run whose code makes this one; "": none


class NoKey(Exception):
    """The call has no cache key; the message says why, and what to do."""


def key_of(caching: Caching, about: KeyContext, parameters: Mapping[str, Any]) -> str:
    """The cache key of a call; "": it is not to be cached.

    Raises
    ------
    NoKey
        An argument has no stable bytes.
    TypeError
        `cache_key_fn` gave something else than a string.
    """
    if caching.key_fn is not None:
        key = caching.key_fn(about, dict(parameters))
        if key is not None and not isinstance(key, str):
            raise TypeError(f"cache_key_fn gives a string or None, not {key!r}")
        return f"{about.task}/{key}" if key else ""
    policy = caching.policy
    if not policy.parts:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    for part in sorted(policy.parts):
        digest.update(part.encode())
        if part == "source":
            digest.update(identity.source_digest(about.function).encode())
        elif part == "run":
            digest.update((about.parent or about.run).encode())
        else:
            for name, value in sorted(parameters.items()):
                if name not in policy.without:
                    digest.update(name.encode())
                    digest.update(_argument(name, value))
    return f"{about.task}/{digest.hexdigest()}"


def _argument(name: str, value: Any) -> bytes:
    try:
        return _digest(value)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise NoKey(
            f"the argument {name!r} has no stable bytes for a cache key ({why}), so nothing is cached: "
            f"leave it out (cache_policy=INPUTS - {name!r}) or give a cache_key_fn"
        ) from None


def _digest(value: Any) -> bytes:
    """A digest that equal values have in any process."""
    digest = hashlib.blake2b(f"{type(value).__module__}.{type(value).__qualname__}".encode(), digest_size=16)
    for piece in _pieces(value):
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)
    return digest.digest()


def _pieces(value: Any) -> list[bytes]:
    if isinstance(value, dict):
        return [
            part for k, v in sorted((_digest(k), _digest(v)) for k, v in value.items()) for part in (k, v)
        ]
    if isinstance(value, (set, frozenset)):
        return sorted(map(_digest, value))
    if isinstance(value, (list, tuple)):
        return list(map(_digest, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [_digest(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if callable(value) and hasattr(value, "__code__"):
        source = identity.source_digest(value)
        return [value.__qualname__.encode(), source.encode() or value.__code__.co_code]
    payload = pickling.dump(value)
    return [b"".join(bytes(piece) for piece in (*payload.stream, *payload.buffers))]


class LocalResults:
    """Results of runs of this process by their keys, the newest ones."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Any]] = {}  # key -> mono seconds until which it counts, result

    def find(self, key: str) -> tuple[Any] | None:
        until_s, value = self._kept.get(key, (0.0, None))
        return (value,) if until_s > time.monotonic() else None

    def keep(self, key: str, value: Any, expires_s: float) -> None:
        self._kept.pop(key, None)
        self._kept[key] = (time.monotonic() + expires_s if expires_s else float("inf"), value)
        while len(self._kept) > _LOCAL_MAX:
            del self._kept[next(iter(self._kept))]


local_results = LocalResults()


def about(task: str, function: Callable[..., Any], run: RunId) -> KeyContext:
    """What the key of a call by this thread of execution is made from."""
    return KeyContext(task, function, run, context.parent_id())
