"""What observers hear of the board and of single runs, a few times a second, and only if they listen.

Every event tells the whole of its subject. A lost or late one is put right by the next, and after
silence the observer asks; so nothing here is repeated. While nobody observes, a change costs the
ledger one look at an attribute; while somebody does, a constant, whatever the number of runs.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from itertools import islice

from nbtasks.core.ledger import Ledger, Tally
from nbtasks.core.messages import (
    Attempt,
    Board,
    BoardChanged,
    BoardRow,
    BoardWorker,
    Moment,
    Progress,
    RunChanged,
    RunId,
    RunInfo,
    TaskCounts,
)
from nbtasks.core.records import Announce, Now, RunRecord
from nbtasks.core.staff import Staff
from nbtasks.core.states import FINAL, State, StateType
from nbtasks.core.timers import Timers

TICK_S = 0.25  # between two events of one topic
BOARD = "e/board/"
_RUN = "e/r/"
RUNS_MAX = 20_000  # that may be observed; who observes more has to ask
RUNS_PER_TICK_MAX = 1000  # changed runs that are told in one tick; the others wait for the next
TASKS_MAX = 30  # on a board; the others are summed
ROWS_MAX = 50
RUNNING_MAX = 20  # of these rows
FAILED_MAX = 10  # of these rows
WORKERS_MAX = 50
MESSAGE_CHARACTERS = 120

_LIVE = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
_FAILED = frozenset({State.FAILED, State.TIMED_OUT, State.CRASHED})
_FAILED_NAMES = frozenset(state.value for state in _FAILED)


def run_topic(run: RunId) -> str:
    return f"{_RUN}{run}/"


class Events:
    """Collects what changed, and tells it.

    Parameters
    ----------
    newest
        The committed rows that a board shows first, oldest first.
    """

    def __init__(
        self, boot: str, ledger: Ledger, staff: Staff, timers: Timers, newest: Callable[[], list[BoardRow]]
    ) -> None:
        self._boot = boot
        self._ledger = ledger
        self._staff = staff
        self._timers = timers
        self._newest = newest
        self._board_observers = 0
        self._run_observers: dict[RunId, int] = {}
        self._number = 0
        self._recent: dict[RunId, RunRecord | BoardRow] = {}  # what changed last, at the end
        self._failed: dict[RunId, RunRecord | BoardRow] = {}
        self._changed: dict[RunId, RunRecord] = {}  # observed runs that are still to be told
        self._is_board_changed = False
        self._next_s = 0.0  # mono, not before
        self._armed_s = 0.0  # mono, when a timer is set for

    # -- who listens -----------------------------------------------------------------------------------

    @property
    def is_board_observed(self) -> bool:
        return self._board_observers > 0

    def observed(self, topic: str, is_on: bool) -> None:
        """One more (or one less) observer of `topic`; one that we do not know has no events."""
        if topic == BOARD:
            self._board_observed(is_on)
        elif topic.startswith(_RUN):
            self._run_observed(topic[len(_RUN) : -1], is_on)
        is_observed = self._board_observers or self._run_observers
        self._ledger.observe = self._note if is_observed else None

    def _board_observed(self, is_on: bool) -> None:
        if is_on and not self._board_observers:
            self._begin()
        self._board_observers = max(0, self._board_observers + (1 if is_on else -1))

    def _run_observed(self, run: RunId, is_on: bool) -> None:
        known = self._run_observers.get(run, 0)
        if is_on and (known or len(self._run_observers) < RUNS_MAX):
            self._run_observers[run] = known + 1
        elif not is_on and known > 1:
            self._run_observers[run] = known - 1
        elif not is_on:
            self._run_observers.pop(run, None)
            self._changed.pop(run, None)

    def _begin(self) -> None:
        self._recent, self._failed = {}, {}
        for row in self._newest():
            self._remember(row.run, row, row.state in _FAILED_NAMES)
        out = self._ledger.out
        for record in [*(new.record for new in out.new), *out.changed.values()]:
            self._remember(record.run, record, record.state in _FAILED)  # the table does not know it yet
        self._is_board_changed = True

    # -- what changes ----------------------------------------------------------------------------------

    def changed(self) -> None:
        """Something on the board changed that is no run."""
        self._is_board_changed = True

    def _note(self, record: RunRecord) -> None:
        if self._board_observers:
            self._is_board_changed = True
            self._remember(record.run, record, record.state in _FAILED)
        if record.run in self._run_observers:
            self._changed[record.run] = record

    def _remember(self, run: RunId, item: RunRecord | BoardRow, is_failed: bool) -> None:
        for table, most in ((self._recent, ROWS_MAX), (self._failed, FAILED_MAX))[: 1 + is_failed]:
            table.pop(run, None)
            table[run] = item
            if len(table) > most:
                del table[next(iter(table))]
        if not is_failed:
            self._failed.pop(run, None)  # it was seen before, and runs again

    # -- telling ---------------------------------------------------------------------------------------

    def tick(self, now: Now) -> None:
        """Tell what changed, if it is time; once after each batch."""
        if self._ledger.observe is None:
            return
        if self._ledger.out.peers:
            self._is_board_changed = True
        if not (self._is_board_changed or self._changed):
            return
        if now.mono_s >= self._next_s:
            self._next_s = now.mono_s + TICK_S
            self._tell()
        if (self._is_board_changed or self._changed) and self._armed_s < self._next_s:
            self._armed_s = self._next_s
            self._timers.add(self._next_s, "events", None)

    def _tell(self) -> None:
        sends = self._ledger.out.sends
        if self._is_board_changed and self.is_board_observed:
            self._number += 1
            sends.append(Announce(BOARD, BoardChanged(self.board())))
        self._is_board_changed = False
        for run in list(islice(self._changed, RUNS_PER_TICK_MAX)):
            sends.append(Announce(run_topic(run), changed_of_record(self._changed.pop(run))))

    def board(self) -> Board:
        """The board as it stands."""
        if not self.is_board_observed:
            self._begin()
        ledger, seats = self._ledger, self._staff.seats
        workers = tuple(
            BoardWorker(
                seat.record.worker, seat.record.pid, seat.word, seat.running.run if seat.running else ""
            )
            for seat in islice(seats.values(), WORKERS_MAX)
        )
        tasks = tuple(_task_counts(list(ledger.tallies.values()), ledger.rest))
        return Board(
            self._boot, self._number, _nonzero(ledger.counts), tasks, self._rows(), workers, len(seats)
        )

    def _rows(self) -> tuple[BoardRow, ...]:
        chosen: dict[RunId, RunRecord | BoardRow] = {}
        for seat in self._staff.seats.values():
            if len(chosen) < RUNNING_MAX and (record := seat.running):
                chosen[record.run] = record
        for table in (self._failed, self._recent):
            for run, item in reversed(table.items()):
                if len(chosen) < ROWS_MAX:
                    chosen.setdefault(run, item)
        return tuple(item if isinstance(item, BoardRow) else row_of_record(item) for item in chosen.values())


def _nonzero(counts: dict[str, int]) -> dict[str, int]:
    return {kind: number for kind, number in counts.items() if number}


def _task_counts(tallies: list[Tally], rest: Tally) -> list[TaskCounts]:
    """The tasks with the most live runs, then with the most runs; the others as one."""

    def weight(tally: Tally) -> tuple[int, int]:
        return sum(tally.counts[t.value] for t in _LIVE), sum(tally.counts.values())

    named = [tally for tally in tallies if tally is not rest]
    if len(named) > TASKS_MAX:
        told = heapq.nlargest(TASKS_MAX, named, weight)
    else:
        told = sorted(named, key=weight, reverse=True)
    others: Counter[str] = Counter(rest.counts)
    if len(told) < len(named):
        keys = {tally.key for tally in told}
        for tally in named:
            if tally.key not in keys:
                others.update(tally.counts)
    found = [TaskCounts(tally.key, tally.name, _nonzero(tally.counts)) for tally in told]
    if any(others.values()):
        found.append(TaskCounts("", "", _nonzero(others)))
    return found


# -- a run in few bytes --------------------------------------------------------------------------------


def steps(run: RunRecord | RunInfo) -> int:
    """A number that grows with each change of a run that observers are told; read from its row alone."""
    told = (attempt.progress.number for attempt in run.attempts if attempt.progress)
    # an assignment is told of by nobody, but with it the chunks of output are counted anew
    return run.attempt + len(run.history) + sum(2 if a.end else 1 for a in run.attempts) + sum(told)


def _cut(message: str) -> str:
    line = message.strip().partition("\n")[0]
    return line if len(line) <= MESSAGE_CHARACTERS else line[: MESSAGE_CHARACTERS - 1] + "…"


def _times(attempts: tuple[Attempt, ...]) -> tuple[float, float, str, int]:
    """Start of the first attempt, end, worker and pid of the last one."""
    if not attempts:
        return 0.0, 0.0, "", 0
    return attempts[0].start, attempts[-1].end, attempts[-1].worker, attempts[-1].pid


def _progress(attempts: tuple[Attempt, ...]) -> Progress | None:
    return attempts[-1].progress if attempts else None


def _label(history: tuple[Moment, ...]) -> str:
    return history[-1].label if history else ""


def row_of_record(r: RunRecord) -> BoardRow:
    start, end, worker, pid = _times(r.attempts)
    return BoardRow(
        r.run, r.name, r.state.value, _cut(r.message), r.submitted, r.at, start, end, worker, pid,
        len(r.attempts), _label(r.history), _progress(r.attempts),
    )  # fmt: skip


def row_of_info(r: RunInfo) -> BoardRow:
    start, end, worker, pid = _times(r.attempts)
    return BoardRow(
        r.run, r.name, r.state, _cut(r.message), r.submitted, r.at, start, end, worker, pid,
        len(r.attempts), _label(r.history), _progress(r.attempts),
    )  # fmt: skip


def changed_of_record(r: RunRecord) -> RunChanged:
    return RunChanged(
        r.run, steps(r), r.state.value, _cut(r.message), r.submitted, r.at,
        *_times(r.attempts), len(r.attempts), _label(r.history), _progress(r.attempts), r.chunks,
    )  # fmt: skip


def changed_of_info(r: RunInfo) -> RunChanged:
    return RunChanged(
        r.run, steps(r), r.state, _cut(r.message), r.submitted, r.at,
        *_times(r.attempts), len(r.attempts), _label(r.history), _progress(r.attempts), r.chunks,
    )  # fmt: skip


def age(run: RunChanged) -> tuple[int, int]:
    """Grows with all that observers are told of a run; output is counted anew only after a step."""
    return run.steps, run.chunks


def is_final(state: str) -> bool:
    return State(state) in FINAL
