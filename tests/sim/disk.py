"""The journal of a simulated home: what was committed, and nothing else, survives the broker."""

from __future__ import annotations

from copy import copy

from nbtasks.core import events
from nbtasks.core.messages import (
    BoardRow,
    Ended,
    GetYielded,
    Given,
    Message,
    Missing,
    PeerId,
    Push,
    RunFound,
    RunId,
    RunInfo,
    Spec,
    Subject,
    Value,
    YieldedFound,
)
from nbtasks.core.messages import Output as OutputMessage
from nbtasks.core.records import Holding, Limit, Look, Output, PeerRecord, PushRun, RunRecord, TellEnd
from nbtasks.core.states import StateType
from nbtasks.core.streams import holds_values


class Disk:
    """Rows as they stand. What comes in and goes out is copied."""

    def __init__(self) -> None:
        self.rows: dict[RunId, RunRecord] = {}
        self.live: dict[RunId, RunRecord] = {}
        self.counts: dict[str, int] = {str(t): 0 for t in StateType}
        self.last_seq = 0
        self.specs: dict[str, bytes] = {}  # id -> code
        self.args: dict[RunId, bytes] = {}
        self.values: dict[int, bytes] = {}
        self.chunks: dict[tuple[int, int], dict[int, bytes]] = {}
        self.peers: dict[PeerId, PeerRecord] = {}
        self.keys: dict[tuple[str, str], RunId] = {}
        self.limits: dict[str, Limit] = {}
        self.holdings: dict[str, Holding] = {}
        self.caches: dict[str, tuple[int, float]] = {}  # key -> seq, until when (UNIX seconds; 0: for ever)
        self.removed: dict[RunId, RunRecord] = {}

    def commit(self, output: Output) -> None:
        for spec_id, _, code in output.specs:
            self.specs.setdefault(spec_id, code)
        for new in output.new:
            self.args[new.record.run] = new.args
            self.last_seq = max(self.last_seq, new.record.seq)
            self._put(new.record)
        for row in output.changed.values():
            self._put(row)
        numbers = {new.record.seq: new.record.run for new in output.new}
        for task, key, seq in output.keys:
            assert (task, key) not in self.keys, f"{key} of {task} is taken"
            self.keys[task, key] = numbers[seq]
        self.values.update(output.values)
        for seq, source in output.copies:
            self.values[seq] = self.values[source]
        for key, seq, expires in output.caches:
            self.caches[key] = seq, expires
        for seq, attempt, number, body in output.chunks:
            self.chunks.setdefault((seq, attempt), {})[number] = body
        for past in output.removed:
            row = self.rows.pop(past.run)
            self.counts[row.state.type.value] -= 1
            self.values.pop(row.seq, None)
            for key in [key for key in self.chunks if key[0] == row.seq]:
                del self.chunks[key]
            self.removed[past.run] = row
            self.keys = {key: run for key, run in self.keys.items() if run != past.run}
        for name, limit in output.limits.items():
            self.limits.pop(name, None)
            if limit is not None:
                self.limits[name] = limit
        for token, holding in output.holdings.items():
            self.holdings.pop(token, None)
            if holding is not None:
                self.holdings[token] = holding
        for peer, record in output.peers.items():
            if record is None:
                self.peers.pop(peer, None)
            else:
                self.peers[peer] = copy(record)

    def _put(self, row: RunRecord) -> None:
        if old := self.rows.get(row.run):
            self.counts[old.state.type.value] -= 1
        self.counts[row.state.type.value] += 1
        self.rows[row.run] = kept = copy(row)
        if kept.is_final:
            self.live.pop(row.run, None)
        else:
            self.live[row.run] = kept

    # -- reading ---------------------------------------------------------------------------------------

    def live_rows(self) -> list[RunRecord]:
        return [copy(row) for row in sorted(self.live.values(), key=lambda row: row.seq)]

    def push(self, item: PushRun) -> Push:
        r = item.record
        code, args = self.specs[r.spec_id], self.args[r.parent if r.spec.hook else r.run]
        given = tuple(
            Given(need.run, row.state.value, row.message, self.values.get(row.seq, b""))
            for need in r.terms.needs
            for row in (self.rows[need.run],)
        )
        return Push(
            r.run,
            r.attempt,
            len(r.attempts) + 1,
            r.spec,
            code,
            args,
            r.parent,
            given,
            r.failures,
            self._subject(r),
            r.terms.name,
        )

    def _subject(self, row: RunRecord) -> Subject | None:
        if not row.spec.hook:
            return None
        of = self.rows[row.parent]
        given = Given(of.run, of.state.value, of.message, self.values.get(of.seq, b""))
        return Subject(of.run, of.name, len(of.attempts), of.at, given)

    def told(self, item: TellEnd) -> Message:
        row = self.rows.get(item.run)
        if row is None or not row.is_final:
            return Missing(item.session, item.number, item.run)
        value = self.values.get(row.seq, b"")
        label = row.history[-1].label
        return Ended(
            item.session, item.number, row.run, row.state.value, row.message, row.at, value, label=label
        )

    def keyed(self, task: str, key: str) -> RunId:
        return self.keys.get((task, key), "")

    def cached(self, key: str, unix_s: float) -> int:
        seq, expires = self.caches.get(key, (0, 0.0))
        return 0 if expires and expires <= unix_s else seq

    def final(self, run: RunId) -> str:
        row = self.rows.get(run)
        return row.state.value if row and row.is_final else ""

    def newest(self) -> list[BoardRow]:
        rows = sorted(self.rows.values(), key=lambda row: row.seq)
        return [events.row_of_record(row) for row in rows[-events.ROWS_MAX :]]

    def finals_by_task(self, first: int, last: int) -> list[tuple[Spec, str, int]]:
        rows = [row for row in self.rows.values() if first <= row.seq <= last and row.is_final]
        return [(row.spec, row.state.type.value, 1) for row in rows]

    def answer(self, look: Look) -> Message:
        """Answer a question, as far as the simulated clients ask any."""
        query = look.query
        row = self.rows.get(getattr(query, "run", ""))
        if type(query).__name__ == "GetValue":
            value = self.values.get(row.seq) if row else None
            return Value(query.request, value is not None, value or b"")
        if type(query).__name__ == "GetOutput":
            chunks = self.chunks.get((row.seq, row.attempt), {}) if row else {}
            return OutputMessage(query.request, tuple(chunks[n] for n in sorted(chunks)))
        if isinstance(query, GetYielded):
            return self._yielded(query, row)
        return RunFound(query.request, self._info(row) if row else None)

    def _yielded(self, query: GetYielded, row: RunRecord | None) -> YieldedFound:
        if row is None:
            return YieldedFound(query.request, 0, (), 0, live=False)
        after = query.after if query.attempt == row.attempt else 0
        chunks = self.chunks.get((row.seq, row.attempt), {})
        new = [n for n in sorted(chunks) if n > after and holds_values(chunks[n])][:2]
        bodies = tuple(chunks[n] for n in new)
        return YieldedFound(query.request, row.attempt, bodies, new[-1] if new else after, not row.is_final)

    def _info(self, row: RunRecord) -> RunInfo:
        return RunInfo(
            row.run, row.spec, row.submitted, "{}", row.parent, row.state.value, row.message, row.at,
            row.history, row.attempts, row.worker, own_name=row.terms.name, chunks=row.chunks,
            attempt=row.attempt,
        )  # fmt: skip
