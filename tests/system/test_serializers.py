"""How results are written, with real workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import nbtasks
from nbtasks import NotPicklable, task
from nbtasks.pickling.serializers import SERIALIZERS

SHARES_WORKERS = True

pytestmark = pytest.mark.feature("T17")


class Thing:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


def give(value: Any) -> Any:
    return value


async def give_async(value: Any) -> Any:
    await asyncio.sleep(0)
    return value


def make_thing() -> Thing:
    return Thing(3)


BOTH = pytest.mark.parametrize("function", [give, give_async])


@BOTH
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_plain_values_come_back_whatever_writes_them(
    client: Any, workers: Any, serializer: str, function: Callable[..., Any]
) -> None:
    one = task(function, result_serializer=serializer)

    for value in (None, [1, 2.5, "ü", {"a": None}], "x" * 200_000):
        run = one.delay(value)
        assert run.result(timeout=60) == value
        assert nbtasks.get_run(run.id).result(timeout=60) == value


@pytest.mark.parametrize("serializer", ["pickle", "compressed/pickle"])
def test_classes_of_users_and_arrays_come_back_as_they_were(
    client: Any, workers: Any, serializer: str
) -> None:
    import numpy as np

    assert task(make_thing, result_serializer=serializer).delay().result(timeout=60) == Thing(3)
    array = task(give, result_serializer=serializer).delay(np.zeros(300_000)).result(timeout=60)
    assert (array.sum(), array.nbytes) == (0.0, 2_400_000)


def test_compressed_results_take_less(client: Any, workers: Any) -> None:
    from pathlib import Path

    plain = task(give).delay("x" * 1_000_000)
    small = task(give, result_serializer="compressed/pickle").delay("x" * 1_000_000)

    assert plain.result(timeout=60) == small.result(timeout=60)
    results = list(Path(client.home).glob("blobs/**/*.1.*"))
    found = {run for run in (plain, small) if any(str(run.id) in file.name for file in results)}
    assert found == {plain}


@BOTH
def test_what_json_cannot_hold_fails_with_what_to_do(
    client: Any, workers: Any, function: Callable[..., Any]
) -> None:
    one = task(function, result_serializer="json")

    with pytest.raises(NotPicklable, match=r"a Thing, cannot be written as JSON.*result_serializer='pickle'"):
        one.delay(Thing(1)).result(timeout=60)


def test_runs_of_this_process_follow_the_same_rule(client: Any) -> None:
    one = task(give, result_serializer="json")

    assert one((1, 2)) == [1, 2]
    with pytest.raises(NotPicklable, match="as JSON"):
        one.submit(Thing(1)).result(timeout=60)


def test_an_unknown_serializer_is_refused_at_definition() -> None:
    with pytest.raises(ValueError, match="no result serializer 'xml'; there are pickle, json"):
        task(give, result_serializer="xml")
    with pytest.raises(TypeError):
        task(give, result_serializer=3)
