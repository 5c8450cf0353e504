"""What one page looks at: cards by the numbers that the page gave them, and what it says of them.

It gets `{"card": 3, "set": {name: value}}`, or `{"card": 3, "problem": text}` if nothing can be shown.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Union

import msgspec

from nbtasks import views
from nbtasks.errors import BrokerUnavailable, NbtasksError
from nbtasks.live.board_card import BoardCard
from nbtasks.live.cards import Card
from nbtasks.live.homes import digest
from nbtasks.live.run_card import RunCard
from nbtasks.web.source import Source

CARDS_MAX = 20  # of one page; it shows one or two at a time

Send = Callable[[dict[str, Any]], object]


class Show(msgspec.Struct, tag_field="do", tag="show"):
    """Draw this under the number from now on: the board, or a run."""

    card: int
    kind: str
    run: str = ""
    home: str = ""  # its digest; "": the one that is served


class Hide(msgspec.Struct, tag_field="do", tag="hide"):
    card: int


class Tell(msgspec.Struct, tag_field="do", tag="tell"):
    """What was clicked in a card."""

    card: int
    content: dict[str, Any]


_decode = msgspec.json.Decoder(Union[Show, Hide, Tell]).decode


class PageFace:
    """The face of a card in a page: what is set is sent, once per `hold_sync`."""

    def __init__(self, number: int, value: dict[str, Any], send: Send) -> None:
        self.model_id = number
        self.detail: dict[str, Any] = {}
        self.tail: dict[str, Any] = {}
        self.picture: dict[str, Any] = {}
        self.stack: dict[str, Any] = {}
        self._send = send
        self._news: dict[str, Any] = {}
        with self.hold_sync():
            self.set_trait("value", value)

    @contextmanager
    def hold_sync(self) -> Iterator[None]:
        yield
        news, self._news = self._news, {}
        if news:
            self._send({"card": self.model_id, "set": news})

    def set_trait(self, name: str, value: Any) -> None:
        setattr(self, name, value)
        self._news[name] = _as_json(value)

    def close(self) -> None:
        self._send = lambda message: None


class Session:
    """One page, from when it connects until it is closed.

    `hear` is called by one thread at a time; `close` may come meanwhile, by another.

    Parameters
    ----------
    send
        Takes a message for the page; called in any thread.
    """

    def __init__(self, source: Source, send: Send) -> None:
        self._source = source
        self._send = send
        self._stack = ExitStack()
        self._client = self._stack.enter_context(source.use())
        self._cards: dict[int, Card] = {}
        self._is_closed = False

    def hear(self, text: str | bytes) -> None:
        """A message of the page; nonsense is no error, for a page of another version may send it."""
        try:
            message = _decode(text)
        except msgspec.MsgspecError:
            return
        if isinstance(message, Show):
            self._show(message)
        elif isinstance(message, Hide):
            self._hide(message.card)
        elif card := self._cards.get(message.card):
            card.on_message(message.content)

    def close(self) -> None:
        self._is_closed = True
        for number in list(self._cards):
            self._hide(number)
        self._stack.close()

    def _show(self, wanted: Show) -> None:
        self._hide(wanted.card)
        try:
            if len(self._cards) >= CARDS_MAX:
                raise NbtasksError(f"a page looks at {CARDS_MAX} things at most")
            if wanted.home and wanted.home != digest(self._source.home):
                raise NbtasksError(f"this server shows the runs of {self._source.home}, not of that home")
            self._cards[wanted.card] = self._card(wanted)
            if self._is_closed:
                self._hide(wanted.card)  # nobody looks at what came too late
        except NbtasksError as error:
            is_lasting = not isinstance(error, BrokerUnavailable)
            text = views.first_line(str(error))
            self._send({"card": wanted.card, "problem": text, "lasting": is_lasting})

    def _card(self, wanted: Show) -> Card:
        def make_face(kind: str, value: dict[str, Any], hear: Any) -> PageFace:
            return PageFace(wanted.card, value, self._send)

        self._client.open()  # without a broker there is nothing to be drawn
        if wanted.kind == "board":
            return BoardCard(self._client, self._source.writer, make_face)
        if wanted.kind == "run":
            run = self._client.get_run(wanted.run)
            return RunCard(self._client, self._source.writer, make_face, run)
        raise NbtasksError(f"there is no {wanted.kind!r} to be shown")

    def _hide(self, number: int) -> None:
        if card := self._cards.pop(number, None):
            card.close()


def _as_json(value: Any) -> Any:
    """The bytes of a picture as text."""
    if isinstance(value, dict):
        return {key: _as_json(one) for key, one in value.items()}
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
