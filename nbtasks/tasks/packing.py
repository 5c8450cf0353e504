"""What a call becomes in order to travel: arguments packed, and shown as short texts, in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

import msgspec

from nbtasks import pickling
from nbtasks.context import Submitter
from nbtasks.core.codec import BATCH_BYTES_MAX
from nbtasks.core.messages import Need, NewRun, RunId
from nbtasks.errors import NotPicklable
from nbtasks.pickling.upstream import Upstream, united
from nbtasks.tasks.naming import Naming, name_of
from nbtasks.wire import ids

BATCH_RUNS_MAX = 1000  # runs that are recorded together
NEED_BYTES = 40  # of a message, about

CacheKeys = Callable[[RunId, Mapping[str, Any]], str]  # run, parameters -> its cache key; "": it has none
Call = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]  # positional, keyword, all by name


def new_run(
    client: Submitter,
    signature: Signature | None,
    call: Call,
    waits_for: Sequence[Need],
    naming: Naming,
    cached: CacheKeys | None,
) -> NewRun:
    """One run of a call; raises `NotPicklable`.

    Parameters
    ----------
    waits_for
        What it needs besides the runs among its arguments.
    naming
        What it is called.
    cached
        Gives its cache key; None: nothing is cached.
    """
    args, kwargs, parameters = call
    name, run = name_of(naming, parameters), ids.run_id()
    payload, needs = pickling.dump_arguments(args, kwargs, names(signature, len(args)))
    needs += waits_for
    body = client.pack(payload, run)
    # with runs among its arguments it has no key before they are there
    key = cached(run, parameters) if cached and not needs else ""
    return NewRun(run, body, texts(parameters), united(needs) if needs else (), name, key)


def batches(
    client: Submitter,
    signature: Signature | None,
    calls: Iterable[Call],
    waits_for: Sequence[Need],
    naming: Naming,
    cached: CacheKeys | None,
    made: list[tuple[str, str, str]],
) -> Iterator[Sequence[NewRun]]:
    """Batches of runs; what handles need of them (id, name, parameters) is appended to `made`."""
    batch: list[NewRun] = []
    size = 0
    for call in calls:
        try:
            run = new_run(client, signature, call, waits_for, naming, cached)
        except NotPicklable as error:
            before = len(made) - len(batch)
            words = f"; the {before} runs before its batch are recorded" if before else ""
            raise type(error)(f"item {len(made)}: {error}{words}") from None
        weight = len(run.args) + len(run.parameters) + NEED_BYTES * len(run.needs)
        if batch and (len(batch) >= BATCH_RUNS_MAX or size + weight > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(run)
        made.append((run.run, run.name, run.parameters))
        size += weight
    if batch:
        yield batch


def waits_for(given: Any) -> tuple[Need, ...]:
    """The value of `wait_for`: background runs, or lists of them."""
    if given is None:
        return ()
    if isinstance(given, Upstream):
        need = given.need()
        return (need,) if need else ()
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"wait_for is a background run or a list of them, not {given!r}")
    return tuple(need for one in given for need in waits_for(one))


def texts(parameters: Mapping[str, Any]) -> str:
    """The arguments as people see them: a JSON object of short texts."""
    short = {name: pickling.safe_repr(value) for name, value in parameters.items()}
    return msgspec.json.encode(short).decode()


def names(signature: Signature | None, number: int) -> Iterator[str]:
    """What the first positional arguments are called."""
    for parameter in () if signature is None else signature.parameters.values():
        if parameter.kind is Parameter.VAR_POSITIONAL:
            for i in range(number):
                yield f"{parameter.name}[{i}]"
            return
        yield parameter.name
