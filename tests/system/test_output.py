"""What runs put out in real workers: complete when they are over, in order, and heard while they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nbtasks import Client, task
from nbtasks.core.messages import RunChanged
from tests.system.waiting import until

SHARES_WORKERS = True
pytestmark = pytest.mark.feature("N4")


@task
def prints_and_waits(folder: str) -> None:
    import time
    from pathlib import Path

    for number in range(3):
        print("part", number)
        while not (Path(folder) / str(number)).exists():
            time.sleep(0.01)


def test_the_output_of_a_running_run_is_heard_part_by_part(
    client: Client, workers: Any, tmp_path: Path
) -> None:
    heard: list[RunChanged] = []
    run = prints_and_waits.delay(str(tmp_path))
    observation = client.observe_run(str(run.id), lambda seen: heard.append(seen) if seen else None)

    chunks: list[bytes] = []
    for number in range(3):
        until(lambda n=number: heard[-1:] and heard[-1].chunks > n, f"chunk {number} is told of")  # type: ignore[misc]
        chunks += client.output(str(run.id), len(chunks))
        assert [json.loads(chunk)[0]["text"] for chunk in chunks][-1] == f"part {number}\n"
        (tmp_path / str(number)).touch()
    run.result(timeout=60)
    until(lambda: heard[-1].state == "Completed", "the end is told")
    observation.close()

    assert heard[-1].chunks == len(chunks) == 3
    assert client.output(str(run.id), len(chunks)) == []
