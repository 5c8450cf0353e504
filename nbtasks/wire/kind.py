"""What the workers of a pool are like, beyond what they serve: a file, because variables may be secrets."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nbtasks.wire.private import write_private


class Kind(msgspec.Struct, frozen=True):
    """What a pool was asked for."""

    env: dict[str, str] = {}  # variables of its workers, beside its own
    kernel: str = ""  # kernelspec whose interpreter they are; "": that of the pool
    gpu: bool = False  # each sees one GPU
    tags: tuple[str, ...] = ()  # what they offer
    runs_max: int = 0  # after so many runs a worker is replaced by a new one; 0: never

    def write(self, path: Path) -> None:
        write_private(path, msgspec.json.encode(self))


def read(path: Path) -> Kind:
    """Raises OSError, `msgspec.DecodeError`."""
    return msgspec.json.decode(path.read_bytes(), type=Kind)
