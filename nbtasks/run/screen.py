"""The text of one stream as it stands after all that was written: a terminal as far as notebooks have one.

Carriage returns, backspaces, and the few cursor moves of progress bars are carried out; colours are kept;
any other control sequence leaves no trace. Each row closes the colours that it opens, so that rows may be
overwritten and dropped one by one. A character is one column, as in the front ends of notebooks.
"""

from __future__ import annotations

import re
from itertools import groupby

_RESET = "\x1b[0m"
_PEN_MAX = 8  # colour sequences in force at a time; of more, the newest
_COLOUR = re.compile(r"\x1b\[([0-9;:]*)m")
_MOVES = re.compile(r"[\r\b]|\x1b(?!\[[0-9;:]*m)")  # whatever does more than to append
_CONTROLS = re.compile(r"[\r\b\x1b]")
_ROW_MAX = 10_000  # characters of a row that is still overwritten; after a longer one the next begins
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,2000}\x1b?)?\Z")
_TOKEN = re.compile(
    r"\x1b\[(?P<numbers>[0-?]*)[ -/]*(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles, links
    r"|(?P<text>[^\x1b\r\b]+)"
    r"|[\r\b\x1b]"
)
Cell = tuple[str, str]  # the colours of a character, and the character


class Screen:
    """Rows of text, and a cursor among them."""

    def __init__(self) -> None:
        self.rows: list[str] = [""]
        self._row = 0
        self._column: int | None = None  # None: behind the last character
        self._pen = ""
        self._rest = ""  # the start of a sequence whose end has not come

    @property
    def text(self) -> str:
        return "\n".join(self.rows)

    def write(self, text: str) -> None:
        text = self._rest + text
        unfinished = _UNFINISHED.search(text)
        self._rest = unfinished.group() if unfinished else ""
        text = text[: len(text) - len(self._rest)].replace("\r\n", "\n")
        lines = text.split("\n")
        if self._is_at_end and not self._pen and not _CONTROLS.search(text):
            self.rows[-1] += lines[0]  # nearly all text is of this kind
            self.rows += lines[1:]
            self._row = len(self.rows) - 1
            return
        for line in lines[:-1]:
            self._put(line)
            self._row += 1
            self._column = 0
            if self._row == len(self.rows):
                self.rows.append("")
                self._column = None
        self._put(lines[-1])

    @property
    def _is_at_end(self) -> bool:
        return self._column is None and self._row == len(self.rows) - 1

    def drop(self, rows: int) -> None:
        """Forget the oldest rows, but never the last one."""
        rows = min(rows, len(self.rows) - 1)
        del self.rows[:rows]
        if self._row < rows:
            self._row, self._column = 0, 0
        else:
            self._row -= rows

    def shorten(self, excess: int) -> None:
        """Forget the first bytes of the last row, and its colours."""
        row = _COLOUR.sub("", self.rows[-1]).encode("utf-8", "replace")
        self.rows[-1] = row[excess:].decode("utf-8", "ignore")
        self._column = None

    def _put(self, line: str) -> None:
        if not line:
            return
        if self._column is not None or _MOVES.search(line):
            if len(self.rows[self._row]) > _ROW_MAX:
                self.rows.append("")
                self._row, self._column = len(self.rows) - 1, None
            if self._pen or "\b" in line or "\x1b" in line or "\x1b" in self.rows[self._row]:
                self._edit(line)
            else:
                self._overwrite(line)
        elif not self._pen and "\x1b" not in line:
            self.rows[self._row] += line
        else:
            before, self._pen = self._pen, _pen_after(self._pen, line)
            if not (before or self._pen) or _COLOUR.sub("", line):
                self.rows[self._row] += before + line + (_RESET if self._pen else "")

    def _overwrite(self, line: str) -> None:
        """The same as `_edit`, for text and carriage returns alone."""
        row = self.rows[self._row]
        column = len(row) if self._column is None else self._column
        first, *others = line.split("\r")
        row = row[:column].ljust(column) + first + row[column + len(first) :]
        column += len(first)
        for part in others:
            row, column = part + row[len(part) :], len(part)
        self.rows[self._row] = row
        self._column = None if column == len(row) else column

    def _edit(self, line: str) -> None:
        cells = _cells(self.rows[self._row])
        column = len(cells) if self._column is None else self._column
        for token in _TOKEN.finditer(line):
            final = token["final"]
            if text := token["text"]:
                cells += [("", " ")] * (column - len(cells))
                cells[column : column + len(text)] = [(self._pen, letter) for letter in text]
                column += len(text)
            elif final == "m":
                self._pen = _pen_after(self._pen, token.group())
            elif final in ("A", "B"):
                self.rows[self._row] = _joined(cells)
                self._row += -_number(token) if final == "A" else _number(token)
                self._row = min(max(0, self._row), len(self.rows) - 1)
                cells = _cells(self.rows[self._row])
            elif final == "K":
                _erase(cells, column, token["numbers"])
            else:
                column = _moved(column, token)
        self.rows[self._row] = _joined(cells)
        self._column = None if column == len(cells) else column


def _number(token: re.Match[str]) -> int:
    """How far; a sequence that says nothing means one."""
    digits = token["numbers"]
    return max(1, int(digits)) if digits.isascii() and digits.isdigit() and len(digits) < 5 else 1


def _moved(column: int, token: re.Match[str]) -> int:
    if token.group() == "\r":
        return 0
    if token.group() == "\b":
        return max(0, column - 1)
    if token["final"] == "C":
        return column + _number(token)
    if token["final"] == "D":
        return max(0, column - _number(token))
    return _number(token) - 1 if token["final"] == "G" else column


def _erase(cells: list[Cell], column: int, which: str) -> None:
    if which in ("", "0"):
        del cells[column:]
    elif which == "1":
        cells[:column] = [("", " ")] * min(column, len(cells))
    elif which == "2":
        cells.clear()


def _pen_after(pen: str, text: str) -> str:
    """The colours in force behind `text`."""
    if text.endswith(_RESET, text.rfind("\x1b")):
        return ""
    for sequence in _COLOUR.finditer(text):
        numbers = sequence[1]
        if numbers.strip("0;") == "":
            pen = ""
        else:
            pen = sequence.group() if numbers.startswith("0;") else pen + sequence.group()
    sequences = [found.group() for found in _COLOUR.finditer(pen)]
    return "".join(dict.fromkeys(sequences[-_PEN_MAX:]))


def _cells(row: str) -> list[Cell]:
    if "\x1b" not in row:
        return [("", letter) for letter in row]
    cells: list[Cell] = []
    pen = ""
    for token in _TOKEN.finditer(row):
        if text := token["text"]:
            cells += [(pen, letter) for letter in text]
        elif token["final"] == "m":
            pen = _pen_after(pen, token.group())
    return cells


def _joined(cells: list[Cell]) -> str:
    parts = []
    for pen, some in groupby(cells, key=lambda cell: cell[0]):
        text = "".join([letter for _, letter in some])
        parts.append(f"{pen}{text}{_RESET}" if pen else text)
    return "".join(parts)
