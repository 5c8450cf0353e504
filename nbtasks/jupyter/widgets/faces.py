"""The models that a front end knows: plain data in few traits, messages back, a hand-written module each.

What changes seldom or is large has a trait of its own, so that a tick does not send it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from nbtasks.live import scripts

log = logging.getLogger("nbtasks.widgets")


class Face(anywidget.AnyWidget):
    """What is common: `value` is set by the writer's thread alone, once per update."""

    _css = scripts.STYLE
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
    _esm = scripts.module("run")
    tail = traitlets.Dict().tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)  # its bytes travel as a buffer
    stack = traitlets.Dict().tag(sync=True)


class ListFace(Face):
    _esm = scripts.module("bar")


class BoardFace(Face):
    _esm = scripts.module("board")
    detail = traitlets.Dict().tag(sync=True)


_FACES: dict[str, type[Face]] = {"run": RunFace, "list": ListFace, "board": BoardFace}


def face(kind: str, value: dict[str, Any], hear: Callable[[dict[str, Any]], object]) -> Face:
    """Open the model of a kind; `hear` is told what is clicked."""
    return _FACES[kind](value, hear)
