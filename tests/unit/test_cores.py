"""How many cores a process may use, whatever its machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from nbtasks.wire import cores as module
from nbtasks.wire.cores import cores, share

V1 = ("cpu.cfs_quota_us", "cpu.cfs_period_us")


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"fs/cpu.max": "200000 100000"}, 2.0),
        ("0::/", {"fs/cpu.max": "max 100000"}, math.inf),
        ("0::/", {}, math.inf),
        ("0::/user/job", {"fs/user/job/cpu.max": "max 100000", "fs/user/cpu.max": "50000 100000"}, 0.5),
        ("0::/user/job", {"fs/user/job/cpu.max": "150000 100000", "fs/cpu.max": "400000 100000"}, 1.5),
        ("0::/../../seen/from/within", {"fs/cpu.max": "300000 100000"}, 3.0),
        ("4:cpu,x:/docker/x", {f"fs/cpu,x/{V1[0]}": "250000", f"fs/cpu,x/{V1[1]}": "100000"}, 2.5),
        ("1:cpu:/a", {f"fs/cpu/a/{V1[0]}": "100000", f"fs/cpu/a/{V1[1]}": "50000"}, 2.0),
        ("1:cpu:/a", {f"fs/cpu/a/{V1[0]}": "-1", f"fs/cpu/a/{V1[1]}": "100000"}, math.inf),
        ("1:cpuset:/", {f"fs/cpuset/{V1[0]}": "100000", f"fs/cpuset/{V1[1]}": "100000"}, math.inf),
        ("no line of ours\n0::/", {"fs/cpu.max": "what is this"}, math.inf),
        ("0::/", {"fs/cpu.max": "100000 0"}, math.inf),
    ],
)  # fmt: skip
def test_the_smallest_share_of_the_groups_around_counts(
    tmp_path: Path, own: str, files: dict[str, str], expected: float
) -> None:
    written(tmp_path, {"cgroup": own, **files})

    assert share(tmp_path / "fs", tmp_path / "cgroup") == expected


def test_where_there_are_no_groups_nothing_is_bounded(tmp_path: Path) -> None:
    assert share(tmp_path, tmp_path / "none") == math.inf


@pytest.mark.parametrize(("allowed", "expected"), [(0.2, 1), (1.0, 1), (1.5, 2), (64.0, 8), (math.inf, 8)])
def test_a_part_of_a_core_is_one_and_no_share_is_more_than_there_are(
    monkeypatch: pytest.MonkeyPatch, allowed: float, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(module, "share", lambda: allowed)

    assert cores() == expected
