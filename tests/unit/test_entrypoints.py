"""What a command line may name as a task, and what it is told otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks.tasks.entrypoints import BadEntrypoint, load_task

FILES = {
    "json.py": "f = 1",
    "broken.py": "def",
    "raises.py": "raise ValueError('no luck\\nat all')",
    "leaves.py": "raise SystemExit(3)",
    "good.py": "from nbtasks import task\n@task\ndef f(): ...\nclass Box:\n    g = task(f.fn, name='g')\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("text", ["good:f", "good.py:f", "./good.py:f", "{folder}/good.py:f"])
def test_a_task_is_found_by_module_or_file_with_one_key(folder: Path, text: str) -> None:
    assert load_task(text.format(folder=folder)).key == "good:f"
    assert load_task("good:Box.g").name == "g"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("good", "write module:task or path.py:task"),
        (":f", "write module:task or path.py:task"),
        ("good.py:", "write module:task or path.py:task"),
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("good:nothing", "good has no 'nothing'"),
        ("good:Box", "'Box' is a type, not a task"),
        ("missing.py:f", "there is no file"),
        ("./good:f", "there is no file"),
        ("json.py:f", "the name 'json' means"),
        ("broken.py:f", "SyntaxError"),
        ("raises:f", "ValueError: no luck"),
        ("leaves.py:f", "SystemExit: 3"),
    ],
)
def test_what_is_no_task_is_told_in_one_line(folder: Path, text: str, problem: str) -> None:
    with pytest.raises(BadEntrypoint) as raised:
        load_task(text)

    assert problem in str(raised.value)
    assert repr(text) in str(raised.value)
    assert "\n" not in str(raised.value)
