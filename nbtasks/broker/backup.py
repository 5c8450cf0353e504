"""`python -m nbtasks.broker.backup --home H DEST`: a copy of a home, while its broker works or without one.

It is a process of its own, so that neither the broker's loop nor its memory knows of it. What it copies in
which order makes the copy whole. A submit is in an outbox, then in the redo log, then in the journal, so they
are copied in this order: what leaves one meanwhile is in the next. The files of large values come last, as
`core.backup` says why. All of it is put together under another name beside DEST and renamed at the end, so
under the name there is a whole backup or none.

On standard output it says one `core.backup.Word` a line.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

import msgspec

from nbtasks.broker import copying, redo
from nbtasks.broker.copying import Contents, CopyError
from nbtasks.broker.opening import NewerSchema
from nbtasks.core.backup import MANIFEST, Kept, Made, Manifest, NotMade, Progress, Word, is_complete
from nbtasks.core.version import VERSION
from nbtasks.settings import home_path
from nbtasks.wire.alive import born, is_alive
from nbtasks.wire.blobs import FOLDER as BLOBS
from nbtasks.wire.blobs import run_of
from nbtasks.wire.copies import copy_blob, digest
from nbtasks.wire.outbox import FOLDER as OUTBOX
from nbtasks.wire.outbox import Outboxes
from nbtasks.wire.private import read_private, sync_folder, write_private

JOURNAL, REDO, SETTINGS = "journal.db", "journal.db-redo", "settings.toml"
PROGRESS_S = 0.1  # between two words of how far it is


class CannotBackUp(Exception):
    """There is nothing to be copied, or no place for it."""


class _Rows(NamedTuple):
    """What was copied of a home but its blobs."""

    runs: int
    references: dict[str, int]  # names of blobs and their bytes


def make(home: Path, target: Path) -> Made:
    """Copy `home` to `target`.

    Raises
    ------
    CannotBackUp, NewerSchema, CopyError, OSError
        There is no backup, and nothing is left of it.
    """
    if not (home / JOURNAL).is_file():
        raise CannotBackUp(f"there is no journal in {home}, so there is nothing to back up")
    _check(target)
    _remove_left(target)
    place = _temporary(target)
    place.mkdir(mode=0o700)
    try:
        manifest = Copy(home, place).make()
        write_private(place / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        for folder, _, _ in os.walk(place):
            sync_folder(Path(folder))
        place.rename(target)  # over an empty directory; it fails over one that is not
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    sync_folder(target.parent)
    blobs = sum(1 for kept in manifest.files if kept.name.startswith(f"{BLOBS}/"))
    return Made(manifest.runs, blobs, sum(kept.size for kept in manifest.files), manifest.lost)


class Copy:
    """One home on its way to `place`, an empty directory."""

    def __init__(self, home: Path, place: Path) -> None:
        self._home = home
        self._place = place
        self._hashes: dict[str, str] = {}  # of blobs that are there
        self._said_s = time.monotonic()

    def make(self) -> Manifest:
        """Copy everything; returns what there is then."""
        made = time.time()
        if (text := _read(self._home / SETTINGS)) is not None:
            write_private(self._place / SETTINGS, text)
        (self._place / BLOBS).mkdir(mode=0o700)
        missed: set[str] = set()
        while True:
            rows = self._copy_rows()
            missing = self._copy_blobs(rows.references)
            if is_complete(missing, missed):
                break
            missed = missing
        for name in self._hashes.keys() - rows.references.keys():
            (self._place / BLOBS / name).unlink()  # its row left between the first copy and the last
            del self._hashes[name]
        return Manifest(
            nbtasks=VERSION, made=made, home=str(self._home), runs=rows.runs, files=tuple(self._files()),
            lost=tuple(sorted(missing)),
        )  # fmt: skip

    def _copy_rows(self) -> _Rows:
        """Copy outboxes, redo log and journal, over former copies."""
        shutil.rmtree(self._place / OUTBOX, ignore_errors=True)
        for name, body in Outboxes(self._home).bodies():
            (self._place / OUTBOX).mkdir(mode=0o700, exist_ok=True)
            write_private(self._place / OUTBOX / name, body)
        (self._place / REDO).unlink(missing_ok=True)
        if (note := read_private(self._home / REDO, redo.FILE_BYTES)) is not None:
            write_private(self._place / REDO, note)
        (self._place / JOURNAL).unlink(missing_ok=True)
        copying.copy(
            self._home / JOURNAL,
            self._place / JOURNAL,
            lambda done, total: self._say("journal, pages", done, total),
        )
        with closing(Contents(self._place / JOURNAL)) as copied:
            return self._understood(copied)

    def _understood(self, copied: Contents) -> _Rows:
        found = list(copied.references())
        noted: set[str] = set()
        with suppress(ValueError, msgspec.MsgspecError):  # another version's broker wrote it and will read it
            note = redo.left(self._place / REDO)
            if note and copied.is_followed_by(note):
                noted = redo.runs_of(note)
                for _, rows in note.rows:
                    found += copying.references_in(rows)
            else:
                (self._place / REDO).unlink(missing_ok=True)
        promised = [new for submit in Outboxes(self._place).read() for new in submit.runs]
        found += copying.references_in((new.args,) for new in promised)
        unrecorded = noted | copied.lacks(new.run for new in promised)
        return _Rows(copied.count() + len(unrecorded), {one.name: one.size for one in found})

    def _copy_blobs(self, references: dict[str, int]) -> set[str]:
        """Copy what is not there yet; returns the names of those that cannot be."""
        missing: set[str] = set()
        done, total = 0, sum(size for name, size in references.items() if name not in self._hashes)

        def step(number: int) -> None:
            nonlocal done
            done += number
            self._say("large values, bytes", done, total)

        for name, size in references.items():
            if name in self._hashes:
                continue
            found = None
            if run_of(name):
                found = copy_blob(self._home / BLOBS / name, self._place / BLOBS / name, size, step)
            if found is None:
                missing.add(name)
            else:
                self._hashes[name] = found
        return missing

    def _files(self) -> Iterable[Kept]:
        for folder, _, names in os.walk(self._place):
            for name in sorted(names):
                path = Path(folder) / name
                found = self._hashes[name] if path.parent == self._place / BLOBS else digest(path)
                yield Kept(str(path.relative_to(self._place)), path.stat().st_size, found)

    def _say(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() >= self._said_s + PROGRESS_S:
            self._said_s = time.monotonic()
            say(Progress(stage, done, total))


def say(word: Word) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(word) + b"\n")
    sys.stdout.buffer.flush()


def _check(target: Path) -> None:
    if not target.parent.is_dir():
        raise CannotBackUp(f"there is no directory {target.parent}")
    if target.exists() and not target.is_dir():
        raise CannotBackUp(f"{target} is not a directory")
    if target.exists() and any(target.iterdir()):
        raise CannotBackUp(f"{target} is not empty; a backup is made where nothing is")


def _temporary(target: Path) -> Path:
    """A name that tells whose it is."""
    pid = os.getpid()
    return target.with_name(f".{target.name}.backup-{pid}.{round((born(pid) or 0.0) * 100)}")


def _remove_left(target: Path) -> None:
    """Remove what backups to the same place left that were killed."""
    prefix = f".{target.name}.backup-"
    for path in target.parent.iterdir():
        pid, _, born_cs = path.name.removeprefix(prefix).partition(".")
        is_backup = path.name.startswith(prefix) and pid.isdecimal() and born_cs.isdecimal()
        if is_backup and not is_alive(int(pid), int(born_cs) / 100):
            shutil.rmtree(path, ignore_errors=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _reason(error: Exception, home: Path) -> str:
    if isinstance(error, CopyError):
        return f"the journal of {home} cannot be copied: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nbtasks.broker.backup", description="Copy a home.")
    parser.add_argument("--home", required=True, type=Path, help="directory of the broker")
    parser.add_argument("target", metavar="DEST", type=Path, help="what must not be there yet, or be empty")
    arguments = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    home = home_path(arguments.home)
    try:
        made = make(home, Path(os.path.realpath(arguments.target)))
    except (CannotBackUp, NewerSchema, CopyError, OSError, ValueError) as error:
        with suppress(BrokenPipeError):  # whoever listened is gone, which may be the reason
            say(NotMade(_reason(error, home)))
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    say(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
