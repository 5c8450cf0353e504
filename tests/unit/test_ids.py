"""Names for runs."""

from __future__ import annotations

import multiprocessing
from uuid import RFC_4122, UUID

from nbtasks.wire import ids

MANY = 5000  # more than one millisecond's counter, and than one draw of random numbers


def test_ids_are_distinct_uuids_of_version_7_that_sort_as_they_were_made() -> None:
    made = [ids.run_id() for _ in range(MANY)]

    assert made == sorted(set(made))
    assert len({one[19:] for one in made}) == MANY
    for one in map(UUID, made):
        assert (one.version, one.variant) == (7, RFC_4122)
    assert [str(UUID(one)) for one in made] == made


def test_a_forked_child_makes_other_ids_than_its_parent() -> None:
    ids.run_id()
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        of_child = pool.apply(_tails)

    assert not of_child & _tails()


def _tails() -> set[str]:
    return {ids.run_id()[19:] for _ in range(100)}
