"""Where the browser comes from, and what is said if there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import chromium


def program(path: Path, status: int) -> str:
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_a_browser_that_is_named_goes_before_all_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CHROME_BIN", program(tmp_path / "mine", 0))

    assert chromium.find() == str(tmp_path / "mine")


def test_a_program_that_only_says_how_to_get_a_browser_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CHROME_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "MAC", ())
    program(tmp_path / "chromium", 1)
    wanted = program(tmp_path / "google-chrome", 0)

    assert chromium.find() == wanted


@pytest.mark.parametrize(
    ("platform", "command"),
    [("darwin", "brew install --cask google-chrome"), ("linux", "install the package chromium")],
)
def test_without_a_browser_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    platform: str,
    command: str,
) -> None:
    monkeypatch.delenv("CHROME_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(chromium, "MAC", ())
    monkeypatch.setattr("sys.platform", platform)

    status = chromium.main()

    [line] = capsys.readouterr().err.splitlines()
    assert status == 1
    assert line.endswith(command)
