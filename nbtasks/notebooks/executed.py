"""What a run of a notebook gives: the copy that was executed."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from typing import Any

from nbtasks.notebooks import files


@dataclass(frozen=True, eq=False, repr=False)
class ExecutedNotebook:
    """The executed copy of a notebook, with the outputs of its cells.

    It is made of plain values, so that a process without nbformat can load it.

    Attributes
    ----------
    name
        Of the notebook's file.
    notebook
        The copy as nbformat 4 writes it, in dicts and lists; `nbformat.from_dict(it)` makes a
        `NotebookNode` of it.
    """

    name: str
    notebook: dict[str, Any]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file."""
        files.write(self.notebook, path)

    def __repr__(self) -> str:
        return f"<executed copy of {self.name!r}: {self._extent()}>"

    def _repr_html_(self) -> str:
        return f"Executed copy of <b>{html.escape(self.name)}</b>: {self._extent()}"

    def _extent(self) -> str:
        number = len(self.notebook["cells"])
        return f"{number} cell{'' if number == 1 else 's'}"
