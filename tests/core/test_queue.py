"""The queue: first come first served within what a worker can execute."""

from __future__ import annotations

from nbtasks.core.messages import Spec
from nbtasks.core.queue import ReadyQueue
from nbtasks.core.records import RunRecord
from nbtasks.core.timers import Timers


def record(seq: int, key: str = "a", python: str = "3.11", code: str = "digest") -> RunRecord:
    return RunRecord(seq, f"r-{seq}", "b", Spec(key, key, python, code), "s", "", 0.0)


def filled(*records: RunRecord) -> ReadyQueue:
    queue = ReadyQueue()
    for each in records:
        queue.add(each)
    return queue


def any_number(tags: tuple[str, ...]) -> None:
    """No tag is limited."""


def drained(queue: ReadyQueue, serves: tuple[str, ...] | None = None, python: str = "3.11") -> list[int]:
    order = []
    while first := queue.first(serves, python, any_number):
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
    assert queue.count_for(("b",), "3.11", any_number) == 1
    assert queue.count_for(("c",), "3.11", any_number) == 0


def test_timers_come_in_order_of_time_and_then_of_arrival() -> None:
    timers = Timers()
    for moment, name in ((2.0, "late"), (1.0, "first"), (1.0, "second")):
        timers.add(moment, name, None)

    assert timers.next_at() == 1.0
    assert [kind for kind, _ in timers.due(1.5)] == ["first", "second"]
    assert timers.next_at() == 2.0
