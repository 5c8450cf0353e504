"""The questions that the journal answers: what is recorded of a run, of many runs, and how they ended.

Every statement is short, and so is the read transaction that it holds: a listing goes through the table
in windows and stops after a while with what it found and where to go on. One that lasted would keep
the log from being moved into the file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from nbtasks.broker import rows
from nbtasks.broker.restoring import Readable, Specs
from nbtasks.core import codec
from nbtasks.core.messages import (
    CallFound,
    GetCached,
    GetCall,
    GetOutput,
    GetRun,
    GetRuns,
    GetValue,
    GetYielded,
    Message,
    Need,
    RunFilter,
    RunFound,
    RunId,
    RunInfo,
    Runs,
    Spec,
    Value,
    YieldedFound,
)
from nbtasks.core.messages import (
    Output as OutputMessage,
)
from nbtasks.core.records import Piece
from nbtasks.core.retention import Past
from nbtasks.core.states import TYPES, State
from nbtasks.wire.blobs import REFERENCE_BYTES_MAX, Blobs, reference_of

WINDOW_ROWS = 50_000  # that one statement looks at; some 30 ms
PAST_ROWS = 1000  # that are judged at once, by the loop
OVERHEAD_BYTES = 300  # of a run's rows and index entries beyond their variable parts
SPECS_AT_ONCE = 100
LISTING_S = 0.5  # after which a listing is answered with what it found so far

_INFO = (
    "SELECT run.seq, run.id, run.spec, run.submitted, run.parameters, run.parent, state.state, "
    "state.message, state.at, state.history, state.attempts, state.worker, run.name, state.chunks, "
    "state.attempt, (SELECT coalesce(sum(length(body)), 0) FROM output WHERE output.seq = run.seq) "
    "FROM run JOIN state USING (seq) WHERE"
)

_IS_OUTPUT = "substr(output.body, 1, 1) != x'00'"  # other chunks hold values that were yielded

_PAST = (
    "SELECT state.seq, run.id, state.state, state.at, length(run.args) + length(run.parameters) "
    "+ length(state.history) + length(state.attempts) "
    "+ coalesce((SELECT length(value) FROM result WHERE result.seq = state.seq), 0) "
    "+ coalesce((SELECT sum(length(body)) FROM output WHERE output.seq = state.seq), 0) "
    f"+ {OVERHEAD_BYTES}, spec.key, substr(run.args, 1, {REFERENCE_BYTES_MAX}), "
    f"(SELECT substr(value, 1, {REFERENCE_BYTES_MAX}) FROM result WHERE result.seq = state.seq) "
    "FROM state JOIN run USING (seq) JOIN spec USING (spec) "
    "WHERE state.seq > ? AND state.seq <= ? "
    # the plus: in the order of arrival, not of an index
    f"AND +state.state IN ({rows.marks(rows.ENDED)}) AND (state.at < ? OR ?) ORDER BY state.seq LIMIT ?"
)


class PastPage(NamedTuple):
    """A part of what is over."""

    past: list[Past]
    more: int  # number to go on after; 0: that was all
    excess_bytes: int  # by which the journal is too large


class Ending(Piece, frozen=True):
    """How a run ended; `value` is None if it is larger than what is told with the final."""

    state: str
    message: str
    at: float
    value: bytes | None
    label: str = ""  # the user's name for the state


class Queries:
    """Answers from committed rows.

    Parameters
    ----------
    rows_max
        Bound on the rows of one listing.
    """

    def __init__(self, db: Readable, rows_max: int, blobs: Blobs) -> None:
        self.db = db
        self._blobs = blobs
        self._rows_max = rows_max
        self._specs = Specs(db)

    def answer(self, query: Any) -> Message:
        """What `query` asks for."""
        if isinstance(query, GetRuns):
            found, more = self.runs(query.filter)
            return Runs(query.request, tuple(found), more)
        if isinstance(query, GetRun):
            return RunFound(query.request, self.run(query.run))
        if isinstance(query, GetValue):
            value = self.value(query.run)
            return Value(query.request, value is not None, value or b"")
        if isinstance(query, GetCached):
            value = self.cached(query.key, time.time())
            return Value(query.request, value is not None, value or b"")
        if isinstance(query, GetCall):
            return self.call(query)
        if isinstance(query, GetYielded):
            return self.yielded(query, codec.BATCH_BYTES_MAX)
        assert isinstance(query, GetOutput), query
        chunks, more = self.chunks(query.run, query.after, codec.BATCH_BYTES_MAX)
        return OutputMessage(query.request, chunks, more)

    # -- one run ------------------------------------------------------------------------------------------

    def run(self, run: RunId) -> RunInfo | None:
        row = self.db.execute(f"{_INFO} run.id = ?", (run,)).fetchone()
        return self._info(row) if row else None

    def ending(self, run: RunId) -> Ending | None:
        """How a run ended; None if it is not recorded, or not final."""
        row = self.db.execute(
            "SELECT state.state, state.message, state.at, "
            "CASE WHEN length(result.value) <= ? THEN result.value END, "
            "result.seq IS NULL, state.history FROM run JOIN state USING (seq) LEFT JOIN result "
            "USING (seq) WHERE run.id = ?",
            (codec.INLINE_BYTES_MAX, run),
        ).fetchone()
        if row is None or row[0] in rows.LIVE:
            return None
        label = rows.history_of(row[5])[-1].label
        return Ending(row[0], row[1], row[2], b"" if row[4] else row[3], label)

    def value(self, run: RunId) -> bytes | None:
        """The pickled result or failure, however large; None if there is none."""
        row = self.db.execute(
            "SELECT result.value FROM run JOIN result USING (seq) WHERE run.id = ?", (run,)
        ).fetchone()
        return None if row is None else bytes(row[0])

    def cached(self, key: str, unix_s: float) -> bytes | None:
        """The pickled result that stands for this cache key; None if there is none."""
        row = self.db.execute(
            "SELECT result.value FROM cache JOIN result USING (seq) "
            "WHERE key = ? AND (expires = 0 OR expires > ?)",
            (key, unix_s),
        ).fetchone()
        return None if row is None else bytes(row[0])

    def refers(self, run: RunId, attempt: int) -> bool:
        """Whether a row refers to the blob of this attempt (0: of the arguments), or may come to."""
        row = self.db.execute(
            "SELECT state.state, result.value FROM run JOIN state USING (seq) LEFT JOIN result USING (seq) "
            "WHERE run.id = ?",
            (run,),
        ).fetchone()
        if row is None:
            return False
        return attempt == 0 or row[0] in rows.LIVE or f"{run}.{attempt}.".encode() in bytes(row[1] or b"")

    def chunks(self, run: RunId, after: int, bytes_max: int) -> tuple[tuple[bytes, ...], int]:
        """Output of a run, all attempts one after the other.

        Returns
        -------
        The chunks behind the first `after`, at most `bytes_max` bytes of them but at least one, and the
        number to ask for more with; 0: these were the last.
        """
        cursor = self.db.execute(
            "SELECT output.body FROM run JOIN output USING (seq) WHERE run.id = ? "
            f"AND {_IS_OUTPUT} ORDER BY output.attempt, output.number LIMIT -1 OFFSET ?",
            (run, max(0, after)),
        )
        found: list[bytes] = []
        size = 0
        for (body,) in cursor:
            size += len(body)
            if found and size > bytes_max:
                cursor.close()
                return tuple(found), max(0, after) + len(found)
            found.append(bytes(body))
        return tuple(found), 0

    def call(self, query: GetCall) -> CallFound:
        """A run as it was submitted."""
        row = self.db.execute(
            "SELECT seq, spec, args, parameters, name, cache_key, priority FROM run WHERE id = ?",
            (query.run,),
        ).fetchone()
        if row is None:
            return CallFound(query.request, None)
        seq, key, args, *others = row
        spec = self._specs.of(key)
        code = self.db.execute("SELECT body FROM code WHERE digest = ?", (spec.code,)).fetchone()
        needs = self.db.execute("SELECT run, tolerant FROM need WHERE seq = ?", (seq,))
        parameters, name, cache_key, priority = others
        return CallFound(
            query.request, spec, bytes(code[0]) if code else b"", bytes(args), parameters,
            tuple(Need(run, bool(tolerant)) for run, tolerant in needs), name, cache_key, priority,
        )  # fmt: skip

    def yielded(self, query: GetYielded, bytes_max: int) -> YieldedFound:
        """Chunks of values of the newest attempt, at most `bytes_max` bytes of them but at least one."""
        row = self.db.execute(
            "SELECT state.seq, state.state, state.attempt FROM run JOIN state USING (seq) WHERE run.id = ?",
            (query.run,),
        ).fetchone()
        if row is None:
            return YieldedFound(query.request, 0, (), 0, live=False)
        seq, state, attempt = row
        upto = query.after if query.attempt == attempt else 0
        cursor = self.db.execute(
            "SELECT number, body FROM output WHERE seq = ? AND attempt = ? AND number > ? "
            f"AND NOT {_IS_OUTPUT} ORDER BY number",
            (seq, attempt, upto),
        )
        found: list[bytes] = []
        size = 0
        for number, body in cursor:
            size += len(body)
            if found and size > bytes_max:
                cursor.close()
                break
            found.append(bytes(body))
            upto = number
        return YieldedFound(query.request, attempt, tuple(found), upto, live=state in rows.LIVE)

    # -- what may leave -----------------------------------------------------------------------------------

    def past(self, after: int, ended_before: float, bytes_max: int | None) -> PastPage:
        """Final runs that arrived after number `after`, oldest first.

        Parameters
        ----------
        ended_before
            Later ones are left out, unless the journal has more than `bytes_max` bytes.
        """
        used = self._used_bytes()
        excess = max(0, used - bytes_max) if bytes_max is not None else 0
        (most,) = self.db.execute("SELECT coalesce(max(seq), 0) FROM run").fetchone()
        found: list[Past] = []
        ends_s = time.monotonic() + LISTING_S
        while after < most and len(found) < PAST_ROWS and time.monotonic() < ends_s:
            limit = PAST_ROWS - len(found)
            page = self.db.execute(
                _PAST, (after, after + WINDOW_ROWS, *rows.ENDED, ended_before, bool(excess), limit)
            ).fetchall()
            found += [_past(*row) for row in page]
            after = page[-1][0] if len(page) == limit else after + WINDOW_ROWS
        return PastPage(found, after if after < most else 0, excess)

    def _used_bytes(self) -> int:
        """What the file holds, without its free pages, and the files of large values."""
        (size,) = self.db.execute("PRAGMA page_size").fetchone()
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        (free,) = self.db.execute("PRAGMA freelist_count").fetchone()
        return int(size * (pages - free)) + self._blobs.used_bytes()

    def unused_specs(self) -> tuple[int, list[str]]:
        """Specs that no run has, and up to which sequence number that was looked at."""
        specs = dict(self.db.execute("SELECT spec, id FROM spec"))
        least, most = self.db.execute(
            "SELECT (SELECT coalesce(min(seq), 1) FROM run), (SELECT coalesce(max(seq), 0) FROM run)"
        ).fetchone()
        for first in range(least, most + 1, WINDOW_ROWS):
            window = (first, min(first + WINDOW_ROWS - 1, most))
            for (key,) in self.db.execute("SELECT DISTINCT spec FROM run WHERE seq BETWEEN ? AND ?", window):
                specs.pop(key, None)
        return most, list(specs.values())[:SPECS_AT_ONCE]

    # -- for a board --------------------------------------------------------------------------------------

    def finals_by_task(self, first: int, last: int) -> list[tuple[Spec, str, int]]:
        """Final runs with these sequence numbers, as (spec, state type, number of runs)."""
        found = self.db.execute(
            "SELECT run.spec, state.state, count(*) FROM state CROSS JOIN run USING (seq) "
            "WHERE state.seq BETWEEN ? AND ? GROUP BY run.spec, state.state",
            (first, last),
        ).fetchall()
        return [(self._specs.of(key), TYPES[State(s)].value, n) for key, s, n in found if s in rows.ENDED]

    # -- many runs ----------------------------------------------------------------------------------------

    def runs(self, wanted: RunFilter) -> tuple[list[RunInfo], int]:
        """Runs that match, newest first, and what to pass as `before` for more; 0: these were the last."""
        limit = max(1, min(wanted.limit, self._rows_max))
        condition, values = _condition(wanted)
        least, most = self.db.execute(
            "SELECT (SELECT coalesce(min(seq), 1) FROM run), (SELECT coalesce(max(seq), 0) FROM run)"
        ).fetchone()
        before = min(wanted.before or most + 1, most + 1)
        found: list[tuple[int, RunInfo]] = []
        ends_s = time.monotonic() + LISTING_S
        while before > least and len(found) <= limit:
            if time.monotonic() > ends_s:
                return [info for _, info in found], before
            first = max(least, before - WINDOW_ROWS)
            cursor = self.db.execute(
                f"{_INFO} {condition} state.seq >= ? AND state.seq < ? ORDER BY state.seq DESC LIMIT ?",
                [*values, first, before, limit + 1 - len(found)],
            )
            found += [(row[0], self._info(row)) for row in cursor]
            before = first
        more = found[limit - 1][0] if len(found) > limit else 0
        return [info for _, info in found[:limit]], more

    def _info(self, row: tuple[Any, ...]) -> RunInfo:
        _, run, key, submitted, parameters, parent, state, message, at, history, attempts, worker, *rest = row
        name, chunks, attempt, size = rest
        return RunInfo(
            run=run,
            spec=self._specs.of(key),
            submitted=submitted,
            parameters=parameters,
            parent=parent,
            state=state,
            message=message,
            at=at,
            history=rows.history_of(history),
            attempts=rows.attempts_of(attempts),
            worker=worker,
            output_bytes=size,
            own_name=name,
            chunks=chunks,
            attempt=attempt,
        )


def _past(
    seq: int, run: RunId, state: str, ended: float, size: int, key: str, args: bytes, value: bytes | None
) -> Past:
    references = (reference_of(bytes(body)) for body in (args, value or b""))
    return Past(seq, run, state, ended, size + sum(found.size for found in references if found), key)


def _condition(wanted: RunFilter) -> tuple[str, list[Any]]:
    """What a run must fulfil, as the beginning of a WHERE clause, and its values."""
    conditions: list[str] = []
    values: list[Any] = []
    if wanted.states:
        names = _state_names(wanted.states)
        # the plus keeps SQLite from sorting all finished runs to find the newest
        plus = "+" if len(names) > 1 and not set(names) <= set(rows.LIVE) else ""
        conditions.append(f"{plus}state.state IN ({rows.marks(names)})")
        values += names
    if wanted.key:
        conditions.append("run.spec IN (SELECT spec FROM spec WHERE key = ? OR name = ?)")
        values += [wanted.key, wanted.key]
    if wanted.tag:
        conditions.append("run.spec IN (SELECT spec FROM spec WHERE instr(tags, ?))")
        values.append(rows.text(wanted.tag))
    return "".join(f"{condition} AND " for condition in conditions), values


def _state_names(wanted: Iterable[str]) -> list[str]:
    """Names of states from names and types."""
    names = set(wanted)
    return [state.value for state in State if state.value in names or TYPES[state].value in names]
