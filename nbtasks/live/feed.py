"""The end of a run's output as widgets take it: a piece of text, and the last picture.

What is new is asked for, and only that; what came is carried out as a notebook would and forgotten but
for its end. So an update costs the same however much a run put out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbtasks import pickling
from nbtasks.context import Submitter
from nbtasks.core.messages import RunId
from nbtasks.run import Run
from nbtasks.run.replay import Replay

TAIL_LINES = 200
TAIL_BYTES = 12_000  # of a text, as it is sent
PICTURE_BYTES_MAX = 2**20
KEPT_BYTES = 2 * PICTURE_BYTES_MAX  # of the newest output: a picture outlives what is printed after it
# An svg is drawn as an image of its own, where it can neither run scripts nor load anything.
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
CUT = "… what came before is left out; run.show() shows all of it"
RICH = "Tables and the like are text here; run.show() shows them as they are."

Data = dict[str, Any]


class Feed:
    """What one run put out so far. Used by one thread at a time.

    Parameters
    ----------
    tail_bytes
        Of the text, as it is sent.
    picture_bytes
        A picture may have so many; 0: whoever asks shows none.
    """

    def __init__(
        self,
        client: Submitter,
        run: RunId,
        tail_bytes: int = TAIL_BYTES,
        picture_bytes: int = PICTURE_BYTES_MAX,
    ) -> None:
        self._client, self._run = client, run
        self._tail_bytes, self._picture_bytes = tail_bytes, picture_bytes
        self._replay: Replay | None = Replay(KEPT_BYTES)
        self._chunks = 0
        self._told: object = None
        self._is_plain = True  # nothing but text so far
        self.tail: Data = {}
        self.picture: Data = {}

    def read(self, told: object) -> None:
        """Take in what is new; raises `NbtasksError`.

        Parameters
        ----------
        told
            How much is recorded, as far as we were told: if it is what it was at the last time, nobody is
            asked.
        """
        if self._replay is None or told == self._told:
            return
        chunks = self._client.output(self._run, self._chunks)
        for chunk in chunks:
            for output in json.loads(chunk):
                self._replay.add(output)
                self._is_plain &= output.get("output_type") in ("stream", "error")
        self._chunks += len(chunks)
        self._told = told
        if chunks:
            self._draw(self._replay)

    def _draw(self, replay: Replay, result: str = "") -> None:
        outputs = [] if self._is_plain else replay.outputs
        drawn = pictured(outputs)
        self.picture = picture(drawn, self._picture_bytes) if drawn else {}
        # nothing need be read twice: what the picture beside it is called, what the run returned
        without = [drawn] if drawn and "data" in self.picture else []
        without += [o for o in outputs[-1:] if result and is_result(o, result)]
        self.tail = tail(replay, self._tail_bytes, without)
        self.tail["note"] = RICH if any("text/html" in (o.get("data") or {}) for o in outputs) else ""

    def leave_out(self, result: str) -> None:
        """The value of a cell is among its outputs: it is shown elsewhere, as what the run returned."""
        if self._replay is not None and result and not self._is_plain:
            self._draw(self._replay, result)

    def end(self) -> None:
        """Nothing will come any more: keep what is shown alone."""
        self._replay = None


def tail(replay: Replay, bytes_max: int = TAIL_BYTES, without: Sequence[Mapping[str, Any]] = ()) -> Data:
    """The last lines, so that they are at most `bytes_max` when they are sent; not of `without`."""
    text = replay.text_tail(TAIL_LINES, bytes_max, without)
    while (excess := _sent_bytes(text) - bytes_max) > 0:
        # what is not printed takes up to six bytes a character
        text = text[max(1, excess // 6) :]
    is_cut = len(text) < len(replay.text_tail(TAIL_LINES + 1, bytes_max + 4, without))
    return {"text": text, "before": CUT if is_cut else "", "note": ""}


def pictured(outputs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The last of them that has a picture."""
    return next(
        (o for o in reversed(outputs) if any(mime in (o.get("data") or {}) for mime in PICTURES)), None
    )


def picture(output: Mapping[str, Any], bytes_max: int = PICTURE_BYTES_MAX) -> Data:
    """That of an output which has one, as bytes; of one that is too large, only that it is there."""
    data = output["data"]
    mime = next(mime for mime in PICTURES if mime in data)
    body = _bytes(mime, data[mime])
    if len(body) > bytes_max:
        return {"note": "Its last figure is too large to be shown here; run.show() shows it."}
    return {"mime": mime, "data": body, "alt": _text(data.get("text/plain", ""))[:200]} if body else {}


def is_result(output: Mapping[str, Any], result: str) -> bool:
    """Whether it is the value of a cell, written as `result`."""
    text = _text((output.get("data") or {}).get("text/plain", ""))
    return output.get("output_type") == "execute_result" and text == result


def result_of(run: Run) -> str:
    """How a plain result is written; "" if it is none. Executes no code of the user's."""
    return pickling.preview(run._client.unpack(run._bytes()))


def _bytes(mime: str, data: Any) -> bytes:
    text = _text(data)
    if mime == "image/svg+xml":
        return text.encode("utf-8", "replace")
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _text(data: Any) -> str:
    """nbformat has a text as one, or as a list of its lines."""
    return "".join(map(str, data)) if isinstance(data, list) else str(data)


def _sent_bytes(text: str) -> int:
    return len(json.dumps(text, ensure_ascii=False).encode(errors="replace"))
