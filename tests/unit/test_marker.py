"""The marker file names what began and what ended, whenever its writer dies."""

from __future__ import annotations

from pathlib import Path

from nbtasks.core.messages import Finished, Held, Printed
from nbtasks.core.worker import MARKED_MAX
from nbtasks.wire import marker
from nbtasks.wire.marker import Marker


def test_what_began_and_what_ended_is_named(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    page = Marker.create(path)

    page.started("r", 1)
    page.ended([])
    page.started("s", 2)

    assert set(marker.read(path)) == {Held("r", 1, started=True, ended=True), Held("s", 2, started=True)}
    assert marker.is_running(path, "s", 2)
    assert not marker.is_running(path, "r", 1)


def test_as_many_attempts_are_named_as_a_worker_begins_before_the_oldest_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    page = Marker.create(path)

    for number in range(MARKED_MAX + 1):
        page.started(f"r{number}", 1)
        page.ended([])

    assert {held.run for held in marker.read(path)} >= {f"r{number}" for number in range(MARKED_MAX + 1)}


def finished(run: str, value: bytes) -> Finished:
    return Finished(run, 1, "completed", "", value, 0, 1000.0, 1001.0)


def test_what_there_was_to_say_of_an_ended_attempt_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    page = Marker.create(path)
    words = [Printed("r", 1, 1, b"[]"), finished("r", b"value")]

    page.started("r", 1)
    page.ended(words)
    page.started("s", 1)

    assert marker.said(path) == tuple(words)


def test_words_whose_place_was_used_again_are_not_told(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    page = Marker.create(path)
    value = bytes(marker.KEPT_BYTES_MAX - 100)

    for number in range(10):
        page.started(f"r{number}", 1)
        page.ended([finished(f"r{number}", value)])

    assert {word.run for word in marker.said(path)} <= {"r6", "r7", "r8", "r9"}
    assert finished("r9", value) in marker.said(path)


def test_words_that_are_too_large_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    page = Marker.create(path)

    page.started("r", 1)
    page.ended([finished("r", bytes(marker.KEPT_BYTES_MAX))])

    assert marker.said(path) == ()
    assert marker.read(path) == (Held("r", 1, started=True, ended=True),)


def test_a_missing_torn_or_foreign_file_names_nothing(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    assert marker.read(path) == ()

    path.write_bytes(b"nbtasks marker 2")
    assert marker.read(path) == ()

    path.write_bytes(bytes(marker.PAGE_BYTES))
    assert marker.read(path) == ()
    assert marker.said(path) == ()


def test_the_hooks_that_began_are_named_until_the_next_attempt_begins(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    writing = Marker.create(path)
    writing.started("r", 1)
    writing.hooks("on_crash")

    assert marker.read(path) == (Held("r", 1, started=True, hooks="on_crash"),)
    assert marker.is_running(path, "r", 1)

    writing.ended([])
    writing.started("s", 1)
    assert set(marker.read(path)) == {
        Held("r", 1, started=True, ended=True, hooks="on_crash"), Held("s", 1, started=True),
    }  # fmt: skip
