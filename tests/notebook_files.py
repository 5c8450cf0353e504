"""Notebooks in files, for tests of tasks that execute them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Cell = str | tuple[str, str]  # the source of a code cell; or that, and a tag


def code_cell(number: int, cell: Cell) -> dict[str, Any]:
    source, tags = (cell, []) if isinstance(cell, str) else (cell[0], [cell[1]])
    return {
        "cell_type": "code",
        "execution_count": 7,
        "id": f"cell-{number}",
        "metadata": {"tags": tags},
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["of an earlier execution\n"]}],
        "source": source.splitlines(True),
    }


def write_notebook(path: Path, *cells: Cell, kernel: str = "python3", language: str = "python") -> Path:
    """Write a notebook of a title and these code cells, each with an output."""
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# A title"]}
    notebook = {
        "cells": [title, *(code_cell(number, cell) for number, cell in enumerate(cells))],
        "metadata": {"kernelspec": {"name": kernel, "display_name": kernel, "language": language}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path
