"""What a backup of a home is: what lies in it, what is said while it is made, and when it is complete.

Large values are files that come before the row that names them and go after it. So whoever copies rows first
and files then may miss a file only because its row left meanwhile; in rows that are copied anew it is not
named. What is missing although the newer rows name it again was missing in the home itself.
"""

from __future__ import annotations

from collections.abc import Set

import msgspec

MANIFEST = "backup.json"
FORMAT = 1


class Kept(msgspec.Struct, frozen=True):
    """One file of a backup."""

    name: str  # below the backup's directory
    size: int  # bytes
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup held when it was made: a file that differs is damaged.

    The journal, its redo log and the outboxes change once a broker was started on the backup.
    """

    format: int = FORMAT
    nbtasks: str  # the version that made it
    made: float  # UNIX seconds
    home: str
    runs: int
    files: tuple[Kept, ...]
    lost: tuple[str, ...] = ()  # blobs that rows name and the home did not have


class Progress(msgspec.Struct, frozen=True, tag=True):
    """The copy goes on."""

    stage: str
    done: int
    total: int


class Made(msgspec.Struct, frozen=True, tag=True):
    """The backup is in place."""

    runs: int
    blobs: int
    bytes: int  # of all files
    lost: tuple[str, ...]


class NotMade(msgspec.Struct, frozen=True, tag=True):
    """There is no backup."""

    reason: str


Word = Progress | Made | NotMade


def is_complete(missing: Set[str], missed_before: Set[str]) -> bool:
    """Whether nothing is to be found in rows that are copied anew.

    Parameters
    ----------
    missing
        Blobs that the newest rows name and that could not be copied.
    missed_before
        Likewise, of the rows before; empty: these are the first.
    """
    return missing <= missed_before
