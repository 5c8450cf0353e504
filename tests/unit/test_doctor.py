"""What the doctor finds in a home, and that it changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nbtasks.broker import doctor, schema
from nbtasks.broker.backup import make
from nbtasks.broker.doctor import examine
from nbtasks.core.checkup import Finding, finding
from nbtasks.wire.blobs import ORPHAN_S
from tests.journals import fill, past_id, rows_of
from tests.unit.test_backup import home as home  # a fixture
from tests.unit.test_backup import with_blob


def ill(home: Path, verifies: bool = False) -> dict[str, str]:
    """What is not well: name and text."""
    return {found.name: found.text for found in examine(home, verifies) if not found.is_well}


def texts(home: Path, verifies: bool = False) -> dict[str, str]:
    return {found.name: found.text for found in examine(home, verifies)}


def test_a_home_as_a_broker_leaves_it_is_well_and_stays_as_it_is(home: Path) -> None:
    fill(home / "journal.db", 3)
    with_blob(home, 4)
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}

    found = list(examine(home, verifies=True))

    assert [one.name for one in found] == ["home", "disk", "journal", "blobs", "verify"]
    assert all(one.is_well for one in found)
    assert texts(home)["journal"] == "4 runs, every page is whole"
    assert texts(home)["blobs"] == "1 that rows name are there"
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def test_a_home_that_is_not_there_is_well(tmp_path: Path) -> None:
    assert not ill(tmp_path / "none")


def test_what_others_can_reach_is_named(home: Path) -> None:
    (home / "settings.toml").touch(0o644)
    assert not ill(home)

    (home / "journal.db").chmod(0o640)

    assert ill(home) == {"home": f"others can reach: {home / 'journal.db'}"}


def test_little_room_is_not_well(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOW_BYTES", 2**60)

    assert ill(home).keys() == {"disk"}


def test_a_damaged_journal_is_not_well_nor_one_that_was_set_aside(home: Path) -> None:
    (home / "journal.db.damaged-20260101-000000-5").touch(0o600)
    (home / "journal.db.damaged-20260101-000000-5-wal").touch(0o600)
    aside = "a damaged one was set aside: journal.db.damaged-20260101-000000-5"
    assert ill(home)["journal"] == f"0 runs, every page is whole; {aside}"

    fill(home / "journal.db", 2000)
    with open(home / "journal.db", "r+b") as file:
        file.seek(40 * 4096)
        file.write(os.urandom(4096))

    assert ill(home).keys() == {"journal"}
    assert "cannot be read" in ill(home)["journal"]


def test_a_journal_of_a_newer_version_is_not_well(home: Path) -> None:
    rows_of(home / "journal.db", f"PRAGMA user_version = {schema.VERSION + 1}")

    assert ill(home)["journal"].endswith("upgrade nbtasks")


def test_a_large_value_that_is_gone_is_named_and_one_that_no_row_names_is_counted(home: Path) -> None:
    gone = with_blob(home, 1)
    (home / "blobs" / gone).rename(home / "elsewhere")
    old, young = (home / "blobs" / f"{past_id(seq, seq)}.0.0" for seq in (8, 9))
    old.touch(0o600)
    young.touch(0o600)
    os.utime(old, (0, old.stat().st_mtime - ORPHAN_S - 1))

    assert ill(home) == {"blobs": f"missing, or not of their size: {gone}"}

    (home / "elsewhere").rename(home / "blobs" / gone)
    assert texts(home)["blobs"] == "1 that rows name are there; 1 that none names, which a broker removes"


def test_a_flipped_bit_is_found_in_a_backup_and_a_torn_header_in_any_home(home: Path, tmp_path: Path) -> None:
    flipped, torn = with_blob(home, 1), with_blob(home, 2)
    copy = tmp_path / "copy"
    make(home, copy)
    assert texts(copy, verifies=True)["verify"] == "the headers of 2 are whole, 2 are what backup.json says"

    for name, at in ((flipped, 5000), (torn, 0)):
        with open(copy / "blobs" / name, "r+b") as file:  # of the home, too: it is the same file
            file.seek(at)
            file.write(b"!")

    assert not ill(copy)
    assert ill(copy, verifies=True) == {"verify": f"damaged: {flipped}, {torn}"}
    assert ill(home, verifies=True) == {"verify": f"damaged: {torn}"}


def test_of_many_things_that_are_wrong_three_are_named() -> None:
    assert finding("n", {"d", "a", "c", "b", "e"}, "wrong", "fine") == Finding(
        "n", False, "wrong: a, b, c and 2 more"
    )
