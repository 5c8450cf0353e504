"""The bare hop of `make bench`: it gives right results, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import work
from tests.bench.systems import Hop, Unsupported
from tests.homes import processes_naming
from tests.system.waiting import until

OWNER = """
from tests.bench.systems import Hop
hop = Hop()
hop.start(2)
print(hop._folder, flush=True)
input()
"""


def test_what_is_sent_comes_back_in_its_order() -> None:
    with Hop() as hop:
        hop.start(2)

        handles = [hop.submit(work.noop, i) for i in range(300)]

        assert [hop.result(handle) for handle in reversed(handles)] == [*reversed(range(300))]
        assert hop.map(work.noop, range(2_345)) == [*range(2_345)]
        with pytest.raises(Unsupported, match="only noop"):
            hop.submit(work.echo, b"")
        folder = hop._folder

    assert not processes_naming(folder)
    assert not os.path.exists(folder)


def test_its_processes_end_with_a_killed_owner() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", OWNER]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        folder = owner.stdout.readline().strip()
        assert len(processes_naming(folder)) == 3

        owner.kill()

        until(lambda: not processes_naming(folder), "the processes of the hop ended")
        assert not os.path.exists(folder)
