"""A run as HTML that stays: in a saved notebook, and where no widget is shown. It says how it was then."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from html import escape
from typing import Any

from nbtasks import views
from nbtasks.errors import NbtasksError
from nbtasks.jupyter.ansi import html_of
from nbtasks.live.feed import Feed, result_of
from nbtasks.run import Run

OUTPUT_BYTES_MAX = 2_000_000  # of an output that is read for its end; of a larger one is said how it is had
TAIL_BYTES = 6000
PICTURE_BYTES_MAX = 256 * 1024  # it is saved with the notebook

# Reversed, what scrolls begins at its end.
_TAIL = (
    "display:flex;flex-direction:column-reverse;max-height:16.5em;overflow:auto;margin:4px 0;padding:5px 8px;"
    "border-radius:3px;background:rgba(127,127,127,.1)"
)
_PRE = "margin:0;line-height:1.35;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext"
_PICTURE = "display:block;max-width:100%;max-height:30em;margin:4px 0;border-radius:3px"


def run_html(run: Run, row: views.Row) -> str:
    """A run with its result, its last picture, and the end of its output, if these can be had."""
    try:
        result = result_of(run) if row.type == "COMPLETED" else ""
        below = _result(result) + _output(run, result)
    except NbtasksError:
        below = ""  # what is known without the broker is shown all the same
    return views.run_html(row, time.time(), below)


def _result(text: str) -> str:
    return f"<div>returned <code>{escape(text)}</code></div>" if text else ""


def _output(run: Run, result: str) -> str:
    size = run._recorded().output_bytes
    if size > OUTPUT_BYTES_MAX:
        return f"<div>{views.size(size)} of output; run.show() shows it.</div>"
    feed = Feed(run._client, run._run, TAIL_BYTES, PICTURE_BYTES_MAX)
    if size:
        feed.read(size)
        feed.leave_out(result)
    return _picture(feed.picture) + tail_html(feed.tail)


def tail_html(tail: Mapping[str, str]) -> str:
    """The end of an output, as `feed.tail` tells it."""
    text = tail.get("text", "").rstrip("\n")
    notes = [f"<div>{escape(tail[key])}</div>" if tail.get(key) else "" for key in ("before", "note")]
    pre = f'<div style="{_TAIL}"><pre style="{_PRE}">{html_of(text)}</pre></div>' if text else ""
    return notes[0] + pre + notes[1]


def _picture(picture: Mapping[str, Any]) -> str:
    if "data" not in picture:
        return f"<div>{escape(picture['note'])}</div>" if picture else ""
    source = f"data:{picture['mime']};base64,{base64.b64encode(picture['data']).decode()}"
    return f'<img src="{source}" alt="{escape(picture["alt"] or "The last figure")}" style="{_PICTURE}">'
