"""The worker's log lines, to the letter."""

from __future__ import annotations

import os
import re

from nbtasks.core.messages import Push, Spec
from nbtasks.worker.loglines import LogLines

PUSH = Push("71d4716c-5a28-4518-8376-bfd810a88093", 1, 1, Spec("m:add", "add", "3.11", ""), b"", b"")


def lines(tells_runs: bool) -> list[str]:
    reading, writing = os.pipe()
    log = LogLines(writing, tells_runs)
    log.received(PUSH)
    log.printed(PUSH, "1 + 2 = 3")
    log.finished(PUSH, "completed", "")
    log.finished(PUSH, "raised", "ValueError: bad")
    found = os.read(reading, 65536).decode().splitlines()
    os.close(reading)
    os.close(writing)
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} \| ", line) for line in found)
    return [line[len("22:56:01.765 | ") :] for line in found]


def test_a_serving_worker_tells_of_its_runs() -> None:
    assert lines(tells_runs=True) == [
        "INFO    | nbtasks.worker - Received task run: 71d4716c-5a28-4518-8376-bfd810a88093 - add",
        "INFO    | nbtasks.worker - Submitting task run 'add' to engine.",
        "INFO    | Task run 'add' - 1 + 2 = 3",
        "INFO    | Task run 'add' - Finished in state Completed()",
        "ERROR   | Task run 'add' - Finished in state Failed('ValueError: bad')",
    ]


def test_another_worker_logs_only_prints_that_are_to_be_logged() -> None:
    assert lines(tells_runs=False) == ["INFO    | Task run 'add' - 1 + 2 = 3"]
