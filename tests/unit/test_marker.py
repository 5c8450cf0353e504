"""The marker file names what began and what ended, whenever its writer dies."""

from __future__ import annotations

from pathlib import Path

from nbtasks.core.messages import Held
from nbtasks.core.worker import MARKED_MAX
from nbtasks.wire import marker
from nbtasks.wire.marker import Marker


def test_what_began_and_what_ended_is_named(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    page = Marker.create(path)

    page.started("r", 1)
    page.ended()
    page.started("s", 2)

    assert set(marker.read(path)) == {Held("r", 1, started=True, ended=True), Held("s", 2, started=True)}
    assert marker.is_running(path, "s", 2)
    assert not marker.is_running(path, "r", 1)


def test_as_many_attempts_are_named_as_a_worker_begins_before_the_oldest_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    page = Marker.create(path)

    for number in range(MARKED_MAX + 1):
        page.started(f"r{number}", 1)
        page.ended()

    assert {held.run for held in marker.read(path)} >= {f"r{number}" for number in range(MARKED_MAX + 1)}


def test_a_missing_torn_or_foreign_file_names_nothing(tmp_path: Path) -> None:
    path = tmp_path / "marker"
    assert marker.read(path) == ()

    path.write_bytes(b"nbtasks marker 1")
    assert marker.read(path) == ()

    path.write_bytes(bytes(marker.PAGE_BYTES))
    assert marker.read(path) == ()
