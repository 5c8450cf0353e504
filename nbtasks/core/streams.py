"""Who reads what generators yield, and up to where.

Yielded values are chunks among those of the output, so they are numbered, recorded and said again like
these. A reader asks for what comes after the last chunk that it has. The answer is read from the table;
if there is nothing yet, the question is kept until there is. It is kept in memory alone: a reader asks
again after a while anyway, and whoever asks also tells the worker how far it is.
"""

from __future__ import annotations

from nbtasks.core.ledger import Ledger
from nbtasks.core.messages import Consumed, GetYielded, PeerId, RunId, StopReading
from nbtasks.core.records import Look, Now, RunRecord, Send

VALUES = b"\x00"  # how a chunk of values begins; one of output is a JSON array
QUESTIONS_MAX = 8  # of one peer about one run that are kept; older ones it has given up

Place = tuple[int, int]  # attempt, number of a chunk


def holds_values(body: bytes) -> bool:
    """Whether a chunk is one of values."""
    return body.startswith(VALUES)


class Streams:
    """The questions that are kept."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._newest: dict[RunId, Place] = {}  # behind which there was nothing when it was looked for
        self._kept: dict[RunId, dict[tuple[PeerId, int], GetYielded]] = {}

    def ask(self, peer: PeerId, message: GetYielded, now: Now) -> None:
        """A reader has all up to a place: answered at once, or when there is more."""
        record = self._ledger.runs.get(message.run)
        sends = self._ledger.out.sends
        if record is not None and record.worker and record.started:
            self._tell(record, message)
        place = message.attempt, message.after
        if record is not None and self._newest.get(message.run) == place:
            self._keep(peer, message)
            return
        sends.append(Look(peer, message))
        if record is not None:
            self._newest[message.run] = max(place, self._newest.get(message.run, place))

    def stop(self, message: StopReading) -> None:
        """A reader went away; if there is another one, its next question tells."""
        record = self._ledger.runs.get(message.run)
        if record is not None and record.worker and record.attempt == message.attempt:
            self._ledger.out.sends.append(Send(record.worker, Consumed(record.run, record.attempt, -1)))

    def _keep(self, peer: PeerId, message: GetYielded) -> None:
        kept = self._kept.setdefault(message.run, {})
        kept[peer, message.request] = message
        own = [key for key in kept if key[0] == peer]
        for key in own[:-QUESTIONS_MAX]:
            del kept[key]

    def printed(self, record: RunRecord, number: int) -> None:
        """A chunk of values is recorded."""
        self._newest[record.run] = record.attempt, number
        for message in self._kept.get(record.run, {}).values():
            self._tell(record, message)  # who asked before it began is unknown to its worker
        self._answer(record.run)

    def _tell(self, record: RunRecord, message: GetYielded) -> None:
        upto = message.after if message.attempt == record.attempt else 0
        self._ledger.out.sends.append(Send(record.worker, Consumed(record.run, record.attempt, upto)))

    def ended(self, run: RunId) -> None:
        """Nothing more comes."""
        if self._newest.pop(run, None) is not None:
            self._answer(run)

    def _answer(self, run: RunId) -> None:
        for (peer, _), message in self._kept.pop(run, {}).items():
            self._ledger.out.sends.append(Look(peer, message))
