"""What one client observes: the newest that it heard of the board and of single runs, and when it asks.

An event is believed if it is newer than what is known. Events may be lost, the first and the last
one too, so whatever has been silent for a while is asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Union

import msgspec

from nbtasks.core.events import age, changed_of_info, is_final
from nbtasks.core.messages import (
    Board,
    BoardChanged,
    BoardFound,
    GetBoard,
    GetRun,
    Message,
    RunChanged,
    RunFound,
    RunId,
)
from nbtasks.core.records import Now, Piece

SILENT_S = 2.0  # without news, before the broker is asked; doubled up to SILENT_S_MAX while there are none
SILENT_S_MAX = 10.0
BOARD_NAME = ""  # among the names of runs


class BoardSeen(Piece, frozen=True):
    board: Board


class RunSeen(Piece, frozen=True):
    run: RunChanged


Seen = Union[BoardSeen, RunSeen]


class _Subject(msgspec.Struct):
    """The board, or a run."""

    ask_at: float  # mono seconds
    pause_s: float = SILENT_S
    request: int = 0  # the question that is not answered; 0: none
    seen: Union[Board, RunChanged, None] = None


class Observer:
    """Subjects by name: the id of a run, or `BOARD_NAME`."""

    def __init__(self) -> None:
        self._subjects: dict[RunId, _Subject] = {}
        self._asked: dict[int, RunId] = {}  # by request

    def __len__(self) -> int:
        return len(self._subjects)

    def observe(self, name: RunId, now: Now) -> None:
        """Ask at once, then listen; again for each that looks, as there may be no news that would tell it."""
        subject = self._subjects.setdefault(name, _Subject(now.mono_s))
        subject.ask_at, subject.pause_s, subject.seen = now.mono_s, SILENT_S, None

    def forget(self, name: RunId) -> int:
        """Nobody looks any more; returns the number of a question that needs no answer now, or 0."""
        subject = self._subjects.pop(name, None)
        if subject is None or not subject.request:
            return 0
        self._asked.pop(subject.request, None)
        return subject.request

    def restarted(self, now: Now) -> None:
        """Another broker is there, or we were cut off: what happened meanwhile was not heard."""
        for subject in self._subjects.values():
            # whoever looks is told again, also that nothing changed
            subject.ask_at, subject.pause_s, subject.seen = now.mono_s, SILENT_S, None

    # -- news ------------------------------------------------------------------------------------------

    def heard(self, message: BoardChanged | RunChanged, boot: str, now: Now) -> Seen | None:
        """An event; None if it is old, or about nothing that is observed.

        Parameters
        ----------
        boot
            Of the broker that we talk to; events of a former one may still be under way.
        """
        if isinstance(message, BoardChanged):
            subject = self._subjects.get(BOARD_NAME)
            if subject is None or message.board.boot != boot or not _is_newer(message.board, subject.seen, 1):
                return None
            return self._believe(subject, message.board, now)
        subject = self._subjects.get(message.run)
        if subject is None or not _is_later(message, subject.seen):
            return None
        return self._believe(subject, message, now)

    def takes(self, request: int) -> bool:
        """Whether this question is ours."""
        return request in self._asked

    def answered(self, request: int, message: Message, boot: str, now: Now) -> Seen | None:
        """A snapshot; None if it tells nothing new."""
        subject = self._subjects[self._asked.pop(request)]
        subject.request = 0
        found: Union[Board, RunChanged, None] = None
        if isinstance(message, BoardFound):
            is_news = message.board.boot == boot and _is_newer(message.board, subject.seen, 0)
            found = message.board if is_news else None
        elif isinstance(message, RunFound) and message.row is not None:
            told = changed_of_info(message.row)
            # its message may say meanwhile why it waits
            found = told if _is_later(told, subject.seen, or_same=True) else None
        if found is None or found == subject.seen:
            subject.pause_s = min(2 * subject.pause_s, SILENT_S_MAX)
            subject.ask_at = now.mono_s + subject.pause_s
            return None
        return self._believe(subject, found, now)

    def _believe(self, subject: _Subject, news: Board | RunChanged, now: Now) -> Seen:
        subject.seen, subject.pause_s = news, SILENT_S
        subject.ask_at = now.mono_s + SILENT_S
        return BoardSeen(news) if isinstance(news, Board) else RunSeen(news)

    # -- questions -------------------------------------------------------------------------------------

    def questions(self, now: Now, number: Callable[[], int]) -> list[Message]:
        """What has to be asked now; `number` gives a fresh one for each."""
        asked: list[Message] = []
        for name, subject in self._subjects.items():
            if subject.ask_at > now.mono_s or subject.request or _is_over(subject):
                continue
            subject.request = number()
            self._asked[subject.request] = name
            asked.append(GetBoard(subject.request) if name == BOARD_NAME else GetRun(subject.request, name))
        return asked

    def wake_at(self) -> float | None:
        """When there is a question to be asked."""
        waiting = (s.ask_at for s in self._subjects.values() if not s.request and not _is_over(s))
        return min(waiting, default=None)


def _is_over(subject: _Subject) -> bool:
    return isinstance(subject.seen, RunChanged) and is_final(subject.seen.state)


def _is_newer(board: Board, seen: Board | RunChanged | None, least: int) -> bool:
    """Whether a board is newer by at least so many events; a snapshot may tell more than the last one."""
    return not isinstance(seen, Board) or seen.boot != board.boot or board.number >= seen.number + least


def _is_later(run: RunChanged, seen: Board | RunChanged | None, or_same: bool = False) -> bool:
    if not isinstance(seen, RunChanged) or age(run) > age(seen):
        return True
    return or_same and age(run) == age(seen)
