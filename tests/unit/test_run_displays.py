"""What a run displays, on its way to the collector."""

from __future__ import annotations

from typing import Any

import pytest

from nbtasks.worker import capture


class Taker:
    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []

    def output(self, output: dict[str, Any]) -> None:
        self.outputs.append(output)


def test_of_a_widget_that_a_cell_gives_its_text_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    taker = Taker()
    monkeypatch.setattr(capture, "_taker", lambda: taker)
    hook: Any = object.__new__(capture.RunShellDisplayHook)  # one that is made asks for a shell
    view = {"model_id": "a", "version_major": 2}
    hook.msg = {"content": {"data": {"text/plain": "Output()", capture.WIDGET_VIEW: view}, "metadata": {}}}

    hook.finish_displayhook()

    assert [output["data"] for output in taker.outputs] == [{"text/plain": "Output()"}]
