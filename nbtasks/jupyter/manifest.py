"""What `--dry-run` prints: each name that would travel, and what cannot be known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from nbtasks import views
from nbtasks.cell import Part

SMALL_BYTES = 1000  # less is not worth a figure


def text(parts: Sequence[Part], whole_bytes: int, wanted: Sequence[str], doubts: Sequence[str]) -> str:
    """The names, one on a line.

    Parameters
    ----------
    whole_bytes
        Of all together; what they share is in it once.
    wanted
        The names that are assigned when the run is done.
    """
    head = f"{views.many(len(parts), 'name')} would travel"
    rows = [(part.name, part.kind, _size(part.size), part.how) for part in parts]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    lines = [f"{head}, {_size(whole_bytes)} in all" if rows else f"{head}"]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(f"  {'  '.join(cells)}".rstrip())
    if wanted:
        lines.append(f"assigned when it is done: {', '.join(wanted)}")
    lines += [f"not known: {doubt}" for doubt in doubts]
    return "\n".join(lines)


def _size(number_bytes: int | None) -> str:
    if number_bytes is None:
        return ""
    return f"< {views.size(SMALL_BYTES)}" if number_bytes < SMALL_BYTES else views.size(number_bytes)
