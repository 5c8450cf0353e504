"""Notebooks in files: read as what is to be executed, and written.

That is plain JSON. nbformat would do no more for us, and takes seconds to import where jsonschema comes with
all its formats; so only the process that executes a notebook needs it.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

KINDS = ("code", "markdown", "raw")  # of cells


def read(path: str) -> str:
    """What is executed of the notebook in this file, as JSON: without outputs of earlier executions.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    ValueError
        It is no notebook, or not one in Python.
    """
    return _executable(Path(path).read_bytes(), path)


@lru_cache(maxsize=8)  # one `.delay()` reads it several times
def _executable(body: bytes, path: str) -> str:
    try:
        notebook = json.loads(body.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no notebook: {error}") from None
    if reason := _objection(notebook):
        raise ValueError(f"{path} is no notebook that a task could execute: {reason}")
    metadata = {key: value for key, value in notebook["metadata"].items() if key != "widgets"}
    cells = [_fresh(cell) for cell in notebook["cells"]]
    return json.dumps({**notebook, "metadata": metadata, "cells": cells}, sort_keys=True)


def _objection(notebook: Any) -> str:
    if not isinstance(notebook, dict) or not isinstance(notebook.get("nbformat"), int):
        return "it has no number of a format"
    if notebook["nbformat"] != 4 or not isinstance(notebook.get("nbformat_minor"), int):
        return f"it has format {notebook['nbformat']}; Jupyter saves it in format 4"
    metadata, cells = notebook.get("metadata"), notebook.get("cells")
    if not isinstance(metadata, dict) or not isinstance(cells, list):
        return "it has no cells or no metadata"
    for number, cell in enumerate(cells, 1):
        if not _is_cell(cell):
            return f"its cell {number} is none"
    language = _word(metadata, "kernelspec", "language") or _word(metadata, "language_info", "name")
    return f"it is in {language}, not in Python" if language.lower() not in ("", "python") else ""


def _word(metadata: dict[str, Any], part: str, key: str) -> str:
    found = metadata.get(part)
    word = found.get(key) if isinstance(found, dict) else ""
    return word if isinstance(word, str) else ""


def _is_cell(cell: Any) -> bool:
    if not isinstance(cell, dict) or cell.get("cell_type") not in KINDS:
        return False
    source = cell.get("source")
    is_text = isinstance(source, str) or (
        isinstance(source, list) and all(isinstance(line, str) for line in source)
    )
    return is_text and isinstance(cell.get("metadata", {}), dict)


def source_of(cell: dict[str, Any]) -> str:
    """The text of a cell, which files have in lines."""
    source: str | list[str] = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _fresh(cell: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in cell.get("metadata", {}).items() if key != "execution"}
    cell = {**cell, "source": source_of(cell), "metadata": metadata}
    return {**cell, "outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell


# -- writing --------------------------------------------------------------------------------------------


def write(notebook: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a notebook as nbformat does: texts in lines, so that people can compare two of them."""
    cells = [_in_lines(cell) for cell in notebook["cells"]]
    text = json.dumps({**notebook, "cells": cells}, ensure_ascii=False, indent=1, sort_keys=True)
    Path(path).write_text(text + "\n", encoding="utf-8")


def _in_lines(cell: dict[str, Any]) -> dict[str, Any]:
    cell = {**cell, "source": cell["source"].splitlines(True)}
    if "outputs" in cell:
        cell["outputs"] = [_output_in_lines(output) for output in cell["outputs"]]
    return cell


def _output_in_lines(output: dict[str, Any]) -> dict[str, Any]:
    if "text" in output:
        return {**output, "text": output["text"].splitlines(True)}
    if "data" not in output:
        return output
    data = {
        kind: body.splitlines(True) if isinstance(body, str) and _is_text(kind) else body
        for kind, body in output["data"].items()
    }
    return {**output, "data": data}


def _is_text(kind: str) -> bool:
    return kind.startswith("text/") or kind in ("application/javascript", "image/svg+xml")
