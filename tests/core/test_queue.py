"""The queue: first come first served within what a worker can execute."""

from __future__ import annotations

from typing import Any

from nbtasks.core.messages import Spec
from nbtasks.core.queue import Fits, ReadyQueue
from nbtasks.core.records import RunRecord, WorkerRecord
from nbtasks.core.staff import Seat
from nbtasks.core.timers import Timers


def record(seq: int, key: str = "a", python: str = "3.11", code: str = "digest", **more: Any) -> RunRecord:
    return RunRecord(seq, f"r-{seq}", "b", Spec(key, key, python, code, **more), "s", "", 0.0)


def filled(*records: RunRecord) -> ReadyQueue:
    queue = ReadyQueue()
    for each in records:
        queue.add(each)
    return queue


def any_number(tags: tuple[str, ...]) -> None:
    """No tag is limited."""


def fits(serves: tuple[str, ...] | None = None, python: str = "3.11", tags: tuple[str, ...] = ()) -> Fits:
    """What a worker with these properties can execute."""
    record = WorkerRecord("w-1", "p-1", 1, 0.0, "here", python, "", serves, tags)
    other = WorkerRecord("w-2", "p-1", 2, 0.0, "here", "3.11", "", None)
    elsewhere = WorkerRecord("w-3", "p-2", 3, 0.0, "here", "3.11", "", ("x",))
    bound = {"mine": [record, other], "others": [other, record], "unable": [elsewhere]}
    return Seat(record, bound).fits


def drained(queue: ReadyQueue, **worker: Any) -> list[int]:
    order = []
    while first := queue.first(fits(**worker), any_number):
        order.append(first.seq)
        queue.remove(first)
    return order


def test_the_order_between_tasks_is_that_of_arrival() -> None:
    assert drained(filled(record(1, "a"), record(2, "b"), record(3, "a"))) == [1, 2, 3]


def test_what_was_handed_back_keeps_its_place() -> None:
    first = record(1)
    queue = filled(first, record(2))
    queue.remove(first)
    queue.add(first)

    assert drained(queue) == [1, 2]


def test_a_worker_takes_only_what_it_serves_of_its_own_python() -> None:
    queue = filled(record(1, "b"), record(2, "a", python="3.12"), record(3, "a", code=""), record(4, "a"))

    assert drained(queue, serves=("a",)) == [3, 4]
    assert drained(queue) == [1]
    assert drained(queue, python="3.12") == [2]


def test_a_worker_takes_only_what_asks_for_no_more_than_it_offers() -> None:
    queue = filled(record(1, worker_tags=("gpu",)), record(2, worker_tags=("big", "gpu")), record(3))

    assert drained(queue) == [3]
    assert drained(queue, tags=("gpu", "fast")) == [1]
    assert drained(queue, tags=("gpu", "big")) == [2]


def test_sticky_runs_go_to_the_worker_that_has_their_namespace() -> None:
    queue = filled(record(1, sticky="others"), record(2, sticky="mine"), record(3, sticky="nobodys"))
    queue.add(record(4, sticky="unable"))

    assert drained(queue) == [2, 3, 4]


def test_depths_and_the_oldest_follow_what_is_in_it() -> None:
    first = record(1, "a")
    queue = filled(first, record(2, "a"), record(3, "b"))
    assert queue.depths() == {"a": 2, "b": 1}

    queue.remove(first)
    queue.remove(first)

    oldest = queue.oldest("a")
    assert oldest
    assert oldest.seq == 2
    assert queue.depths() == {"a": 1, "b": 1}
    assert queue.count_for(fits(("b",)), any_number) == 1
    assert queue.count_for(fits(("c",)), any_number) == 0


def test_timers_come_in_order_of_time_and_then_of_arrival() -> None:
    timers = Timers()
    for moment, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        timers.add(moment, name, None)

    assert timers.next_at() == 1.0
    assert [kind for kind, _ in timers.due(1.5)] == ["first", "second"]
    assert timers.next_at() == 2.0
