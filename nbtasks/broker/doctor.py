"""`python -m nbtasks.broker.doctor --home H [--verify]`: whether a home is as a broker leaves it.

It looks and changes nothing, whether a broker works or not. On standard output it says one
`core.checkup.Finding` a line.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from nbtasks.broker import schema
from nbtasks.broker.copying import Contents, CopyError
from nbtasks.core.backup import MANIFEST, Manifest
from nbtasks.core.checkup import Finding, finding
from nbtasks.errors import BlobCorrupt
from nbtasks.settings import home_path
from nbtasks.wire import lock
from nbtasks.wire.blobs import FOLDER as BLOBS
from nbtasks.wire.blobs import ORPHAN_S, Blobs, Reference, run_of
from nbtasks.wire.copies import digest

LOW_BYTES = 256 * 2**20  # of free room
_BESIDE = ("-wal", "-shm", "-redo")  # what lies beside a journal
_OPEN = {"settings.toml"}  # no secrets, and made by its owner


def examine(home: Path, verifies: bool) -> Iterator[Finding]:
    """Look at one thing after the other."""
    if not home.is_dir():
        yield Finding("home", True, f"{home} is not there yet; the first broker makes it")
        return
    yield modes(home)
    yield room(home)
    references: dict[str, int] = {}
    if (home / "journal.db").exists():
        try:
            with closing(Contents(home / "journal.db")) as contents:
                yield journal(home, contents)
                references = _references(contents)
                yield blobs(home, contents, references)
        except CopyError as error:
            yield Finding("journal", False, f"{home / 'journal.db'} cannot be read: {error}")
            return
    if verifies:
        yield verified(home, references)


def modes(home: Path) -> Finding:
    """Whether nobody else can reach what is in the home, nor the sockets of its broker."""
    places = [home, *home.rglob("*")]
    if owner := lock.owner(home):
        places.append(Path(owner.runtime))
    wrong: set[str] = set()
    for path in places:
        with suppress(FileNotFoundError):  # it was for a moment
            found = os.lstat(path)
            is_open = stat.S_IMODE(found.st_mode) & 0o077 and not stat.S_ISLNK(found.st_mode)
            if found.st_uid != os.geteuid() or (is_open and path.name not in _OPEN):
                wrong.add(str(path))
    return finding("home", wrong, "others can reach", f"{home}, nobody else can reach it")


def room(home: Path) -> Finding:
    free = shutil.disk_usage(home).free
    return Finding("disk", free >= LOW_BYTES, f"{free / 1e9:,.1f} GB are free")


def journal(home: Path, contents: Contents) -> Finding:
    """Whether every page is whole, and none was set aside."""
    version = contents.schema()
    if version > schema.VERSION:
        return Finding(
            "journal",
            False,
            f"it has schema {version}, this nbtasks knows {schema.VERSION}: upgrade nbtasks",
        )
    contents.check()
    aside = [path.name for path in home.glob("journal.db.damaged-*") if not path.name.endswith(_BESIDE)]
    well = f"{contents.count():,} runs, every page is whole"
    return finding("journal", aside, f"{well}; a damaged one was set aside", well)


def blobs(home: Path, contents: Contents, references: dict[str, int]) -> Finding:
    """Whether the files of large values are there that rows name."""
    missing = {name for name, size in references.items() if not _is_there(home / BLOBS / name, size)}
    if missing:
        missing &= _references(contents).keys()  # else its row left meanwhile, and it with it
    unnamed = _unnamed(home, contents, references)
    well = f"{len(references):,} that rows name are there"
    if unnamed:
        well += f"; {unnamed:,} that none names, which a broker removes"
    return finding("blobs", missing, "missing, or not of their size", well)


def verified(home: Path, references: dict[str, int]) -> Finding:
    """Whether blobs are what was written: by their headers, and by their hashes in a backup."""
    kept = _hashes(home)
    wrong: set[str] = set()
    hashed = 0
    for name, size in references.items():
        if not (home / BLOBS / name).exists():
            continue  # told already, or it left
        try:
            Blobs(home).open(Reference(name, size))
            if name in kept:
                hashed += 1
                if digest(home / BLOBS / name) != kept[name]:
                    wrong.add(name)
        except (BlobCorrupt, OSError):
            if (home / BLOBS / name).exists():
                wrong.add(name)
    well = f"the headers of {len(references):,} are whole"
    if kept:
        well += f", {hashed:,} are what {MANIFEST} says"
    return finding("verify", wrong, "damaged", well)


def _references(contents: Contents) -> dict[str, int]:
    return {one.name: one.size for one in contents.references()}


def _is_there(path: Path, size: int) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size and run_of(path.name) is not None


def _unnamed(home: Path, contents: Contents, references: dict[str, int]) -> int:
    """How many files have no row, and are so old that none is to come."""
    runs: dict[str, int] = {}
    until = time.time() - ORPHAN_S
    with suppress(FileNotFoundError):
        for entry in os.scandir(home / BLOBS):
            found = run_of(entry.name)
            with suppress(FileNotFoundError):
                if found and entry.name not in references and entry.stat().st_mtime < until:
                    runs[found[0]] = runs.get(found[0], 0) + 1
    return sum(runs[run] for run in contents.lacks(runs))


def _hashes(home: Path) -> dict[str, str]:
    """Those that the blobs of a backup had when it was made."""
    try:
        manifest = msgspec.json.decode((home / MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, msgspec.MsgspecError):
        return {}
    return {Path(kept.name).name: kept.sha256 for kept in manifest.files if kept.name.startswith(BLOBS)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nbtasks.broker.doctor", description="Examine a home.")
    parser.add_argument("--home", required=True, type=Path, help="directory of the broker")
    parser.add_argument("--verify", action="store_true", help="also read every large value")
    arguments = parser.parse_args()
    for found in examine(home_path(arguments.home), arguments.verify):
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
        sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
