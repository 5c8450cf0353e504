"""The reference: every public name says what it is, and it is rendered."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import nbtasks

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("name", [name for name in nbtasks.__all__ if name != "__version__"])
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(nbtasks, name))


@pytest.mark.parametrize("kind", [nbtasks.Run, nbtasks.RunList, nbtasks.Task, nbtasks.Client, nbtasks.Pool])
def test_every_public_method_says_what_it_does(kind: type) -> None:
    methods = {name: member for name, member in vars(kind).items() if inspect.isfunction(member)}
    silent = [name for name, member in methods.items() if name[0] != "_" and not inspect.getdoc(member)]

    assert silent == []


def test_the_reference_has_the_names_and_the_page_for_newcomers(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pdoc", "--docformat", "numpy", "-o", str(tmp_path), "nbtasks"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    page = (tmp_path / "nbtasks.html").read_text()

    names = [name for name in nbtasks.__all__ if name != "__version__"]
    there = {name for name in names if f'id="{name}"' in page or (tmp_path / f"nbtasks/{name}.html").exists()}
    assert set(names) - there == set()
    assert "Coming from another system" in page
