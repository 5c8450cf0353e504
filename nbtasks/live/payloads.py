"""What is sent to the widgets: plain data of bounded size, made of what the broker tells. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nbtasks import views
from nbtasks.core.messages import Board, BoardRow, Progress, RunChanged, RunInfo, TaskCounts
from nbtasks.core.states import FINAL, State, StateType

BYTES_MAX = 20_000  # of one update
TASKS_MAX = 12  # on the board; the others are summed
NAME_CHARACTERS = 60
CALL_CHARACTERS = 300
MESSAGE_CHARACTERS = 120  # in a table: two lines; a card of its own shows all that is told
DETAIL_CHARACTERS = 1000
ATTEMPTS_MAX = 5  # the newest ones, of a run that is unfolded
WORKERS_MAX = 12

Data = dict[str, Any]
# In the order of a life, so that a bar fills from the left with what is done.
_ORDER = (
    StateType.COMPLETED,
    StateType.FAILED,
    StateType.CRASHED,
    StateType.CANCELLED,
    StateType.CANCELLING,
    StateType.RUNNING,
    StateType.SCHEDULED,
    StateType.PENDING,
)
_ENDED = frozenset(state.type.value for state in FINAL)


def type_of(state: str) -> str:
    return State(state).type.value


def run(seen: RunChanged, name: str, call: str, now_s: float, note: str = "") -> Data:
    """One run.

    Parameters
    ----------
    note
        Why what is shown may be old; "" if it is not.
    """
    kind = type_of(seen.state)
    return {
        "id": seen.run,
        "name": _cut(name, NAME_CHARACTERS),
        "call": _cut(call, CALL_CHARACTERS),
        "type": kind,
        "state": _cut(seen.label or seen.state, NAME_CHARACTERS),
        "live": kind not in _ENDED,
        "cancellable": kind not in _ENDED and kind != StateType.CANCELLING,
        **look(kind),
        "message": seen.message,
        "submitted": seen.submitted,
        "at": seen.at,
        "start": seen.start,
        "end": seen.end,
        "attempts": seen.attempts,
        "pid": seen.pid,
        **_progress(seen.progress),
        "note": note,
        "now": now_s,
    }


def former(seen: RunChanged, count: int) -> Data:
    """The run that was called again; `count` says how often that was done, this time included."""
    return {
        "id": seen.run,
        "state": _cut(seen.label or seen.state, NAME_CHARACTERS),
        "count": count,
        **look(type_of(seen.state)),
    }


def detail(told: RunInfo, tail: Data) -> Data:
    """A run below its line on the board."""
    return {
        "id": told.run,
        "call": _cut(views.call_of(told.name, json.loads(told.parameters).items()), CALL_CHARACTERS),
        "message": _cut(told.message, DETAIL_CHARACTERS),
        "attempts": [
            {
                "number": attempt.number,
                "pid": attempt.pid,
                "start": round(attempt.start, 3),
                "end": round(attempt.end, 3),
                "outcome": attempt.outcome,
            }
            for attempt in told.attempts[-ATTEMPTS_MAX:]
        ],
        "tail": tail,
        "note": "" if tail or told.attempts else "It has not started.",
    }


def runs(
    name: str, ended: Mapping[str, int], running: int, total: int, times: tuple[float, float], now_s: float,
    note: str = "",
) -> Data:  # fmt: skip
    """A list of runs; `times` are when it was submitted and when it ended (UNIX seconds)."""
    known = dict(ended)
    lost = known.pop("", 0)
    left = total - sum(known.values()) - lost
    running = min(running, left)
    counts = {**known, StateType.RUNNING.value: running, StateType.PENDING.value: left - running}
    of_name = f" of {_cut(name, NAME_CHARACTERS)}" if name else ""
    return {
        "label": f"{total:,} run{'' if total == 1 else 's'}{of_name}",
        "total": total,
        "parts": parts(counts),
        "live": left > 0,
        "submitted": times[0],
        "ended": times[1],
        "note": note or (f"{lost:,} of them are not recorded" if lost else ""),
        "now": now_s,
    }


def board(
    seen: Board | None, now_s: float, note: str = "", filter_text: str = "",
    found: Sequence[BoardRow] | None = None,
) -> Data:  # fmt: skip
    """The board; `found` are the rows that fit `filter_text`, if they were looked for."""
    if seen is None:
        seen = Board("", 0, {}, (), (), (), 0)
    rows = seen.rows if found is None else found
    data: Data = {
        "parts": parts(seen.counts),
        "tasks": _tasks(seen.tasks),
        "workers": seen.worker_count,
        "busy": sum(worker.state == "busy" for worker in seen.workers),
        "staff": _staff(seen),
        "looks": {kind.value: look(kind.value) for kind in StateType},
        "rows": [_row(row) for row in rows],
        "filter": filter_text if found is not None else "",
        "heard": bool(seen.boot),
        "note": note,
        "now": now_s,
    }
    while data["rows"] and size(data) > BYTES_MAX:
        del data["rows"][-5:]
    return data


def size(data: Data) -> int:
    """Bytes of an update on the wire, nearly."""
    return len(json.dumps(data, ensure_ascii=False).encode(errors="replace"))


def look(kind: str) -> Data:
    return {"shape": views.shape(kind), "colour": views.COLOURS.get(kind, views.UNKNOWN_COLOUR)}


def parts(counts: Mapping[str, int]) -> list[Data]:
    """The segments of a bar."""
    return [
        {"type": kind.value, "word": kind.value.lower(), "count": counts[kind.value], **look(kind.value)}
        for kind in _ORDER
        if counts.get(kind.value)
    ]


def _staff(seen: Board) -> list[Data]:
    """What workers do, the busy ones first."""
    rows = {row.run: row for row in seen.rows}
    workers = sorted(seen.workers, key=lambda worker: (not worker.run, worker.pid))[:WORKERS_MAX]
    return [
        {
            "id": worker.worker,
            "pid": worker.pid,
            "state": worker.state,
            "name": _cut(rows[worker.run].name, NAME_CHARACTERS) if worker.run in rows else worker.run[-8:],
            "start": round(rows[worker.run].start, 3) if worker.run in rows else 0,
        }
        for worker in workers
    ]


def _tasks(told: Sequence[TaskCounts]) -> list[Data]:
    shown = [task for task in told if task.key][:TASKS_MAX]
    hidden = told[len(shown) :]
    rows = [_task(str(i), task.name, task.counts) for i, task in enumerate(shown)]
    if hidden:
        summed: dict[str, int] = {}
        for task in hidden:
            for kind, number in task.counts.items():
                summed[kind] = summed.get(kind, 0) + number
        rows.append(_task("", "other tasks" if shown else "all tasks", summed))
    return rows


def _task(key: str, name: str, counts: Mapping[str, int]) -> Data:
    return {
        "key": key,
        "name": _cut(name, NAME_CHARACTERS),
        "total": sum(counts.values()),
        "ended": sum(number for kind, number in counts.items() if kind in _ENDED),
        "parts": [{k: part[k] for k in ("type", "word", "count", "colour")} for part in parts(counts)],
    }


def _row(row: BoardRow) -> Data:
    kind = type_of(row.state)
    return {
        "id": row.run,
        "name": _cut(row.name, NAME_CHARACTERS),
        "type": kind,
        "state": _cut(row.label or row.state, NAME_CHARACTERS),
        "live": kind not in _ENDED,
        "cancellable": kind not in _ENDED and kind != StateType.CANCELLING,
        "message": _cut(row.message, MESSAGE_CHARACTERS),
        "at": round(row.at, 3),
        "start": round(row.start, 3),
        "end": round(row.end, 3),
        "attempts": row.attempts,
        **(_progress(row.progress) if row.progress else {}),
    }


def _progress(told: Progress | None) -> Data:
    """How it is written, and as a share between 0 and 1; -1 if the total is not known."""
    if told is None:
        return {"progress": "", "share": -1}
    share = min(1.0, told.done / told.total) if told.total else -1
    return {"progress": _cut(views.progress_text(told), MESSAGE_CHARACTERS), "share": share}


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
