"""The output of a run: what the collector keeps, in which order, and what is left after a death."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtasks.runners.signals import Interrupts
from nbtasks.wire import spool
from nbtasks.wire.spool import LAST_WORDS_BYTES_MAX, Spool
from nbtasks.worker import collector
from nbtasks.worker.collector import Collector


class Journal:
    """Takes chunks as the broker does."""

    def __init__(self) -> None:
        self.chunks: list[list[dict[str, Any]]] = []

    def give(self, body: bytes) -> int:
        self.chunks.append(json.loads(body))
        return len(self.chunks)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        return [output for chunk in self.chunks for output in chunk]

    @property
    def text(self) -> str:
        return "".join(output.get("text", "") for output in self.outputs)


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def spooled(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def opened(journal: Journal, spooled: Spool, bytes_max: int = 1000, tail_bytes: int = 100) -> Collector:
    made = Collector(journal.give, spooled, Interrupts(), bytes_max, tail_bytes)
    made.open()
    return made


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def test_text_of_one_stream_becomes_one_output(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled)

    for word in ("a", "b", "\n"):
        made.text("stdout", word)
    made.text("stderr", "c")
    made.close()

    assert journal.chunks == [[stream("ab\n"), stream("c", "stderr")]]


def test_bytes_of_a_stream_are_its_text_in_order(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled)

    made.text("stdout", "a")
    made.raw("stdout", "é".encode()[:1])
    made.raw("stdout", "é".encode()[1:] + b"\xff")
    made.text("stdout", "b")
    made.raw("stdout", "€".encode()[:2])
    made.text("stdout", "c")
    made.raw("stderr", "€".encode()[:2])
    made.close()
    made.open()
    made.raw("stderr", b"next")
    made.close()

    assert journal.outputs == [
        stream("aé\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        stream("\N{REPLACEMENT CHARACTER}", "stderr"),
        stream("next", "stderr"),
    ]


def test_a_run_without_output_has_no_chunk(journal: Journal, spooled: Spool) -> None:
    opened(journal, spooled).close()

    assert journal.chunks == []


def test_what_reached_the_spool_first_comes_first(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled)

    made.text("stdout", "one ")
    spooled.write(b"two ")
    made.text("stdout", "three ")
    spooled.write(b"four")
    made.close()

    assert journal.text == "one two three four"


def test_what_came_before_the_run_or_comes_after_it_is_not_its_output(
    journal: Journal, spooled: Spool
) -> None:
    made = Collector(journal.give, spooled, Interrupts(), 1000, 100)

    spooled.write(b"before")
    made.text("stdout", "before")
    made.open()
    made.text("stdout", "in")
    made.close()
    spooled.write(b"after")
    made.text("stdout", "after")
    made.open()
    made.close()

    assert journal.text == "in"


def test_the_last_output_ends_the_run(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled)
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}

    made.text("stdout", "x")
    spooled.write(b"y")
    made.close(error)

    assert journal.outputs == [stream("xy"), error]


def test_a_chunk_is_given_away_as_soon_as_it_is_large(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled, bytes_max=10**6)

    made.text("stdout", "x" * collector.CHUNK_BYTES)

    assert len(journal.chunks) == 1


def test_of_much_output_head_and_tail_are_kept_and_the_cut_is_marked(
    journal: Journal, spooled: Spool
) -> None:
    made = opened(journal, spooled, bytes_max=1000, tail_bytes=100)

    for number in range(10_000):
        made.text("stdout", f"{number:09d}\n")
    made.close()

    head, mark, tail = journal.text.partition("\n… 99,000 bytes of output cut …\n")
    assert mark
    assert head == "".join(f"{number:09d}\n" for number in range(90))
    assert tail == "".join(f"{number:09d}\n" for number in range(9_990, 10_000))


def test_output_of_exactly_the_bound_is_not_cut(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled, bytes_max=1000, tail_bytes=100)

    made.text("stdout", "x" * 1000)
    made.close()

    assert journal.text == "x" * 1000


@pytest.mark.parametrize("letter", ["é", "€", "😀"])
@pytest.mark.parametrize("shift", range(4))
def test_a_cut_never_splits_a_character(journal: Journal, spooled: Spool, letter: str, shift: int) -> None:
    made = opened(journal, spooled, bytes_max=1000, tail_bytes=101)

    made.text("stdout", "-" * shift + letter * 2000)
    made.text("stdout", letter * 7)
    made.close()

    assert "\ufffd" not in journal.text
    assert journal.text.endswith(letter)


def test_a_character_that_reaches_the_spool_in_two_parts_is_one(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled)
    first, second = "é".encode()[:1], "é".encode()[1:]

    spooled.write(b"caf" + first)
    made.text("stderr", "!")
    spooled.write(second)
    made.close()

    assert [output["text"] for output in journal.outputs] == ["caf", "!", "é"]


def test_bytes_that_are_no_text_and_lone_surrogates_are_shown_somehow(
    journal: Journal, spooled: Spool
) -> None:
    made = opened(journal, spooled)

    spooled.write(b"\xff\xfe|")
    made.text("stdout", "\udcff")
    made.close()

    assert journal.text == "\ufffd\ufffd|\\udcff"


def test_one_output_that_is_too_large_is_left_out_and_the_rest_kept(journal: Journal, spooled: Spool) -> None:
    made = opened(journal, spooled, bytes_max=1000, tail_bytes=100)

    made.output({"output_type": "display_data", "data": {"image/png": "x" * 5000}, "metadata": {}})
    made.text("stdout", "y" * 100)
    made.close()

    assert "bytes was left out" in journal.text
    assert journal.text.endswith("y" * 100)


def test_what_waits_is_given_away_by_time(
    journal: Journal, spooled: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(collector.time, "monotonic", lambda: clock[0])
    made = opened(journal, spooled)

    made.text("stdout", "x")
    assert made.flush() == 100.0 + collector.FLUSH_S
    assert journal.chunks == []
    clock[0] += collector.FLUSH_S
    made.flush()

    assert journal.text == "x"


# -- last words ---------------------------------------------------------------------------------------------


def words(tmp_path: Path) -> str:
    body = spool.last_words(tmp_path / "spool")
    return "".join(output["text"] for output in json.loads(body)) if body else ""


def test_what_was_not_recorded_is_told_after_a_death(
    journal: Journal, spooled: Spool, tmp_path: Path
) -> None:
    made = opened(journal, spooled)

    made.text("stdout", "printed, ")
    spooled.write(b"written by C")

    assert words(tmp_path) == "printed, written by C"


def test_what_the_journal_has_is_not_told_twice(
    journal: Journal, spooled: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "FLUSH_S", 0.0)
    made = opened(journal, spooled)

    made.text("stdout", "first ")
    made.flush()
    made.text("stdout", "second ")
    made.flush()
    made.recorded(1)

    assert words(tmp_path) == "second "


def test_a_new_run_has_no_part_in_the_words_of_the_last(
    journal: Journal, spooled: Spool, tmp_path: Path
) -> None:
    made = opened(journal, spooled)
    made.text("stdout", "old")
    made.close()

    made.open()
    made.text("stdout", "new")

    assert words(tmp_path) == "new"


@pytest.mark.parametrize("size", [LAST_WORDS_BYTES_MAX - 1, LAST_WORDS_BYTES_MAX, LAST_WORDS_BYTES_MAX + 7])
def test_of_many_last_words_the_newest_are_told(
    journal: Journal, spooled: Spool, tmp_path: Path, size: int
) -> None:
    made = opened(journal, spooled, bytes_max=10**6)
    text = "".join(chr(97 + number % 26) for number in range(size))

    made.text("stdout", "begin")
    for start in range(0, size, 1000):
        made.text("stdout", text[start : start + 1000])

    assert words(tmp_path) == ("begin" + text)[-LAST_WORDS_BYTES_MAX:]


def test_without_a_spool_there_are_no_last_words(tmp_path: Path) -> None:
    assert words(tmp_path) == ""

    (tmp_path / "spool").touch()
    spool.note_path(tmp_path / "spool").write_bytes(b"short")

    assert words(tmp_path) == ""


def test_spooled_bytes_that_were_read_give_their_blocks_back(
    journal: Journal, spooled: Spool, tmp_path: Path
) -> None:
    made = opened(journal, spooled)
    for _ in range(10):
        spooled.write(b"x" * 2**20)

    made.close()

    found = os.stat(tmp_path / "spool")
    assert found.st_size == 10 * 2**20
    if os.uname().sysname == "Linux" and (tmp_path / "spool").stat().st_dev == os.stat(tmp_path).st_dev:
        assert found.st_blocks * 512 < found.st_size


@pytest.fixture(autouse=True)
def no_descriptor_is_left_pointing_at_a_spool() -> Iterator[None]:
    before = os.fstat(1)
    yield
    assert os.path.samestat(before, os.fstat(1))
