"""Large values through real processes: as they were, writable, and gone when nobody needs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbtasks
from nbtasks import task
from nbtasks.core.payload import Payload
from nbtasks.wire.blobs import ORPHAN_S, TEMPORARY, Blobs
from tests.homes import environment
from tests.journals import fill
from tests.system import tasks
from tests.system.waiting import until

SHARES_WORKERS = True

echo = task(tasks.echo)
LARGE = 300_000  # bytes; far above what travels in a message


def files(home: Path) -> list[str]:
    folder = home / "blobs"
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def test_an_array_goes_and_comes_back_and_can_be_written_to(client: Any, workers: Any, home: Path) -> None:
    array = np.arange(LARGE / 8)

    run = echo.delay(array)
    back = run.result(timeout=60)

    assert (back == array).all()
    back[0] = 7.0
    assert run.result()[0] == 7.0  # the same object, as often as it is asked for
    assert nbtasks.get_run(run.id).result(timeout=60)[0] == 0.0
    assert files(home) == [f"{run.id}.0.0", f"{run.id}.1.0"]


@pytest.mark.parametrize("value", [b"x" * LARGE, "é" * LARGE, [b"x" * LARGE, {"a": "b" * LARGE}]])
def test_large_bytes_and_texts_go_and_come_back(client: Any, workers: Any, value: Any) -> None:
    assert echo.delay(value).result(timeout=60) == value


def test_the_items_of_a_map_may_be_large(client: Any, workers: Any) -> None:
    arrays = [np.full(LARGE // 8, i, dtype=float) for i in range(20)]

    results = echo.map(arrays, deferred=True).result(timeout=60)

    assert [result[-1] for result in results] == list(range(20))


def test_every_attempt_reads_the_same_arguments(client: Any, workers: Any, tmp_path: Path) -> None:
    noted = str(tmp_path / "noted")

    run = task(tasks.fail_first, retries=2).delay(noted, np.ones(LARGE // 8))

    assert run.result(timeout=60) == LARGE // 8
    assert len(tasks.lines(noted)) == 3


def test_large_arguments_survive_a_restart_of_the_broker(client: Any, home: Path) -> None:
    run = echo.delay(np.ones(LARGE // 8))
    os.kill(client.status().broker_pid, signal.SIGKILL)

    client.start_workers(1)

    assert run.result(timeout=60).sum() == LARGE // 8


def test_missing_arguments_fail_the_run_and_name_the_file(client: Any, home: Path) -> None:
    run = echo.delay(b"x" * LARGE)
    (home / "blobs" / f"{run.id}.0.0").unlink()
    client.start_workers(1)

    with pytest.raises(nbtasks.ResultCorrupt, match=rf"{run.id}\.0\.0 is not there"):
        run.result(timeout=60)
    assert run.state.name == "Failed"


def test_a_torn_result_is_an_error_that_names_the_file(client: Any, workers: Any, home: Path) -> None:
    run = echo.delay(b"x" * LARGE)
    run.wait(timeout=60)
    os.truncate(home / "blobs" / f"{run.id}.1.0", 1000)

    with pytest.raises(nbtasks.ResultCorrupt, match=rf"{run.id}\.1\.0 has 1,000 bytes"):
        run.result(timeout=60)


def test_what_nobody_refers_to_is_swept_after_an_hour_and_nothing_else(
    client: Any, workers: Any, home: Path
) -> None:
    script = """
        import os, signal
        from nbtasks import context, task
        from nbtasks.client.client import Client
        from tests.system import tasks

        def killed(self, *rest):
            os.kill(os.getpid(), signal.SIGKILL)

        Client.submit = killed  # after the file is in place, before anybody is told
        task(tasks.echo).delay(b"x" * 300_000)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=60)
    [orphan] = files(home)
    run = echo.delay(b"y" * LARGE)
    run.wait(timeout=60)
    waiting = echo.with_options(tags={"kept"}).delay(b"z" * LARGE)
    for name in files(home):
        path = home / "blobs" / name
        old_s = path.stat().st_mtime - ORPHAN_S - 60
        os.utime(path, (old_s, old_s))

    until(lambda: orphan not in files(home), "the orphan is swept")

    assert run.result(timeout=60) == b"y" * LARGE
    assert waiting.result(timeout=60) == b"z" * LARGE


def test_files_of_a_journal_that_was_set_aside_are_kept(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "journal.db").write_bytes(b"not a journal" * 1000)
    reference = Blobs(home).write(Payload([b"x" * LARGE]), "01990000-0000-7000-8000-0000000000ab", 0)
    old_s = (home / "blobs" / reference.name).stat().st_mtime - ORPHAN_S - 60
    os.utime(home / "blobs" / reference.name, (old_s, old_s))
    temporary = home / "blobs" / f"{TEMPORARY}1-dead"
    temporary.write_bytes(b"half")
    os.utime(temporary, (old_s, old_s))

    with nbtasks.connect(home):
        until(lambda: temporary.name not in files(home), "the sweep has been here")

        assert files(home) == [reference.name]


def test_with_the_run_go_its_files(home: Path) -> None:
    home.mkdir(mode=0o700)
    past = fill(home / "journal.db", 100)
    blobs = Blobs(home)
    for attempt in (0, 1):
        blobs.write(Payload([b"x" * LARGE]), past[0], attempt)

    with environment({"NBTASKS_RETENTION_DAYS": "0"}), nbtasks.connect(home) as client:
        waiting = echo.delay(b"x" * LARGE)
        client.prune(older_s=0.0)

        until(lambda: files(home) == [f"{waiting.id}.0.0"], "the files of the runs that left are gone")


def test_a_task_refused_for_a_full_queue_leaves_no_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_QUEUE_LIMIT", "1")
    with nbtasks.connect(home):
        echo.delay(1)

        with pytest.raises(nbtasks.QueueFull):
            echo.delay(b"x" * LARGE)

    assert files(home) == []
