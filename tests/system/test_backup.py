"""A home is copied while its broker works, and a broker that starts on the copy has all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbtasks
from nbtasks import task
from nbtasks.broker.backup import make
from nbtasks.wire.blobs import Reference, encoded
from tests.homes import stop_broker
from tests.journals import fill, past_id, rows_of
from tests.system import tasks
from tests.system.waiting import HANG_S, until

SHARES_WORKERS = True
LARGE = 300_000  # bytes; far above what travels in a message
HUGE = 2**40  # bytes of a file without blocks: nobody reads it to its end

double = task(tasks.double)
echo = task(tasks.echo)
hold = task(tasks.hold)
say_and_hold = task(tasks.say_and_hold)
elsewhere = task(tasks.double, worker_tags=("nowhere",))


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from nbtasks.cli import main; main(prog_name='nbtasks')", *words]


def back_up(home: Path | str, target: Path) -> subprocess.CompletedProcess[str]:
    words = command("--home", str(home), "backup", str(target))
    return subprocess.run(words, capture_output=True, text=True, timeout=HANG_S)


@contextmanager
def opened(target: Path) -> Iterator[Any]:
    """A client of a broker that starts on the copy."""
    try:
        with nbtasks.connect(target) as client:
            yield client
    finally:
        stop_broker(target)


def ids(home: Path) -> set[str]:
    return {run for (run,) in rows_of(home / "journal.db", "SELECT id FROM run")}


@pytest.mark.feature("S3")
@pytest.mark.feature("S3")
def test_a_backup_under_load_has_all_that_was_accepted_before(
    client: Any, workers: Any, tmp_path: Path
) -> None:
    accepted: list[str] = []
    is_enough = threading.Event()

    def submit() -> None:
        while not is_enough.is_set():
            runs = [double.delay(i) for i in range(5)]
            accepted.extend(str(run.id) for run in runs)
            runs[-1].wait(HANG_S)  # or the backup has no processor to itself

    submitting = threading.Thread(target=submit)
    submitting.start()
    try:
        until(lambda: len(accepted) > 100, "runs are submitted")
        before = set(accepted)
        make(Path(client.home), tmp_path / "copy")
    finally:
        is_enough.set()
        submitting.join()

    assert len(accepted) > len(before)
    with opened(tmp_path / "copy"):
        until(lambda: before <= ids(tmp_path / "copy"), "the copy has them all")


@pytest.mark.feature("S3")
def test_results_and_output_come_back_from_the_copy_and_what_ran_does_not(
    client: Any, workers: Any, tmp_path: Path
) -> None:
    array, noted, release = np.arange(LARGE / 8), tmp_path / "noted", tmp_path / "release"
    large, said = echo.delay(array), say_and_hold.delay("hello", "/")
    large.wait(HANG_S), said.wait(HANG_S)
    runs, waits = hold.delay(str(noted), str(release), "kept"), elsewhere.delay(1)
    until(lambda: tasks.lines(noted) and runs.state.name == "Running", "it runs")

    done = back_up(client.home, tmp_path / "copy")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("backed up ")
    assert done.stdout.endswith(f" bytes, to {tmp_path / 'copy'}\n")
    with opened(tmp_path / "copy") as copy:
        assert (copy.get_run(large.id).result(timeout=HANG_S) == array).all()
        assert copy.get_run(said.id).result(timeout=HANG_S) == {"said": "hello"}
        assert copy.get_run(said.id).logs == "hello\nreleased\n"
        assert copy.get_run(runs.id).wait(HANG_S).name == "Crashed"
        assert copy.get_run(waits.id).state.name == "Pending"
        assert not copy.status().pools
    release.touch()
    assert runs.result(timeout=HANG_S) == "kept"


def test_the_doctor_finds_a_working_home_well(client: Any, workers: Any) -> None:
    echo.delay(b"x" * LARGE).wait(HANG_S)

    words = command("--home", str(client.home), "doctor", "--verify", "-o", "json")
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG_S)

    found = json.loads(done.stdout)
    assert done.returncode == 0, found
    assert (found["home"], found["is_well"]) == (str(client.home), True)
    assert [one["name"] for one in found["findings"]] == [
        "versions", "broker", "home", "disk", "journal", "blobs", "verify",
    ]  # fmt: skip
    assert found["findings"][1]["text"] == f"pid {client.status().broker_pid} answers"


def test_a_backup_without_a_broker_starts_none(home: Path, tmp_path: Path) -> None:
    home.mkdir(mode=0o700)
    runs = fill(home / "journal.db", 5)
    runs += fill(home / "journal.db", 1, args=encoded(Reference(f"{past_id(1, 1)}.0.0", 100_000)))

    done = back_up(home, tmp_path / "copy")
    again = back_up(home, tmp_path / "copy")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("backed up 6 runs and 0 blobs, ")
    assert done.stderr == f"nbtasks: the blob {past_id(1, 1)}.0.0 is missing in the home, or damaged\n"
    assert ids(tmp_path / "copy") == set(runs)
    assert again.returncode == 1
    assert again.stderr == f"nbtasks: {tmp_path / 'copy'} is not empty; a backup is made where nothing is\n"
    assert sorted(entry.name for entry in home.iterdir()) == ["journal.db", "journal.db-redo"]


@pytest.mark.feature("S3")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_backup_that_is_ended_leaves_nothing_at_its_place(
    home: Path, tmp_path: Path, number: signal.Signals
) -> None:
    home.mkdir(mode=0o700)
    fill(home / "journal.db", 1, args=encoded(Reference(f"{past_id(1, 1)}.0.0", HUGE)))
    blob = home / "blobs" / f"{past_id(1, 1)}.0.0"
    blob.parent.mkdir()
    blob.touch(0o600)
    os.truncate(blob, HUGE)
    words = [sys.executable, "-m", "nbtasks.broker.backup", "--home", str(home), str(tmp_path / "copy")]

    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        until(lambda: list(tmp_path.glob(".copy.*/blobs/*")), "it copies")
        process.send_signal(number)
        process.communicate(timeout=HANG_S)

    assert not (tmp_path / "copy").exists()
    assert bool(list(tmp_path.iterdir())) is (number is signal.SIGKILL)

    blob.unlink()
    assert make(home, tmp_path / "copy").lost == (blob.name,)
    assert [entry.name for entry in tmp_path.iterdir()] == ["copy"]
