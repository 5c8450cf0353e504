"""One run: what is heard of it, the end of its output, its result; and the run that is called after it.

A card follows: once its run is called again by the button, it shows the new one and names the former.
"""

from __future__ import annotations

import time
from typing import Any

from nbtasks import views
from nbtasks.client import Client
from nbtasks.core.events import changed_of_info, is_final
from nbtasks.core.messages import RunChanged
from nbtasks.core.states import State
from nbtasks.errors import NbtasksError
from nbtasks.live import payloads
from nbtasks.live.cards import GONE, Card, MakeFace
from nbtasks.live.feed import Feed, result_of
from nbtasks.live.writer import Writer
from nbtasks.run import Run

STACK_CHARACTERS_MAX = 4000
PICTURE_PAUSE_S = 1.0  # between two pictures of one run: each may be a megabyte
UNREAD = "Its output cannot be read now; run.show() asks again."


class Followed:
    """A run, and what is known of it."""

    def __init__(self, client: Client, run: Run) -> None:
        self.run = run
        self.call = views.call_of(run.name, run.parameters.items())
        self.seen = changed_of_info(client.info(run._run))
        self.feed = Feed(client, run._run)
        self.stack: dict[str, Any] = {}
        self.result = ""
        self.is_read = False  # all of its output, and its result
        self.problem = ""

    @property
    def is_final(self) -> bool:
        return is_final(self.seen.state)

    def read(self) -> None:
        """Take in what there is now; in the writer's thread."""
        if self.is_read:
            return
        was_final = self.is_final
        try:
            self.feed.read((self.seen.attempts, self.seen.chunks, was_final))
            if was_final and self.seen.state == State.COMPLETED.value:
                self.result = result_of(self.run)
                self.feed.leave_out(self.result)
            self.problem = ""
        except NbtasksError:
            self.problem = UNREAD if was_final else ""
        if was_final:
            self.is_read = True
            self.stack = {}
            self.feed.end()


class RunCard(Card):
    """One run that had not ended when it was displayed."""

    kind = "run"

    def __init__(self, client: Client, writer: Writer, make_face: MakeFace, run: Run) -> None:
        super().__init__(client, writer, make_face)
        self._followed = Followed(client, run)
        self._former: payloads.Data = {}
        self._picture: payloads.Data = {}
        self._picture_s = -PICTURE_PAUSE_S
        self._show()
        if self._followed.is_final:
            self.changed()  # it ended just now: its output is still to be read
        else:
            self._watch(self._followed)

    def _watch(self, followed: Followed) -> None:
        def look(seen: RunChanged | None) -> None:
            if followed is self._followed:
                self._note = "" if seen else GONE
                followed.seen = seen or followed.seen
                self.changed()

        self._observation = self.client.observe_run(followed.run._run, look)

    def write(self) -> None:
        if not self._note:
            self._followed.read()  # asking a broker that is gone would start another
        super().write()

    def data(self) -> dict[str, Any]:
        followed = self._followed
        note = self.note or followed.problem or followed.feed.picture.get("note", "")
        value = payloads.run(followed.seen, followed.run.name, followed.call, time.time(), note)
        return {**value, "result": followed.result, "former": self._former or None}

    def seldom(self) -> dict[str, Any]:
        followed = self._followed
        return {"tail": followed.feed.tail, "picture": self._paced_picture(), "stack": followed.stack}

    def _paced_picture(self) -> payloads.Data:
        """The newest one, if the last has been looked at for long enough, or nothing can come after it."""
        followed, now_s = self._followed, self._writer.mono_s
        if followed.feed.picture != self._picture:
            if now_s < self._picture_s + PICTURE_PAUSE_S and not followed.is_read:
                self.changed()  # look again
            else:
                self._picture, self._picture_s = followed.feed.picture, now_s
        return self._picture

    def is_settled(self) -> bool:
        return self._followed.is_final and self._followed.is_read

    # -- buttons ------------------------------------------------------------------------------------------

    def _hear(self, content: dict[str, Any], token: str) -> None:
        followed, wanted = self._followed, content.get("do")
        if wanted == "cancel" and not followed.is_final:
            self._cancel(token, [followed.run._run])
        elif wanted == "stack" and not followed.is_final:
            self._ask(token, ("stack", followed.run._run), lambda: self._stack(followed))
        elif wanted == "rerun" and followed.is_final:
            self._ask(token, ("rerun", followed.run._run), lambda: self._rerun(followed))
        else:
            self._decline(token, f"It is {followed.seen.label or followed.seen.state} now.")

    def _stack(self, followed: Followed) -> str:
        text = str(followed.run.stack())
        followed.stack = {"text": text[-STACK_CHARACTERS_MAX:], "at": time.time()}
        return ""

    def _rerun(self, followed: Followed) -> str:
        new = Followed(self.client, followed.run.rerun())
        former = payloads.former(followed.seen, self._former.get("count", 0) + 1)
        with self._lock:
            if self._is_closed or followed is not self._followed:
                return ""
            self._former, self._followed = former, new
        self._watch(new)
        found = f"nbtasks.get_run({new.run._run!r})"
        return f"This is a new run: {found} gives it. Your variable still holds the former one."
