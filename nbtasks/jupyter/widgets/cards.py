"""What stands behind each widget: what was heard last, what it makes of it, what its buttons do.

A card hears in whatever thread listens, and marks itself; the writer's thread asks it for its data.
Once nothing can change any more it stops looking: the model stays for pages that are loaded again,
but holds no subscription.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from nbtasks import views
from nbtasks.client import Client
from nbtasks.client.observation import Observation
from nbtasks.core.events import changed_of_info, is_final, row_of_info
from nbtasks.core.messages import Board, BoardRow, RunChanged, RunFilter
from nbtasks.core.states import State
from nbtasks.errors import NbtasksError
from nbtasks.jupyter.widgets import faces, payloads
from nbtasks.jupyter.widgets.writer import Writer
from nbtasks.run import Run
from nbtasks.run.tally import Tally

GONE = "The broker is gone; what is shown may be old."
FILTER_CHARACTERS_MAX = 200
FOUND_S = 1.0  # between two looks for rows that fit a filter
FOUND_TASKS_MAX = 3  # tasks that are looked for because a word of the filter is in their names

log = logging.getLogger("nbtasks.widgets")


class Card:
    """Between a client and a face.

    Parameters
    ----------
    kind
        The class of its face.
    """

    kind: Callable[..., faces.Face]

    def __init__(self, client: Client, writer: Writer) -> None:
        self.client = client
        self._writer = writer
        self._observation: Observation | None = None
        self._is_closed = False
        self._asking: set[str] = set()  # what was asked for and is not answered
        self.face: faces.Face | None = None

    def _show(self) -> None:
        """Everything is known that the first look needs. In the thread that displays: it opens the comm."""
        self.face = self.kind(self.data(), self._hear)

    @property
    def model_id(self) -> str:
        return str(self.face.model_id) if self.face else ""

    @property
    def is_watching(self) -> bool:
        return self._observation is not None and self._observation.is_open

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def data(self) -> dict[str, Any]:
        """What the face is to show now."""
        raise NotImplementedError

    def is_settled(self) -> bool:
        """Whether nothing can change any more."""
        raise NotImplementedError

    def changed(self) -> None:
        if self.face is not None and not self._is_closed:
            self._writer.mark(self)

    def write(self) -> None:
        """Send what is new; called by the writer alone."""
        if self._is_closed or self.face is None:
            return
        is_settled = self.is_settled()
        self.face.value = self.data()
        if is_settled:
            self.settle()

    def settle(self) -> None:
        """Look no more."""
        if self._observation is not None:
            self._observation.close()
        self._writer.forget(self)

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self.settle()
            if self.face is not None:
                self.face.close()

    # -- buttons ------------------------------------------------------------------------------------------

    def _hear(self, content: dict[str, Any]) -> None:
        """A message of the page; it may come twice, late, in any thread, and it may be nonsense."""
        raise NotImplementedError

    def _cancel(self, runs: Sequence[str]) -> None:
        """Ask the broker, but wait for it elsewhere: the thread that tells of a click must not be held up."""
        wanted = [run for run in runs if run not in self._asking]
        if wanted and not self._is_closed:
            self._asking.update(wanted)
            asking = threading.Thread(target=self._ask_to_cancel, args=(wanted,), name="nbtasks-cancel")
            asking.daemon = True
            asking.start()

    def _ask_to_cancel(self, runs: list[str]) -> None:
        try:
            self.client.cancel(runs)
        except NbtasksError as error:
            log.warning("cancelling from a widget failed: %s", error)
        finally:
            self._asking.difference_update(runs)


class RunCard(Card):
    """One run that had not ended when it was displayed."""

    kind = faces.RunFace

    def __init__(self, client: Client, writer: Writer, run: Run) -> None:
        super().__init__(client, writer)
        self._run, self._name = run._run, run.name
        self._call = views.call_of(run.name, run.parameters.items())
        self._seen = changed_of_info(client.info(run._run))
        self._note = ""
        self._show()
        if not self.is_settled():
            self._observation = client.observe_run(self._run, self._look)

    def _look(self, seen: RunChanged | None) -> None:
        self._note = "" if seen else GONE
        self._seen = seen or self._seen
        self.changed()

    def data(self) -> dict[str, Any]:
        return payloads.run(self._seen, self._name, self._call, time.time(), self._note)

    def is_settled(self) -> bool:
        return is_final(self._seen.state)

    def _hear(self, content: dict[str, Any]) -> None:
        if content.get("do") == "cancel" and not self.is_settled():
            self._cancel([self._run])


class ListCard(Card):
    """The runs of a map: endings are counted one by one, what runs is known from the board."""

    kind = faces.ListFace

    def __init__(self, client: Client, writer: Writer, runs: Sequence[Run]) -> None:
        super().__init__(client, writer)
        names = {run.name for run in runs}
        self._name = names.pop() if len(names) == 1 else ""
        self._ids = frozenset(run._run for run in runs)
        self._submitted_s = min(map(_made_s, self._ids), default=0.0)
        self._ended_s = 0.0
        self._running = 0
        self._note = ""
        self._tally = Tally(runs, self.changed)
        self._show()
        if not self.is_settled():
            self._observation = client.observe_board(self._look)
        self.changed()  # the last may have ended just before there was a face

    def _look(self, seen: Board | None) -> None:
        self._note = "" if seen else GONE
        if seen is not None:
            self._running = sum(worker.run in self._ids for worker in seen.workers if worker.run)
        self.changed()

    def data(self) -> dict[str, Any]:
        tally, now_s = self._tally, time.time()
        if not tally.left and not self._ended_s:
            self._ended_s = now_s
        times = (self._submitted_s, self._ended_s)
        return payloads.runs(
            self._name, dict(tally.ended), self._running, tally.total, times, now_s, self._note
        )

    def is_settled(self) -> bool:
        return not self._tally.left

    def settle(self) -> None:
        super().settle()
        self._tally.close()

    def _hear(self, content: dict[str, Any]) -> None:
        if content.get("do") == "cancel":
            self._cancel(self._tally.open_ids())


class BoardCard(Card):
    """The board of a broker; it is watched until it is closed."""

    kind = faces.BoardFace

    def __init__(self, client: Client, writer: Writer, subject: object = None) -> None:
        super().__init__(client, writer)
        self._seen: Board | None = None
        self._note = ""
        self._filter = ""
        self._found: list[BoardRow] | None = None
        self._found_for, self._found_s = "", 0.0
        self._show()
        self._observation = client.observe_board(self._look)

    def _look(self, seen: Board | None) -> None:
        self._note = "" if seen else GONE
        self._seen = seen or self._seen
        self.changed()

    def write(self) -> None:
        self._find()
        super().write()

    def data(self) -> dict[str, Any]:
        return payloads.board(self._seen, time.time(), self._note, self._found_for, self._found)

    def is_settled(self) -> bool:
        return False

    def _hear(self, content: dict[str, Any]) -> None:
        if content.get("do") == "filter" and isinstance(text := content.get("text"), str):
            self._filter = text[:FILTER_CHARACTERS_MAX]
            self.changed()
        elif content.get("do") == "cancel" and isinstance(run := content.get("run"), str):
            rows = [*(self._found or ()), *(self._seen.rows if self._seen else ())]
            self._cancel([row.run for row in rows if row.run == run][:1])

    # -- the filter ---------------------------------------------------------------------------------------

    def _find(self) -> None:
        """Look for the runs that fit the filter, also those that no event tells of; now and then."""
        wanted, now_s = self._filter, time.monotonic()
        if not wanted.strip() or self._note:
            self._found, self._found_for = None, ""
            return
        if wanted == self._found_for and now_s < self._found_s + FOUND_S:
            return
        try:
            self._found = find(self.client, wanted, self._seen)
        except NbtasksError:
            return  # the page goes on filtering what it has
        self._found_for, self._found_s = wanted, now_s


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


def _made_s(run: str) -> float:
    """When the id was made (UNIX seconds): the first 48 bits of a UUIDv7 tell."""
    return (UUID(run).int >> 80) / 1000
