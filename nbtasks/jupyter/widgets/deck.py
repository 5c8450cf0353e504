"""The cards of this process: one for each thing that is shown, however often it is displayed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from nbtasks.client import Client
from nbtasks.jupyter.widgets import faces
from nbtasks.live.board_card import BoardCard
from nbtasks.live.cards import Card, ListCard, MakeFace
from nbtasks.live.run_card import RunCard
from nbtasks.live.writer import Writer

WATCHING_MAX = 100  # cards that are live at a time; what is displayed beyond that is text and HTML
CARDS_MAX = 1000  # models that pages may load again; the oldest is closed for a new one

_KINDS: dict[str, Callable[[Client, Writer, MakeFace, Any], Card]] = {
    "run": RunCard,
    "list": ListCard,
    "board": BoardCard,
}


class Deck:
    """Makes cards, finds them again, and closes them."""

    def __init__(self) -> None:
        self.writer = Writer()
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._cards: dict[tuple[Any, ...], Card] = {}  # by what is shown, oldest first

    def card(self, kind: str, client: Client, subject: Any) -> Card | None:
        """The card of a subject; None if too many are live.

        Raises
        ------
        NbtasksError
            The broker does not tell anything.
        """
        key = _key(kind, client, subject)
        with self._lock:
            found = self._cards.get(key)
            if found is not None and not found.is_closed:
                if found.is_watching or found.is_settled():
                    return found
                # its client was closed and opened again: what hangs on the page stays as it is
                self._cards[(*key, found.model_id)] = self._cards.pop(key)
            if sum(card.is_watching for card in self._cards.values()) >= WATCHING_MAX:
                return None
            made = _KINDS[kind](client, self.writer, faces.face, subject)
            self._cards.pop(key, None)
            self._cards[key] = made
            old = next(iter(self._cards)) if len(self._cards) > CARDS_MAX else None
            closing = self._cards.pop(old) if old else None
        if closing is not None:
            closing.close()
        return made

    @property
    def cards(self) -> list[Card]:
        return list(self._cards.values())

    def close_all(self) -> None:
        with self._lock:
            cards, self._cards = self.cards, {}
        for card in cards:
            card.close()
        self.writer.stop()


def _key(kind: str, client: Client, subject: Any) -> tuple[Any, ...]:
    if kind == "run":
        return kind, id(client), subject._run
    if kind == "list":
        return kind, id(client), len(subject), hash(tuple(run._run for run in subject))
    return kind, id(client)


_deck: list[Deck] = []


def card(kind: str, client: Client, subject: Any) -> Card | None:
    """As `Deck.card`, on the deck of this process."""
    if not _deck or _deck[-1]._pid != os.getpid():
        _deck[:] = [Deck()]  # a forked child has no page
    return _deck[-1].card(kind, client, subject)


def close_all() -> None:
    for deck in _deck:
        deck.close_all()
    _deck.clear()
