"""What `nbtasks doctor` finds of a home."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

NAMED_MAX = 3  # that are named of what is wrong


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    is_well: bool
    text: str


def finding(name: str, wrong: Collection[str], problem: str, well: str) -> Finding:
    """What to say of things of which some are wrong.

    Parameters
    ----------
    wrong
        Names of them.
    problem
        What is wrong with them, put before the names.
    well
        What is said if nothing is.
    """
    if not wrong:
        return Finding(name, True, well)
    named = ", ".join(sorted(wrong)[:NAMED_MAX])
    more = f" and {len(wrong) - NAMED_MAX:,} more" if len(wrong) > NAMED_MAX else ""
    return Finding(name, False, f"{problem}: {named}{more}")
