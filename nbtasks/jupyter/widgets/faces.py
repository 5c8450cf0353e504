"""The models that a front end knows: plain data in few traits, messages back, a hand-written module each.

What changes seldom or is large has a trait of its own, so that a tick does not send it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_STATIC = Path(__file__).parent / "static"
_SHARED = "\n".join((_STATIC / name).read_text("utf-8") for name in ("base.js", "output.js"))
_CSS = (_STATIC / "widgets.css").read_text("utf-8")

log = logging.getLogger("nbtasks.widgets")


def module(name: str) -> str:
    """The text of an ES module: what all share, then what is its own."""
    return f"{_SHARED}\n{(_STATIC / f'{name}.js').read_text('utf-8')}"


class Face(anywidget.AnyWidget):
    """What is common: `value` is set by the writer's thread alone, once per update."""

    _css = _CSS
    value = traitlets.Dict().tag(sync=True)

    def __init__(self, value: dict[str, Any], hear: Callable[[dict[str, Any]], object]) -> None:
        super().__init__(value=value)
        self._hear: Callable[[dict[str, Any]], object] | None = hear
        self.on_msg(self._on_message)
        if hasattr(self.comm, "_reply_subshell_for"):
            # ipykernel 7.4 would take a click to the thread that displayed us, where it waits for a busy cell
            # to end; ours may come in any thread, so the subshell that the front end chose is right
            self.comm._reply_subshell_for = None

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        hear = self._hear
        if hear is not None and isinstance(content, dict):
            hear(content)

    def close(self) -> None:
        """Take it away from every page."""
        self._hear = None
        layout = self.layout
        super().close()
        if layout is not None:
            layout.close()

    def __repr__(self) -> str:
        return f"<nbtasks {type(self).__name__}>"  # the same at each execution


class RunFace(Face):
    _esm = module("run")
    tail = traitlets.Dict().tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)  # its bytes travel as a buffer
    stack = traitlets.Dict().tag(sync=True)


class ListFace(Face):
    _esm = module("bar")


class BoardFace(Face):
    _esm = module("board")
    detail = traitlets.Dict().tag(sync=True)
