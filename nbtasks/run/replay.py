"""What a notebook would show at the end of the outputs that a run put out one after the other.

Text is joined and its carriage returns carried out, displays are updated wherever they are, cleared output
is gone. Outputs are taken one by one, as they come from a run that is still running; with a bound only the
newest are kept, however much comes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbtasks.run.screen import Screen


class Replay:
    """Takes outputs in order, and holds what is to be seen after them.

    Parameters
    ----------
    tail_bytes
        Of what is seen, at least so much of the end is kept, and seldom more than twice as much; None: all.
    """

    def __init__(self, tail_bytes: int | None = None) -> None:
        self._tail_bytes = tail_bytes
        self._shown: list[_Text | _Display] = []
        self._is_stale = False  # to be cleared when something new comes
        self._size_most = 0  # bytes that what is kept has at most

    def add(self, output: Mapping[str, Any]) -> None:
        """Take one nbformat output, or one of the messages that change those before."""
        kind = output.get("output_type")
        if kind == "clear_output":
            self._is_stale = bool(output.get("wait"))
            if not self._is_stale:
                self._shown.clear()
            return
        self._update(output)
        if kind != "update_display_data":
            if self._is_stale:
                self._shown.clear()
                self._is_stale = False
            self._append(output)
        if self._tail_bytes is not None:
            self._size_most += _size(output)
            if self._size_most > 2 * self._tail_bytes:
                self._forget(self._tail_bytes)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """nbformat outputs; a display that may be updated later has its `transient` beside it."""
        return [shown.output for shown in self._shown]

    @property
    def text(self) -> str:
        """All of it as text."""
        return _put_together([shown.text for shown in self._shown])

    def text_tail(self, lines: int, bytes_max: int, without: Sequence[Mapping[str, Any]] = ()) -> str:
        """The last lines of the text: at most so many, and at most so many bytes of UTF-8.

        Parameters
        ----------
        without
            Some of `outputs`, whose text is left out.
        """
        texts: list[tuple[str, bool]] = []
        size = count = 0
        for shown in reversed(self._shown):
            if isinstance(shown, _Display) and any(shown.output is output for output in without):
                continue
            text, begins = shown.tail(lines + 2)
            texts.append((text, begins))
            size, count = size + len(text), count + text.count("\n")
            if count > lines or size > bytes_max:
                break
        text = _put_together(texts[::-1])
        end = "\n" if text.endswith("\n") else ""
        text = "\n".join(text[: len(text) - len(end)].split("\n")[-lines:]) + end
        return text.encode("utf-8", "replace")[-bytes_max:].decode("utf-8", "ignore")

    def _append(self, output: Mapping[str, Any]) -> None:
        if output.get("output_type") != "stream":
            self._shown.append(_Display(dict(output)))
            return
        name = str(output.get("name", "stdout"))
        last = self._shown[-1] if self._shown else None
        if not isinstance(last, _Text) or last.name != name:
            last = _Text(name)
            self._shown.append(last)
        last.screen.write(text_of(output))

    def _update(self, output: Mapping[str, Any]) -> None:
        """A display of that id changes wherever it was shown, also when it is shown once more."""
        if display := _display_id(output):
            for shown in self._shown:
                if isinstance(shown, _Display) and _display_id(shown.output) == display:
                    shown.update(output)

    def _forget(self, kept_bytes: int) -> None:
        excess = sum(shown.size for shown in self._shown) - kept_bytes
        while self._shown and self._shown[0].size <= excess:
            excess -= self._shown.pop(0).size
        if excess > 0 and self._shown and isinstance(first := self._shown[0], _Text):
            first.drop(excess)
        self._size_most = sum(shown.size for shown in self._shown)


class _Text:
    """What one stream wrote without anything in between."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.screen = Screen()

    @property
    def output(self) -> dict[str, Any]:
        return {"output_type": "stream", "name": self.name, "text": self.screen.text}

    @property
    def size(self) -> int:
        return _bytes(self.screen.text)

    @property
    def text(self) -> tuple[str, bool]:
        return self.screen.text, False

    def tail(self, lines: int) -> tuple[str, bool]:
        return "\n".join(self.screen.rows[-lines:]), False

    def drop(self, excess: int) -> None:
        """Let go of so many bytes of the beginning, in whole lines if there are."""
        rows = 0
        for row in self.screen.rows[:-1]:
            if excess <= 0:
                break
            excess -= _bytes(row) + 1
            rows += 1
        self.screen.drop(rows)
        if excess > 0:
            self.screen.shorten(excess)


class _Display:
    """Anything that is no text of a stream."""

    def __init__(self, output: dict[str, Any]) -> None:
        self.output = output
        self.size = _size(output)

    def update(self, output: Mapping[str, Any]) -> None:
        new = {"data": output.get("data") or {}, "metadata": output.get("metadata") or {}}
        self.output = {**self.output, **new}
        self.size = _size(self.output)

    @property
    def text(self) -> tuple[str, bool]:
        """And whether it begins on a line of its own."""
        return text_of(self.output), True

    def tail(self, lines: int) -> tuple[str, bool]:
        return self.text


def replayed(outputs: Iterable[Mapping[str, Any]]) -> Replay:
    """All of `outputs`."""
    replay = Replay()
    for output in outputs:
        replay.add(output)
    return replay


def text_of(output: Mapping[str, Any]) -> str:
    """An output where only text is seen."""
    kind = output.get("output_type")
    if kind == "stream":
        return _lines(output.get("text", ""))
    if kind == "error":
        return "\n".join(output.get("traceback") or [f"{output.get('ename')}: {output.get('evalue')}"]) + "\n"
    text = _lines((output.get("data") or {}).get("text/plain", ""))
    return f"{text}\n" if text else ""


def _lines(text: Any) -> str:
    """nbformat has a text as one, or as a list of its lines."""
    return "".join(text) if isinstance(text, list) else str(text)


def _display_id(output: Mapping[str, Any]) -> str:
    return str((output.get("transient") or {}).get("display_id") or "")


def _put_together(texts: Iterable[tuple[str, bool]]) -> str:
    parts: list[str] = []
    end = "\n"
    for text, begins_line in texts:
        if text:
            parts.append(f"\n{text}" if begins_line and end != "\n" else text)
            end = text[-1]
    return "".join(parts)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _size(output: Mapping[str, Any]) -> int:
    return _bytes(text_of(output)) if output.get("output_type") == "stream" else len(json.dumps(output))
