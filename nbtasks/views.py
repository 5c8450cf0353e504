"""How runs and brokers look: rows, words, shapes and colours, as text and as HTML.

Pure. Every face draws with these functions, so a run looks the same in a notebook, on the command
line and on a page, and what a state looks like is decided here alone. All HTML is escaped; colours
are read on white and on black, and never say what a word or a shape does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any, NamedTuple, Protocol

from nbtasks.core.states import State, StateType
from nbtasks.errors import UnknownRun
from nbtasks.run import asked

DAY_S = 86_400.0
SEARCH_MAX = 1000  # newest runs among which a part of an id is looked for
ID_CHARACTERS = 36
PART_CHARACTERS_MIN = 4  # less of an id names nobody
PART_CHARACTERS = 8  # of a short id
ROWS_MAX = 50  # a longer table is cut and says so: nobody reads it, and a page has to hold it

SHAPES: dict[str, str] = {
    StateType.SCHEDULED: "◷",
    StateType.PENDING: "○",
    StateType.RUNNING: "▶",
    StateType.CANCELLING: "◌",
    StateType.COMPLETED: "✓",
    StateType.FAILED: "✗",
    StateType.CANCELLED: "⊘",
    StateType.CRASHED: "‼",
}
# Middle tones: each has a contrast of at least 3 against white and against Jupyter's dark background.
COLOURS: dict[str, str] = {
    StateType.SCHEDULED: "#7d7d7d",
    StateType.PENDING: "#7d7d7d",
    StateType.RUNNING: "#3a82d0",
    StateType.CANCELLING: "#b8741a",
    StateType.COMPLETED: "#2e9152",
    StateType.FAILED: "#d9483b",
    StateType.CANCELLED: "#b8741a",
    StateType.CRASHED: "#d9483b",
}
UNKNOWN_SHAPE, UNKNOWN_COLOUR = "?", "#7d7d7d"
FINAL_TYPES = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED})


class StateLike(Protocol):
    @property
    def type(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def message(self) -> str | None: ...
    @property
    def timestamp(self) -> datetime: ...


class ProgressLike(Protocol):
    @property
    def done(self) -> float: ...
    @property
    def total(self) -> float | None: ...
    @property
    def text(self) -> str: ...


class RunLike(Protocol):
    """What a row is made of; `nbtasks.Run` has it."""

    @property
    def id(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def tags(self) -> Iterable[str]: ...
    @property
    def parameters(self) -> Mapping[str, str]: ...
    @property
    def state(self) -> Any: ...
    @property
    def attempts(self) -> Sequence[Any]: ...
    @property
    def progress(self) -> Any: ...


class Row(NamedTuple):
    """One run as it is shown."""

    id: str
    name: str
    type: str  # "" when it could not be found out
    state: str
    message: str = ""
    at: float = 0.0  # UNIX seconds, since when it is in this state
    tags: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    attempts: int = 0
    start: float = 0.0  # UNIX seconds of the first attempt; 0: not started
    end: float = 0.0  # UNIX seconds of the end of the last attempt; 0: not ended
    worker: str = ""
    pid: int = 0
    progress: ProgressLike | None = None

    @property
    def is_final(self) -> bool:
        return self.type in FINAL_TYPES


def row(run: RunLike) -> Row:
    """Read a run once, so that what is drawn of it belongs together."""
    state = run.state
    # a pending run has no attempts, and asking for those of many costs a question each
    attempts = [] if state.type == StateType.PENDING else list(run.attempts)
    last = attempts[-1] if attempts else None
    return Row(
        id=str(run.id),
        name=run.name,
        type=str(getattr(state.type, "value", state.type)),
        state=state.name,
        message=state.message or "",
        at=_unix_s(state.timestamp),
        tags=tuple(sorted(run.tags)),
        parameters=tuple(run.parameters.items()),
        attempts=len(attempts),
        start=_unix_s(attempts[0].start) if attempts else 0.0,
        end=_unix_s(last.end) if last else 0.0,
        worker=last.worker if last else "",
        pid=last.pid if last else 0,
        progress=run.progress if last else None,
    )


def record(run: Row) -> dict[str, Any]:
    """A run as JSON takes it; times are UNIX seconds, null if it did not come to that."""
    return {
        "id": run.id,
        "name": run.name,
        "type": run.type,
        "state": run.state,
        "message": run.message,
        "at": run.at,
        "tags": list(run.tags),
        "parameters": dict(run.parameters),
        "attempts": run.attempts,
        "start": run.start or None,
        "end": run.end or None,
        "worker": run.worker or None,
        "pid": run.pid or None,
        "progress": {"done": run.progress.done, "total": run.progress.total, "text": run.progress.text}
        if run.progress
        else None,
    }


def match_id(text: str, ids: Iterable[str]) -> str:
    """The id that `text` is, begins or ends; ids made in one hour differ at their ends only.

    Raises
    ------
    UnknownRun
        None of `ids` fits, or more than one does.
    """
    text = asked.run_id(text).lower()
    if len(text) == ID_CHARACTERS:
        return text  # it was written without its hyphens
    found = [one for one in ids if one.startswith(text) or one.endswith(text)]
    if len(text) < PART_CHARACTERS_MIN or not found:
        raise UnknownRun(f"no recent run has an id that begins or ends with {text!r}")
    if len(found) > 1:
        raise UnknownRun(f"{len(found)} runs have an id that begins or ends with {text!r}: say more of it")
    return found[0]


def shape(state_type: str) -> str:
    return SHAPES.get(state_type, UNKNOWN_SHAPE)


def took_s(run: Row, now_s: float) -> float | None:
    """Seconds from the start of the first attempt to the end, or to now; None if it has not started."""
    if not run.start:
        return None
    return max(0.0, (run.end or (run.at if run.is_final else now_s)) - run.start)


def duration(seconds: float | None) -> str:
    """Write a time so that two digits tell: 3 ms, 1.2 s, 4 min 05 s, 2 h 07 min."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def progress_text(progress: ProgressLike) -> str:
    """How far a run is: "42 % (42 of 100), epoch 3"."""
    done = _number(progress.done)
    if progress.total:
        percent = min(100, int(100 * progress.done / progress.total))
        done = f"{percent} % ({done} of {_number(progress.total)})"
    return f"{done}, {progress.text}" if progress.text else done


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def size(number_bytes: int) -> str:
    """Write a number of bytes in the unit that keeps it short."""
    value, unit = float(number_bytes), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def many(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def call(run: Row) -> str:
    """Write the call as the user wrote it, with the reprs that were kept."""
    return call_of(run.name, run.parameters)


def call_of(task: str, parameters: Iterable[tuple[str, str]]) -> str:
    return f"{task}({', '.join(f'{name}={text}' for name, text in parameters)})"


def summary(rows: Sequence[Row], total: int | None = None) -> str:
    """Count the runs by state name, in the order of a run's life: "12 runs: 2 Running, 10 Completed".

    Parameters
    ----------
    total
        How many runs there are, if `rows` are only the first of them.
    """
    counts = Counter(item.state for item in rows)
    order = {state.value: place for place, state in enumerate(State)}
    parts = [
        f"{counts[name]} {name}" for name in sorted(counts, key=lambda name: (order.get(name, 99), name))
    ]
    beginning = "" if total in (None, len(rows)) else f"{many(total or 0, 'run')}; the first "
    return beginning + many(len(rows), "run") + (f": {', '.join(parts)}" if parts else "")


# -- text -------------------------------------------------------------------------------------------


def run_text(run: Row) -> str:
    """One line that is the same at each execution of a notebook: no id, no time, no address.

    A state that may still change is left out, because how far a run got when the cell was drawn is chance.
    """
    return f"Run {run.name!r}" + (f": {run.state}" if run.is_final else "")


def runs_text(rows: Sequence[Row], has_ids: bool = False) -> str:
    """A table for a notebook's text/plain, as stable as the states; with ends of ids where they are typed."""
    lines, shown = [summary(rows)], rows[:ROWS_MAX]
    width = max((len(item.state) for item in shown), default=0)
    ids = [f"{item.id[-PART_CHARACTERS:]}  " if has_ids else "" for item in shown]
    lines += [
        f"{shape(item.type)} {item.state:<{width}}  {end}{item.name}"
        for item, end in zip(shown, ids, strict=True)
    ]
    return "\n".join(lines + _cut(len(rows)))


COLUMNS = ("id", "state", "task", "took", "attempts", "message")


def cells(run: Row, now_s: float) -> tuple[str, ...]:
    """The texts of one line of a table, in the order of `COLUMNS`."""
    return (
        run.id,
        f"{shape(run.type)} {run.state}",
        call(run),
        duration(took_s(run, now_s)),
        str(run.attempts),
        first_line(run.message),
    )


def counts_text(counts: Mapping[str, int]) -> str:
    """Count all runs by state type: "12 runs: 2 running, 10 completed"."""
    words = ", ".join(f"{number:,} {name.lower()}" for name, number in counts.items() if number)
    return many(sum(counts.values()), "run") + (f": {words}" if words else "")


def status_text(status: Any, home: str, now_s: float) -> str:
    """A broker in a few lines: who it is, who works, what waits."""
    counts = ", ".join(f"{number} {name.lower()}" for name, number in status.counts.items() if number)
    lines = [f"broker  pid {status.broker_pid}, home {home}", f"runs    {counts or 'none'}"]
    lines += [f"pool    pid {pool.pid}{_pool_words(pool)}" for pool in status.pools]
    if not status.pools:
        lines.append("pool    none: runs wait for one")
    lines += worker_lines(status, now_s)
    for key, (depth, age_s) in status.queues.items():
        lines.append(f"queue   {key}: {depth} waiting, the oldest for {duration(age_s)}")
    return "\n".join([*lines, *damage_lines(status)])


def bar_text(done: int, total: int, width: int = 24) -> str:
    """How many of so many runs have ended, with a bar of so many characters."""
    full = width * done // total if total else width
    return f"{'█' * full}{'░' * (width - full)} {done} of {many(total, 'run')}"


def damage_lines(status: Any) -> list[str]:
    """Which journals turned out to be damaged."""
    return [f"damaged {path}: set aside, the runs in it are not listed" for path in status.damaged]


def _pool_words(pool: Any) -> str:
    number = str(pool.most) if pool.least == pool.most else f"{pool.least}..{pool.most}"
    tasks = "any task" if pool.serves is None else " | ".join(pool.serves)
    return f", {pool.workers} of {number} workers, {tasks}"


def worker_lines(status: Any, now_s: float) -> list[str]:
    """What each worker does: "worker  pid 7, busy for 1.2 s with run …"."""
    lines = []
    for worker in status.workers:
        since_s = _unix_s(worker.busy_since)
        since = f" for {duration(max(0.0, now_s - since_s))}" if since_s else ""
        run = f" with run {worker.current_run}" if worker.current_run else ""
        memory = f", {size(worker.memory_bytes)}" if worker.memory_bytes else ""
        lines.append(f"worker  pid {worker.pid}, {worker.state}{since}{run}{memory}")
    return lines


def limit_text(name: str, slots: int, period_s: float, in_use: int, waiting: int) -> str:
    """One line about a limit."""
    if period_s:
        what = f"{many(slots, 'start')} in {period_s:g} s"
    else:
        what = f"{many(slots, 'slot')}, {in_use} in use"
    return f"{name}: {what}" + (f", {waiting} waiting" if waiting else "")


def cancel_text(asked: int, ended: int) -> str:
    """What was cancelled, and how many runs had ended before."""
    return f"asked to cancel {many(asked, 'run')}" + (f"; {ended} had ended already" if ended else "")


def pruned_text(runs: int, number_bytes: int, dry_run: bool) -> str:
    """What a prune did, or would do."""
    if not runs:
        return "nothing to remove"
    return f"{'would remove' if dry_run else 'removed'} {many(runs, 'run')}, about {size(number_bytes)}"


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


# -- HTML -------------------------------------------------------------------------------------------

# The same lines as the widget's; inline, since pages that show a notebook leave no style sheet.
_LINE = "var(--jp-border-color2,rgba(127,127,127,.35))"
_BOX = (
    f"border:1px solid {_LINE};border-left:3px solid {{colour}};border-radius:4px;padding:6px 10px 7px 11px;"
    "margin:2px 0;line-height:1.5"
)
_FLEX = "display:flex;flex-wrap:wrap;gap:0 12px;align-items:baseline"
_TABLE = "border-collapse:collapse;margin:4px 0;line-height:1.4"
_CELL = "text-align:left;padding:2px 14px 2px 0;vertical-align:top;background:none"
_DIM = "opacity:.7"
_MONO = "font-family:var(--jp-code-font-family,monospace)"


def state_html(run: Row) -> str:
    colour = COLOURS.get(run.type, UNKNOWN_COLOUR)
    return (
        f'<span style="white-space:nowrap"><span style="color:{colour}">{shape(run.type)}</span> '
        f"{escape(run.state)}</span>"
    )


def run_html(run: Row, now_s: float, below: str = "") -> str:
    """A run as a small block: state, call, what it took, how it failed, and where.

    Parameters
    ----------
    below
        HTML of what it gave and put out.
    """
    took = duration(took_s(run, now_s)) if run.start else ""
    facts = [f"attempt {run.attempts}"] if run.attempts > 1 else []
    facts += [progress_text(run.progress)] if run.progress else []
    facts += [f"worker pid {run.pid}"] if run.pid else []
    facts += [", ".join(run.tags)] if run.tags else []
    box = _BOX.format(colour=COLOURS.get(run.type, UNKNOWN_COLOUR))
    head = (
        f'<div style="{_FLEX}"><b style="font-weight:600">{state_html(run)}</b>'
        f'<span dir="auto" style="{_MONO};flex:1 1 8em;text-align:left;overflow-wrap:anywhere">'
        f'{escape(call(run))}</span><span style="{_DIM}">{took}</span></div>'
    )
    message = (
        f'<div dir="auto" style="{_MONO};white-space:pre-wrap;overflow-wrap:anywhere">'
        f"{escape(run.message)}</div>"
    )
    foot = f'<div style="{_DIM};font-size:.92em">{escape(" · ".join([*facts, run.id]))}</div>'
    return f'<div style="{box}">{head}{message if run.message else ""}{below}{foot}</div>'


def runs_html(rows: Sequence[Row], now_s: float, total: int | None = None) -> str:
    """Runs as a table of at most `ROWS_MAX` lines under their counts by state; `total` as in `summary`."""
    head = "".join(f'<th style="{_CELL}">{name}</th>' for name in COLUMNS)
    body = "".join(f"<tr>{_line_html(item, now_s)}</tr>" for item in rows[:ROWS_MAX])
    table = f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    cut = "".join(f'<div style="{_DIM}">{escape(line)}</div>' for line in _cut(total or len(rows)))
    return f"<div><div>{escape(summary(rows, total))}</div>{table if rows else ''}{cut}</div>"


def _line_html(run: Row, now_s: float) -> str:
    identity, _, task, took, *others = cells(run, now_s)
    texts = [
        f'<span style="{_MONO};{_DIM};white-space:nowrap">{escape(identity)}</span>',
        state_html(run),
        f'<span dir="auto" style="{_MONO};overflow-wrap:anywhere">{escape(task)}</span>',
        f'<span style="white-space:nowrap">{took}</span>',
        *(
            f'<span dir="auto" style="{_MONO};overflow-wrap:anywhere">{escape(text)}</span>'
            for text in others
        ),
    ]
    return "".join(f'<td style="{_CELL}">{text}</td>' for text in texts)


def _cut(total: int) -> list[str]:
    hidden = total - ROWS_MAX
    return [f"… and {hidden} more"] if hidden > 0 else []


def _unix_s(moment: datetime | float | None) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment or 0.0
