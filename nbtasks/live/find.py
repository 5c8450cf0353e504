"""Which runs fit the filter of a board: every word is found in a task's name, a state or an id.

The rows that the board has anyway are looked through first, then the journal, in few questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbtasks import views
from nbtasks.client import Client
from nbtasks.core.events import row_of_info
from nbtasks.core.messages import Board, BoardRow, RunFilter
from nbtasks.core.states import State
from nbtasks.errors import NbtasksError
from nbtasks.live import payloads

FOUND_TASKS_MAX = 3  # tasks that are looked for because a word of the filter is in their names


def find(client: Client, text: str, seen: Board | None) -> list[BoardRow]:
    """The newest runs in which every word of `text` is found: in the task's name, the state, the id."""
    words = text.lower().split()
    states = _states(words)
    keys = [task.key for task in (seen.tasks if seen else ()) if any(w in task.name.lower() for w in words)]
    rows: dict[str, BoardRow] = {row.run: row for row in (seen.rows if seen else ())}
    for key in keys[:FOUND_TASKS_MAX] or [""]:
        for info in client.infos(RunFilter(states=states, key=key, limit=views.ROWS_MAX)):
            rows[info.run] = row_of_info(info)
    for word in words:
        if len(word) == views.ID_CHARACTERS:
            rows.update({row.run: row for row in map(row_of_info, _one(client, word))})
    fitting = [row for row in rows.values() if all(word in _text(row) for word in words)]
    return sorted(fitting, key=lambda row: row.submitted, reverse=True)[: views.ROWS_MAX]


def _states(words: Sequence[str]) -> tuple[str, ...]:
    """The states that are meant by a word; empty if none is."""
    meant = [word for word in words if len(word) > 2]
    names = {state.value: (state.value.lower(), state.type.value.lower()) for state in State}
    return tuple(name for name, texts in names.items() if any(t.startswith(w) for t in texts for w in meant))


def _one(client: Client, run: str) -> list[Any]:
    try:
        return [client.info(run)]
    except NbtasksError:
        return []


def _text(row: BoardRow) -> str:
    return f"{row.name} {row.label} {row.state} {payloads.type_of(row.state)} {row.run} {row.message}".lower()
