"""The hand-written ES modules and the style that every live face is drawn with; nothing has to be built."""

from __future__ import annotations

from pathlib import Path

_STATIC = Path(__file__).parent / "static"


def text(name: str) -> str:
    """What is in a file beside these modules."""
    return (_STATIC / name).read_text("utf-8")


def module(name: str) -> str:
    """The text of an ES module: what all share, then what is its own."""
    return shared(text(f"{name}.js"))


def shared(script: str) -> str:
    """A module of somebody else's that uses what all share."""
    return f"{_SHARED}\n{script}"


_SHARED = "\n".join(text(name) for name in ("base.js", "output.js"))
STYLE = text("widgets.css")
