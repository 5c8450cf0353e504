"""The settings of a home: each does something, and what nobody says is what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nbtasks
from nbtasks import settings
from nbtasks.client.pools import Pool

PACKAGE = Path(nbtasks.__file__).parent


@pytest.mark.parametrize("name", settings.Settings.__struct_fields__)
def test_every_setting_is_read_by_somebody(name: str) -> None:
    modules = (path for path in PACKAGE.rglob("*.py") if path.name != "settings.py")

    assert any(re.search(rf"\.{name}\b", module.read_text()) for module in modules)


class Owner:
    """Has a pool that ends when it is told to."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self.told: list[float] = []

    @property
    def drain_s(self) -> float:
        return nbtasks.Client(self.home, start=False).drain_s

    def resize(self, pool: str, least: int, most: int, drain_s: float) -> None:
        self.told.append(drain_s)
        if not most:
            self.process.communicate(b"\n")

    def has_pool(self, name: str = "") -> bool:
        return name == "p-1"


def test_running_code_has_as_long_as_the_home_says_if_nobody_else_does(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("drain_s = 7")
    owner = Owner(tmp_path)
    pool = Pool(owner, "p-1", owner.process.pid)

    pool.scale(2)
    pool.stop()

    assert owner.told == [7.0, 7.0]


def test_who_says_how_long_running_code_has_is_heard(tmp_path: Path) -> None:
    owner = Owner(tmp_path)

    Pool(owner, "p-1", owner.process.pid).stop(timeout=3)

    assert owner.told == [3.0]
