"""Text with the colours of a terminal as HTML, for pages on which nothing moves. Pure; all text is escaped.

A colour is mixed with that of the text around, so that it can be read on a light ground and on a dark one.
"""

from __future__ import annotations

import re
from html import escape

COLOURS = ("#555", "#e0443a", "#18a04a", "#c08a00", "#2f7fe0", "#c04ac0", "#0f9fa8", "#999")
_SEQUENCE = re.compile(r"\x1b\[([0-9;:]*)m")
_NO_TEXT = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-ln-~]|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]"
)
_STYLES = {1: "font-weight:600", 3: "font-style:italic", 4: "text-decoration:underline"}
_ENDS = {22: 1, 23: 3, 24: 4, 39: 30}

Pen = dict[int, str]  # what is set by a sequence -> a declaration of CSS; 30: the colour of the text


def html_of(text: str) -> str:
    """The text as spans; what has no colour stands without one."""
    pieces = _SEQUENCE.split(_NO_TEXT.sub("", text))
    pen: Pen = {}
    parts = []
    for i, piece in enumerate(pieces):
        if i % 2:
            pen = _pen_after(pen, [int(number or 0) for number in re.split("[;:]", piece[:200])])
        elif piece:
            inner = escape(piece.replace("\x1b", ""))
            parts.append(f'<span style="{";".join(pen.values())}">{inner}</span>' if pen else inner)
    return "".join(parts)


def _pen_after(pen: Pen, numbers: list[int]) -> Pen:
    pen = dict(pen)
    numbers = list(numbers)
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            pen.clear()
        elif number in _STYLES:
            pen[number] = _STYLES[number]
        elif number in _ENDS:
            pen.pop(_ENDS[number], None)
        elif 30 <= number <= 37 or 90 <= number <= 97:
            pen[30] = _declared(COLOURS[number % 10])
        elif number in (38, 48):
            kind = numbers.pop(0) if numbers else 0
            given = [numbers.pop(0) for _ in range(3 if kind == 2 else 1) if numbers]
            colour = _rgb(given) if kind == 2 else _indexed(given[0] if given else 0)
            if number == 38:
                pen[30] = _declared(colour)
    return pen


def _declared(colour: str) -> str:
    return f"color:color-mix(in srgb,{colour} 56%,currentColor)"


def _rgb(parts: list[int]) -> str:
    return "#" + "".join(f"{min(255, part):02x}" for part in (*parts, 0, 0, 0)[:3])


def _indexed(number: int) -> str:
    """One of the 256 colours of a terminal."""
    if number < 16:
        return COLOURS[number % 8]
    if number >= 232:
        return _rgb([8 + 10 * (min(number, 255) - 232)] * 3)
    return _rgb(
        [55 + 40 * n if n else 0 for n in ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)]
    )
