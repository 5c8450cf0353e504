"""What stands behind each live face: what was heard last, what it makes of it, what its buttons do.

A face is what somebody looks at: the model of a widget, or a page at the other end of a websocket.

A card hears in whatever thread listens, and marks itself; the writer's thread asks it for its data.
Once nothing can change any more it stops looking: the model stays for pages that are loaded again,
but holds no subscription.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from uuid import UUID

from nbtasks import views
from nbtasks.client import Client
from nbtasks.client.observation import Observation
from nbtasks.core.messages import Board
from nbtasks.errors import NbtasksError
from nbtasks.live import payloads
from nbtasks.live.writer import Writer
from nbtasks.run import Run
from nbtasks.run.tally import Tally

GONE = "The broker is gone: what is shown may be old. The next call starts one, and so does %nbtasks start."
CLOSED = "This kernel has let go of the broker: what is shown stays as it was. Show it again in a new cell."
ANSWERS_MAX = 8  # newest ones; a page looks for its own
TOKEN_CHARACTERS_MAX = 40
REASON_CHARACTERS_MAX = 300

log = logging.getLogger("nbtasks.widgets")


class Face(Protocol):
    """What a card writes to, one piece of plain data per name; `value` is that of each update."""

    @property
    def model_id(self) -> Any: ...
    def hold_sync(self) -> AbstractContextManager[Any]:
        """What is set within is sent as one."""

    def set_trait(self, name: str, value: Any) -> None: ...
    def close(self) -> None: ...


# kind, first value, whom to tell what is clicked -> face
MakeFace = Callable[[str, dict[str, Any], Callable[[dict[str, Any]], object]], Face]


class Card:
    """Between a client and a face."""

    kind: str  # of the face: "run", "list", "board"

    def __init__(self, client: Client, writer: Writer, make_face: MakeFace) -> None:
        self.client = client
        self._writer = writer
        self._make_face = make_face
        self._observation: Observation | None = None
        self._is_closed = False
        self._note = ""  # GONE while there is no broker
        self._asking: dict[tuple[str, ...], list[str]] = {}  # what is asked for -> tokens of who asked
        self._lock = threading.Lock()  # over what was asked and answered
        self._answers: tuple[dict[str, str], ...] = ()
        self.face: Face | None = None

    def _show(self) -> None:
        """Everything is known that the first look needs. In the thread that displays: it opens the comm."""
        self.face = self._make_face(self.kind, self._value(), self.on_message)

    @property
    def model_id(self) -> str:
        return str(self.face.model_id) if self.face else ""

    @property
    def is_watching(self) -> bool:
        return self._observation is not None and self._observation.is_open

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def note(self) -> str:
        """Why what is shown may be old; "" if it is not."""
        # a kernel that ends closes its client first: the broker is well
        return CLOSED if self._note and not self.is_watching else self._note

    def data(self) -> dict[str, Any]:
        """What the face is to show now."""
        raise NotImplementedError

    def seldom(self) -> dict[str, Any]:
        """What has a trait of its own: it is sent only if it differs from what was sent."""
        return {}

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
        with self.face.hold_sync():
            self.face.set_trait("value", self._value())
            for name, value in self.seldom().items():
                if value != getattr(self.face, name):
                    self.face.set_trait(name, value)
        if is_settled:
            self.settle()

    def _value(self) -> dict[str, Any]:
        return {**self.data(), "answers": list(self._answers)}

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

    def on_message(self, content: dict[str, Any]) -> None:
        token = content.get("token", "")
        is_known = isinstance(token, str) and any(token == answer["token"] for answer in self._answers)
        if not is_known or not token:
            self._hear(content, token[:TOKEN_CHARACTERS_MAX] if isinstance(token, str) else "")

    def _hear(self, content: dict[str, Any], token: str) -> None:
        """A message of the page; it may come twice, late, in any thread, and it may be nonsense.

        Parameters
        ----------
        token
            Under which the page looks for an answer.
        """
        raise NotImplementedError

    def _ask(self, token: str, wanted: tuple[str, ...], what: Callable[[], str]) -> None:
        """Have `what` done elsewhere: the thread that tells of a click must not be held up.

        Parameters
        ----------
        wanted
            Names it: who asks for the same meanwhile gets the same answer.
        what
            Returns what there is to say of it; "": it is seen anyway.
        """
        with self._lock:
            if self._is_closed:
                return
            self._answer([token], "heard", "")
            if wanted in self._asking:
                self._asking[wanted].append(token)
                return
            self._asking[wanted] = [token]
        asking = threading.Thread(target=self._carry_out, args=(wanted, what), name=f"nbtasks-{wanted[0]}")
        asking.daemon = True
        asking.start()

    def _carry_out(self, wanted: tuple[str, ...], what: Callable[[], str]) -> None:
        try:
            status, text = "done", what()
        except (NbtasksError, ValueError, TimeoutError) as error:
            status, text = "refused", views.first_line(str(error))[:REASON_CHARACTERS_MAX]
            log.info("%s from a widget was refused: %s", wanted[0], error)
        with self._lock:
            self._answer(self._asking.pop(wanted), status, text)

    def _answer(self, tokens: Sequence[str], status: str, text: str) -> None:
        """Locked."""
        new = tuple({"token": token, "status": status, "text": text} for token in tokens if token)
        old = tuple(answer for answer in self._answers if answer["token"] not in tokens)
        self._answers = (*old, *new)[-ANSWERS_MAX:]
        self.changed()

    def _decline(self, token: str, reason: str) -> None:
        """What was clicked was true of an older state."""
        with self._lock:
            self._answer([token], "refused", reason)

    def _cancel(self, token: str, runs: Sequence[str]) -> None:
        def cancel() -> str:
            self.client.cancel(runs)
            return ""

        self._ask(token, ("cancel", *runs), cancel)


class ListCard(Card):
    """The runs of a map: endings are counted one by one, what runs is known from the board."""

    kind = "list"

    def __init__(self, client: Client, writer: Writer, make_face: MakeFace, runs: Sequence[Run]) -> None:
        super().__init__(client, writer, make_face)
        names = {run.name for run in runs}
        self._name = names.pop() if len(names) == 1 else ""
        self._ids = frozenset(run._run for run in runs)
        self._submitted_s = min(map(_made_s, self._ids), default=0.0)
        self._ended_s = 0.0
        self._running = 0
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
            self._name, dict(tally.ended), self._running, tally.total, times, now_s, self.note
        )

    def is_settled(self) -> bool:
        return not self._tally.left

    def settle(self) -> None:
        super().settle()
        self._tally.close()

    def _hear(self, content: dict[str, Any], token: str) -> None:
        if content.get("do") != "cancel" or self.is_settled():
            self._decline(token, "All have ended.")
        else:
            self._cancel(token, self._tally.open_ids())


def _made_s(run: str) -> float:
    """When the id was made (UNIX seconds): the first 48 bits of a UUIDv7 tell."""
    return (UUID(run).int >> 80) / 1000
