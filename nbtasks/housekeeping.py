"""Commands that take care of a home as a whole.

The work is done by processes of the broker's package, which alone reads a journal; here is said what they
tell.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

import click
import msgspec

from nbtasks import views
from nbtasks.client import connect
from nbtasks.core.backup import Made, NotMade, Progress, Word
from nbtasks.core.checkup import Finding
from nbtasks.errors import BrokerUnavailable, NbtasksError
from nbtasks.wire import lock
from nbtasks.wire.process import child_environment, python_command

PACKAGES = ("nbtasks", "pyzmq", "ipykernel")  # whose versions are told
BAR_AFTER_S = 1.0  # what takes no longer shows no progress

_decode = msgspec.json.Decoder(Word).decode


@click.command()
@click.argument("dest", type=click.Path(path_type=Path))
@click.pass_obj
def backup(home: str, dest: Path) -> None:
    """Copy the home to DEST, which must not exist or be empty, whether or not its broker runs.

    The copy holds every run that was accepted before the command began, with its result and output, and the
    home's settings. `nbtasks --home DEST broker start` opens it. Keys, tokens and logs stay out. Its
    backup.json has the SHA-256 of every file. On the same file system large values are hard links; a backup
    that is to survive the disk belongs on another one.

    Runs go on in the home, and the copy knows nothing of that. What waited is executed again by whoever
    starts workers on the copy. What was running is Crashed there, or waits again if its crash_retries allow
    that or its code had not started. To look at a copy only, start no workers.

    A backup that is killed leaves nothing at DEST; the next one removes what lies beside it.
    """
    made = _copied(home, Path(os.path.abspath(os.path.expanduser(dest))))
    for name in made.lost:
        click.echo(f"nbtasks: the blob {name} is missing in the home, or damaged", err=True)
    click.echo(
        f"backed up {views.many(made.runs, 'run')} and {views.many(made.blobs, 'blob')}, "
        f"{made.bytes:,} bytes, to {dest}"
    )


@click.command()
@click.option("--verify", is_flag=True, help="Also read large values; in a backup, compare their hashes.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
@click.pass_obj
def doctor(home: str, verify: bool, output: str) -> None:
    """Look whether the home is well: versions, broker, modes, room, journal, large values; exit 1 if not.

    Nothing is changed. With -o json one object: home, is_well, findings (name, is_well, text).
    """
    found = []
    for one in _examined(home, verify):
        found.append(one)
        if output == "text":
            click.echo(f"{'✓' if one.is_well else '✗'} {one.name:<9} {one.text}")
    is_well = all(one.is_well for one in found)
    if output == "json":
        click.echo(
            json.dumps(
                {"home": home, "is_well": is_well, "findings": [msgspec.to_builtins(one) for one in found]},
                indent=2,
            )
        )
    sys.exit(0 if is_well else 1)


def _examined(home: str, verify: bool) -> Iterator[Finding]:
    versions = [f"{name} {version(name)}" for name in PACKAGES]
    yield Finding("versions", True, ", ".join([*versions, f"Python {platform.python_version()}"]))
    yield _broker(home)
    command = python_command("nbtasks.broker.doctor", "--home", home, *(["--verify"] if verify else []))
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment(home)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield msgspec.json.decode(line, type=Finding)
    if process.returncode:
        yield Finding("doctor", False, f"its process ended with status {process.returncode}")


def _broker(home: str) -> Finding:
    owner = lock.owner(home)
    if owner is None:
        return Finding("broker", True, "none runs")
    try:
        with connect(home, start=False) as client:
            client.status()
    except (BrokerUnavailable, TimeoutError) as error:
        return Finding("broker", False, f"pid {owner.pid} does not answer: {error}")
    return Finding("broker", True, f"pid {owner.pid} answers")


def _copied(home: str, dest: Path) -> Made:
    """Have a backup made and show how far it is."""
    command = python_command("nbtasks.broker.backup", "--home", home, str(dest))
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment(home)) as process,
        _Bar() as bar,
    ):
        assert process.stdout is not None
        said: Word | None = None
        for line in process.stdout:
            said = _decode(line)
            if isinstance(said, Progress):
                bar.show(said)
    if isinstance(said, NotMade):
        raise NbtasksError(said.reason)
    if not isinstance(said, Made):
        raise NbtasksError(f"there is no backup: its process ended with status {process.returncode}")
    return said


class _Bar:
    """How far it is, on a terminal, once it has taken a while."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._drawn = ExitStack()
        self._progress: object = None

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._drawn.close()

    def show(self, word: Progress) -> None:
        if time.monotonic() < self._began_s + BAR_AFTER_S or not sys.stderr.isatty():
            return
        # rich costs 100 ms to import
        from rich.console import Console
        from rich.progress import Progress as Bars

        if not isinstance(self._progress, Bars):
            bars = Bars(console=Console(stderr=True), transient=True)
            self._progress = self._drawn.enter_context(bars)
            self._task = bars.add_task(word.stage, total=word.total)
        self._progress.update(self._task, description=word.stage, completed=word.done, total=word.total)
