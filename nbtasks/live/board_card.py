"""The board of a broker: what is heard of it, the filter, and the run that is unfolded.

Only one run is looked at closely at a time, so a board costs the same however many there are.
"""

from __future__ import annotations

import time
from typing import Any

from nbtasks.client import Client
from nbtasks.client.observation import Observation
from nbtasks.core.events import is_final
from nbtasks.core.messages import Board, BoardRow, RunChanged, RunId, RunInfo
from nbtasks.errors import NbtasksError
from nbtasks.live import payloads
from nbtasks.live.cards import GONE, Card, MakeFace
from nbtasks.live.feed import Feed
from nbtasks.live.find import find
from nbtasks.live.writer import Writer

FILTER_CHARACTERS_MAX = 200
FOUND_S = 1.0  # between two looks for rows that fit a filter
DETAIL_TAIL_BYTES = 6000


class Unfolded:
    """The run below whose line its detail is shown."""

    def __init__(self, client: Client, run: RunId) -> None:
        self.run = run
        self._client = client
        self._feed = Feed(client, run, DETAIL_TAIL_BYTES, picture_bytes=0)
        self._info: RunInfo | None = None
        self._problem = ""
        self._is_stale = True
        self.observation: Observation | None = None

    def look(self, _: RunChanged | None) -> None:
        self._is_stale = True

    def detail(self, is_gone: bool) -> payloads.Data:
        """What is known now; in the writer's thread. A broker that is gone is not asked."""
        if self._is_stale and not is_gone:
            self._is_stale = False
            self._read()
        if self._info is None:
            return {"id": self.run, "note": self._problem}
        return payloads.detail(self._info, self._feed.tail)

    def _read(self) -> None:
        try:
            self._info = self._client.info(self.run)
            self._feed.read((len(self._info.attempts), self._info.chunks, is_final(self._info.state)))
        except NbtasksError as error:
            self._problem = str(error)
            return
        if is_final(self._info.state):
            self.close()

    def close(self) -> None:
        if self.observation is not None:
            self.observation.close()


class BoardCard(Card):
    """The board of a broker; it is watched until it is closed."""

    kind = "board"

    def __init__(self, client: Client, writer: Writer, make_face: MakeFace, subject: object = None) -> None:
        super().__init__(client, writer, make_face)
        self._seen: Board | None = None
        self._filter = ""
        self._found: list[BoardRow] | None = None
        self._found_for, self._found_s = "", 0.0
        self._wanted: RunId = ""  # the run that is to be unfolded
        self._unfolded: Unfolded | None = None
        self._detail: payloads.Data = {}
        self._show()
        self._observation = client.observe_board(self._look)

    def _look(self, seen: Board | None) -> None:
        self._note = "" if seen else GONE
        self._seen = seen or self._seen
        self.changed()

    def write(self) -> None:
        self._find()
        self._unfold()
        super().write()

    def close(self) -> None:
        super().close()
        if self._unfolded is not None:
            self._unfolded.close()

    def data(self) -> dict[str, Any]:
        return payloads.board(self._seen, time.time(), self.note, self._found_for, self._found)

    def seldom(self) -> dict[str, Any]:
        return {"detail": self._detail}

    def is_settled(self) -> bool:
        return False

    def _hear(self, content: dict[str, Any], token: str) -> None:
        if content.get("do") == "filter" and isinstance(text := content.get("text"), str):
            self._filter = text[:FILTER_CHARACTERS_MAX]
            self.changed()
        elif content.get("do") in ("cancel", "unfold") and isinstance(run := content.get("run"), str):
            rows = [*(self._found or ()), *(self._seen.rows if self._seen else ())]
            named = [row.run for row in rows if row.run == run][:1]
            if content["do"] == "unfold":
                self._wanted = "".join(named)
                self.changed()
            elif named:
                self._cancel(token, named)
            else:
                self._decline(token, "This run is not on the board any more.")

    # -- the run that is unfolded ---------------------------------------------------------------------------

    def _unfold(self) -> None:
        wanted, unfolded = self._wanted, self._unfolded
        if unfolded is not None and unfolded.run != wanted:
            unfolded.close()
            unfolded = self._unfolded = None
        if unfolded is None and wanted:
            unfolded = self._unfolded = Unfolded(self.client, wanted)
            unfolded.observation = self._watch(unfolded)
        self._detail = unfolded.detail(bool(self._note)) if unfolded is not None else {}

    def _watch(self, unfolded: Unfolded) -> Observation | None:
        def look(seen: RunChanged | None) -> None:
            unfolded.look(seen)
            self.changed()

        try:
            return self.client.observe_run(unfolded.run, look)
        except NbtasksError:
            return None  # what is recorded is shown all the same, if it can be had

    # -- the filter ---------------------------------------------------------------------------------------

    def _find(self) -> None:
        """Look for the runs that fit the filter, also those that no event tells of; now and then."""
        wanted, now_s = self._filter, time.monotonic()
        if not wanted.strip() or self._note:
            self._found, self._found_for = None, ""
            return
        if wanted == self._found_for and now_s < self._found_s + FOUND_S:
            self.changed()  # what has changed since the last look is seen by the next, which may be the last
            return
        try:
            self._found = find(self.client, wanted, self._seen)
        except NbtasksError:
            return  # the page goes on filtering what it has
        self._found_for, self._found_s = wanted, now_s
