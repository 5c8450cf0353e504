"""When a backup has everything."""

from __future__ import annotations

from nbtasks.core.backup import is_complete


def test_a_backup_is_complete_when_nothing_is_missing() -> None:
    assert is_complete(set(), set())
    assert is_complete(set(), {"a"})


def test_what_is_missing_for_the_first_time_may_have_left_with_its_row() -> None:
    assert not is_complete({"a"}, set())
    assert not is_complete({"a", "b"}, {"a"})


def test_what_newer_rows_name_again_is_missing_in_the_home() -> None:
    assert is_complete({"a"}, {"a", "b"})
