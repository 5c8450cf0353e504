"""`map`: which calls it makes, and what it refuses before anything exists."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

import nbtasks
from nbtasks import context, task, unmapped
from tests.unit.submitters import MemorySubmitter


@task
def show(a: Any, b: Any = (1, 2), *rest: Any, c: Any = "c", **more: Any) -> Any:
    return a, b, rest, c, more


@pytest.fixture(autouse=True)
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


def results(*args: Any, **kwargs: Any) -> list[Any]:
    return show.map(*args, deferred=True, **kwargs).result()


def test_without_deferred_it_runs_here_in_the_order_of_the_input(there: MemorySubmitter) -> None:
    assert [row[0] for row in show.map([1, 2, 3]).result()] == [1, 2, 3]
    assert show.map([]) == []
    with pytest.raises(TypeError, match="deferred"):
        show.map([1], deferred=1)  # type: ignore[arg-type]
    assert not there.recorded


@pytest.mark.feature("D4")
def test_iterables_are_zipped_and_scalars_and_strings_repeated() -> None:
    assert results([1, 2], "xy") == [(1, "xy", (), "c", {}), (2, "xy", (), "c", {})]
    assert results([1, 2], (3, 4))[1][:2] == (2, 4)
    assert results([1, 2], None)[1][:2] == (2, None)


def test_generators_ranges_and_sets_are_walked_once() -> None:
    assert [row[0] for row in results(x * x for x in range(4))] == [0, 1, 4, 9]
    assert [row[0] for row in results(range(3))] == [0, 1, 2]
    assert results({7}) == [(7, (1, 2), (), "c", {})]


@pytest.mark.feature("D4")
def test_unmapped_is_given_whole() -> None:
    assert results([1, 2], unmapped([3, 4]))[0][1] == [3, 4]
    assert results([1], unmapped({"k": 1}))[0][1] == {"k": 1}


@pytest.mark.feature("D4")
def test_defaults_are_never_mapped() -> None:
    assert results([1])[0][1] == (1, 2)


@pytest.mark.feature("D4")
def test_keywords_and_variadic_arguments_are_mapped() -> None:
    assert results(a=[1, 2], c=[3, 4]) == [(1, (1, 2), (), 3, {}), (2, (1, 2), (), 4, {})]
    assert results([1, 2], 0, [5, 6], "z") == [(1, 0, (5, "z"), "c", {}), (2, 0, (6, "z"), "c", {})]
    assert results([1, 2], x=[7, 8], y="y")[1][4] == {"x": 8, "y": "y"}
    assert results([1, 2], 0, "r", x="x")[1][2:] == (("r",), "c", {"x": "x"})


def test_the_parameters_of_each_run_are_its_own() -> None:
    runs = show.map([1, 2], 0, [5, 6], deferred=True)

    assert runs[1].parameters == {
        "a": "2", "b": "0", "rest": "<tuple of 1>", "c": "'c'", "more": "<dict of 0>"
    }  # fmt: skip


@pytest.mark.feature("D4")
def test_unequal_lengths_are_refused_with_both(there: MemorySubmitter) -> None:
    with pytest.raises(ValueError, match=r"a has 2, b has 3"):
        show.map([1, 2], [1, 2, 3], deferred=True)

    assert not there.recorded


@pytest.mark.parametrize("args", [(1,), ("text",), (unmapped([1]),), (b"bytes", 3)])
def test_nothing_to_map_over_is_refused(there: MemorySubmitter, args: Any) -> None:
    with pytest.raises(ValueError, match="nothing to map over"):
        show.map(*args, deferred=True)

    assert not there.recorded


@pytest.mark.feature("D5")
def test_a_dict_is_refused_with_a_hint(there: MemorySubmitter) -> None:
    with pytest.raises(TypeError, match=r"unmapped\(a\)"):
        show.map({"x": 1}, deferred=True)
    with pytest.raises(TypeError, match=r"list\(c\.items\(\)\)"):
        show.map([1], c={}, deferred=True)

    assert not there.recorded


class PolarsFrame:
    """What polars' data frames have in common with those of pandas, and what not."""

    columns = ("a", "b")

    def iter_rows(self) -> Iterator[Any]:
        yield from ()

    def __iter__(self) -> Iterator[Any]:
        yield from ()


def test_a_data_frame_is_refused_with_a_hint_and_its_rows_and_columns_are_not(there: MemorySubmitter) -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4]})
    with pytest.raises(TypeError, match=r"names of its columns: pass a\.itertuples\(\).*unmapped\(a\)"):
        show.map(frame, deferred=True)
    with pytest.raises(TypeError, match=r"pass c\.iter_rows\(\)"):
        show.map([1], c=PolarsFrame())
    assert not there.recorded

    assert results(frame.x)[1][0] == 2
    assert results(frame.itertuples(index=False, name=None))[1][0] == (2, 4)
    assert [key for (key, _), *_ in results(frame.groupby("x"))] == [1, 2]
    assert results([1], unmapped(frame))[0][1].equals(frame)


def test_what_does_not_fit_the_signature_is_refused(there: MemorySubmitter) -> None:
    with pytest.raises(TypeError, match=r"show\(\) missing"):
        show.map(c=[1], deferred=True)

    assert not there.recorded


@pytest.mark.feature("D4")
def test_an_empty_iterable_gives_an_empty_list(there: MemorySubmitter) -> None:
    runs = show.map([], deferred=True)

    assert runs == []
    assert isinstance(runs, nbtasks.RunList)
    assert runs.result() == []
    assert not there.recorded


@pytest.mark.feature("D5")
def test_runs_are_recorded_by_the_thousand_and_come_back_in_order(there: MemorySubmitter) -> None:
    runs = show.map(range(2500), deferred=True)

    assert there.batches == [1000, 1000, 500]
    assert list(there.recorded) == [str(run.id) for run in runs]
    assert [row[0] for row in runs.result()] == list(range(2500))


def test_a_batch_holds_at_most_8_mib(there: MemorySubmitter) -> None:
    show.map([bytes(3 * 2**20)] * 5, deferred=True)

    assert there.batches == [2, 2, 1]


def test_an_item_that_cannot_be_pickled_is_named(there: MemorySubmitter) -> None:
    with pytest.raises(nbtasks.NotPicklable, match=r"item 1: argument a .*lock"):
        show.map([1, threading.Lock()], deferred=True)

    assert not there.recorded
