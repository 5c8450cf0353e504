"""From what the machine asks to be sent, to frames: payloads and rows are attached here, after the commit.

All messages for one peer on one channel leave in one frame. Pushes and finals are published on the
peer's topic; everything else goes back where the peer's frames come from. What has to be looked up and
can wait is read by the reader's thread, and leaves when it comes back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from nbtasks.broker.payloads import Payloads
from nbtasks.broker.queries import Ending, Queries
from nbtasks.broker.reader import Failed, Reader
from nbtasks.broker.rows import Damaged
from nbtasks.core import codec
from nbtasks.core.messages import (
    Ended,
    GetStatus,
    Given,
    Message,
    Missing,
    Need,
    NotDone,
    PeerId,
    Prune,
    Push,
    RunFound,
    RunId,
    RunInfo,
    Runs,
    Status,
    Subject,
)
from nbtasks.core.records import Announce, Look, Output, Publish, PushRun, RunRecord, Send, TellEnd
from nbtasks.wire.sockets import BROKER, topic_of

ROUTES_MAX = 20_000  # peers whose way back is remembered
GIVEN_BYTES_MAX = 2**20  # values of other runs that travel with one push
LARGE_PUSH_BYTES = 2**20
LARGE_PAUSE_S = (
    2.0  # before a large push is said again; doubled each time, because copies pile up in the queue
)

log = logging.getLogger("nbtasks.broker")


class Channels(Protocol):
    """What of `wire.broker_sockets.BrokerSockets` is needed here."""

    def send(self, route: bytes, frame: bytes) -> bool: ...

    def publish(self, topic: bytes, frame: bytes) -> None: ...


class Answers:
    """Sends what one pass of the loop has to say.

    Parameters
    ----------
    waiting_reason
        Why a queued run is not given to anybody.
    ending
        How a committed run ended; None if it is not recorded any more.
    info
        What is committed of a run.
    status
        Makes the answer to a GetStatus of this number.
    """

    def __init__(
        self,
        channels: Channels,
        reader: Reader,
        payloads: Payloads,
        *,
        waiting_reason: Callable[[RunId], str],
        ending: Callable[[RunId], Ending | None],
        info: Callable[[RunId], RunInfo | None],
        status: Callable[[int], Status],
    ) -> None:
        self._channels = channels
        self._reader = reader
        self._payloads = payloads
        self._waiting_reason = waiting_reason
        self._ending = ending
        self._info = info
        self._status = status
        self._routes: dict[PeerId, bytes] = {}
        self._large: dict[tuple[RunId, int], tuple[float, float]] = {}  # mono seconds of the next copy, pause
        self.prunes: list[tuple[PeerId, Prune]] = []  # wishes that somebody else fulfils
        self.damaged: list[RunRecord] = []  # assigned runs whose arguments cannot be read

    # -- ways back ----------------------------------------------------------------------------------------

    def learn(self, peer: PeerId, route: bytes) -> None:
        """A frame of `peer` came along `route`."""
        if self._routes.get(peer) != route:
            self._routes.pop(peer, None)
            self._routes[peer] = route
            if len(self._routes) > ROUTES_MAX:
                del self._routes[next(iter(self._routes))]

    def forget(self, peer: PeerId) -> None:
        self._routes.pop(peer, None)

    def subscribed(self) -> None:
        """Somebody connected anew: what was published before may be lost."""
        self._large.clear()

    # -- one pass -----------------------------------------------------------------------------------------

    def perform(self, output: Output, mono_s: float) -> None:
        """Send everything that `output` asks for; its rows are committed."""
        direct: dict[PeerId, list[Message]] = {}
        published: dict[PeerId, list[Message]] = {}
        endings = _Endings(output)
        unread: list[TellEnd] = []
        looks: list[Look] = []
        pushed: set[int] = set()
        for item in output.sends:  # `isinstance` takes three times as long to say no of a Struct
            if type(item) is Send:
                direct.setdefault(item.peer, []).append(item.message)
            elif type(item) is Publish:
                published.setdefault(item.peer, []).append(item.message)
            elif type(item) is PushRun:
                record = item.record
                if record.seq not in pushed and (push := self._push(item, mono_s)):
                    pushed.add(record.seq)
                    published.setdefault(record.worker, []).append(push)
            elif type(item) is TellEnd:
                if ending := endings.of(item.run):
                    published.setdefault(item.peer, []).append(_told(item, ending))
                else:
                    unread.append(item)
            elif type(item) is Announce:
                self._channels.publish(item.topic.encode(), codec.encode(BROKER, [item.message]))
            elif type(item) is Look:
                if isinstance(item.query, GetStatus):
                    direct.setdefault(item.peer, []).append(self._status(item.query.request))
                elif isinstance(item.query, Prune):
                    self.prunes.append((item.peer, item.query))
                else:
                    looks.append(item)
        # first what somebody waits for to go on
        for peer, messages in published.items():
            self._publish(peer, messages)
        for peer, messages in direct.items():
            self._send(peer, messages)
        for look in looks:
            self._look(look)
        if unread:
            # dropped if too much waits: what is not noted is told again
            self._reader.ask(object(), lambda queries: _read_endings(queries, unread), self._tell)

    def reply(self, peer: PeerId, message: Message) -> None:
        """An answer that took its time."""
        self._send(peer, [message])

    def _send(self, peer: PeerId, messages: list[Message]) -> None:
        route = self._routes.get(peer)
        if route is None:
            self._publish(peer, messages)
            return
        for batch in codec.batches(messages):
            if not self._channels.send(route, codec.encode(BROKER, batch)):
                # gone or not reading; its next frame tells where it is, and makes us say it again
                self.forget(peer)
                return

    def _publish(self, peer: PeerId, messages: list[Message]) -> None:
        topic = topic_of(peer)
        for batch in codec.batches(messages):
            self._channels.publish(topic, codec.encode(BROKER, batch))

    # -- pushes -------------------------------------------------------------------------------------------

    def _push(self, item: PushRun, mono_s: float) -> Push | None:
        record = item.record
        if not record.worker:
            return None  # given and taken back within one pass
        try:
            args = self._payloads.arguments(record)
        except Damaged as error:
            log.error("run %s: %s", record.run, error)
            self.damaged.append(record)
            return None
        code = self._payloads.code(record.spec.code)
        if len(args) + len(code) > LARGE_PUSH_BYTES and not self._may_repeat(record, item.again, mono_s):
            return None
        given = tuple(self._given(record.terms.needs)) if record.terms.needs else ()
        return Push(
            record.run, record.attempt, len(record.attempts) + 1, record.spec, code, args, record.parent,
            given, record.failures, self._subject(record), record.terms.name, record.terms.cache_key,
            record.terms.refresh,
        )  # fmt: skip

    def _subject(self, record: RunRecord) -> Subject | None:
        """Of a hook run: the run that ended, as its row says."""
        info = self._info(record.parent) if record.spec.hook else None
        if info is None:
            return None
        [given] = self._given((Need(info.run, tolerant=True),))
        last = info.history[-1]
        return Subject(info.run, info.name, len(info.attempts), info.at, given, last.label)

    def _given(self, needs: Iterable[Need]) -> Iterator[Given]:
        """What the runs gave that this one needs, as much as fits; the rest the worker asks for."""
        size = 0
        for need in needs:
            ending = self._ending(need.run)
            if ending is None:
                continue  # a damaged journal: the worker says that it is not there
            size += len(ending.value or b"")
            fits = ending.value is not None and size <= GIVEN_BYTES_MAX
            value = ending.value if fits and ending.value else b""
            yield Given(need.run, ending.state, ending.message, value, fetch=not fits)

    def _may_repeat(self, record: RunRecord, again: bool, mono_s: float) -> bool:
        """Whether another copy of a large push may be queued for a worker that does not read."""
        key = (record.run, record.attempt)
        at, pause_s = self._large.get(key, (0.0, LARGE_PAUSE_S))
        if again and mono_s < at:
            return False
        self._large[key] = (mono_s + pause_s, 2 * pause_s)
        while len(self._large) > ROUTES_MAX:
            del self._large[next(iter(self._large))]
        return True

    # -- queries ------------------------------------------------------------------------------------------

    def _look(self, look: Look) -> None:
        query: Any = look.query

        def done(result: Any) -> None:
            if isinstance(result, Failed):
                result = NotDone(query.request, result.reason)
            self._send(look.peer, [self._complete(result)])

        key = (look.peer, query.request)
        if not self._reader.ask(key, lambda queries: queries.answer(query), done):
            reason = "too many questions wait for the broker's journal; try again"
            self._send(look.peer, [NotDone(query.request, reason, again=True)])

    def _complete(self, answer: Message) -> Message:
        """Add what only the loop knows."""
        if isinstance(answer, Runs):
            return msgspec.structs.replace(answer, rows=tuple(map(self._explained, answer.rows)))
        if isinstance(answer, RunFound) and answer.row:
            return msgspec.structs.replace(answer, row=self._explained(answer.row))
        return answer

    def _tell(self, told: Any) -> None:
        if not isinstance(told, Failed):
            for peer, messages in told.items():
                self._publish(peer, messages)

    def _explained(self, row: RunInfo) -> RunInfo:
        """Say why a queued run waits, if anything is missing."""
        reason = "" if row.message else self._waiting_reason(row.run)
        return msgspec.structs.replace(row, message=reason) if reason else row


class _Endings:
    """How the runs of this pass ended."""

    def __init__(self, output: Output) -> None:
        self._values = dict(output.values)
        copied = {seq for seq, _ in output.copies}  # their values are to be read
        finals = (record for record in output.changed.values() if record.is_final)
        self._records = {record.run: record for record in finals if record.seq not in copied}

    def of(self, run: RunId) -> Ending | None:
        record = self._records.get(run)
        if record is None:
            return None
        value = self._values.get(record.seq, b"")
        return Ending(
            record.state.value,
            record.message,
            record.at,
            value if len(value) <= codec.INLINE_BYTES_MAX else None,
            record.history[-1].label,
        )


def _read_endings(queries: Queries, items: list[TellEnd]) -> dict[PeerId, list[Message]]:
    """What clients are told of runs that ended in an earlier pass; in the reader's thread."""
    told: dict[PeerId, list[Message]] = {}
    for item in items:
        ending = queries.ending(item.run)
        message = _told(item, ending) if ending else Missing(item.session, item.number, item.run)
        told.setdefault(item.peer, []).append(message)
    return told


def _told(item: TellEnd, ending: Ending) -> Message:
    return Ended(
        item.session,
        item.number,
        item.run,
        ending.state,
        ending.message,
        ending.at,
        ending.value or b"",
        fetch=ending.value is None,
        label=ending.label,
    )
