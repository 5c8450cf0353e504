"""The client's decisions: what is repeated until the broker has recorded it, and what has ended.

Every submit, watch and request stays in a table until it is answered. A broker that was restarted
calls us a Stranger; after its Welcome everything open is said again.
"""

from __future__ import annotations

import msgspec

from nbtasks.core.dispatch import Dispatch
from nbtasks.core.happenings import (
    Answer,
    Answered,
    BrokerClosed,
    ClientEffects,
    Connected,
    NotRecorded,
    OutboxDone,
    Recorded,
    RunEnded,
    RunMissing,
    Turned,
)
from nbtasks.core.messages import (
    Accepted,
    Beat,
    BoardChanged,
    Closed,
    Ended,
    HelloClient,
    Left,
    Message,
    Missing,
    NotDone,
    Noted,
    Refused,
    Rejected,
    RunChanged,
    RunId,
    Stranger,
    Submit,
    Waits,
    Watch,
    Welcome,
)
from nbtasks.core.observer import Observer
from nbtasks.core.records import Now

HELLO_S = 0.1  # pause between two Hellos until Welcome
REPEAT_S = 1.0  # pause before an unanswered message is said again; doubled up to REPEAT_S_MAX
REPEAT_S_MAX = 10.0
AGAIN_S = 0.25  # pause before a request is said again for which the broker had no room
BEAT_S = 2.0  # a Beat so often while a run is watched
WATCH_RUNS_MAX = 1000  # ids in one Watch
NOTE_S = 0.05  # a Noted waits so long for a message that it can travel with
PROMISED_MAX = 128  # submits of which nobody knows yet whether the broker has them
ROOM_RUNS_MIN = 1000  # of the queue limit, below which every submit is asked for
NOTE_FINALS_MAX = 128  # unless so many finals are not noted; well below what a broker has in flight


class _Open(msgspec.Struct):
    """A message that is repeated until it is answered."""

    message: Message
    say_at: float  # mono seconds
    pause_s: float = REPEAT_S
    session: int = 0  # in which it was said first; 0: not yet


class Client:
    """One process that submits or watches."""

    def __init__(self, hello: HelloClient) -> None:
        self._hello = hello
        self._boot = ""
        self._hello_at: float | None = 0.0
        self._submits: dict[str, _Open] = {}
        self._promised: dict[RunId, str] = {}  # run -> its open batch
        self._room = 0  # runs that the broker would record without refusing
        self._requests: dict[int, _Open] = {}
        self._watches: dict[int, tuple[RunId, ...]] = {}  # requests of our own making
        self._watched: dict[RunId, None] = {}  # not known to have ended
        self._waits: Waits | None = None  # what the code of our run waits for
        self._last_request = 0
        self._noted = 0
        self._early: set[int] = set()  # numbers of finals that overtook another
        self._arrived = 0  # finals since the last Noted, repeated ones included
        self._note_at: float | None = None
        self._beat_at = 0.0
        self._observer = Observer()

    # -- from the caller -------------------------------------------------------------------------------

    def may_promise(self, message: Submit) -> bool:
        """Whether this may count as recorded once it is in the outbox."""
        # whose key it is, and whether there is what it needs, the broker knows
        is_simple = len(message.runs) == 1 and not message.terms.key and not message.runs[0].needs
        has_room = len(self._submits) < PROMISED_MAX and self._room > ROOM_RUNS_MIN
        return bool(self._boot) and is_simple and has_room

    def submit(self, message: Submit, now: Now) -> ClientEffects:
        """Have this batch recorded; ends in Recorded (at once if it is promised) or NotRecorded.

        A promised one must be in the outbox by now, and allowed by `may_promise`.
        """
        session = self._hello.session if self._boot else 0
        self._submits[message.batch] = opened = _Open(message, now.mono_s + REPEAT_S, session=session)
        if message.watch:
            self._watched.update(dict.fromkeys(run.run for run in message.runs))
        effects = ClientEffects(sends=[*self._flush_note(), opened.message] if self._boot else [])
        if message.promised:
            self._room -= len(message.runs)
            self._promised.update(dict.fromkeys((run.run for run in message.runs), message.batch))
            effects.events.append(Recorded(message.batch))
        return effects

    def watch(self, runs: list[RunId], now: Now) -> ClientEffects:
        """Learn how these runs end; each ends in RunEnded or RunMissing."""
        new = [run for run in runs if run not in self._watched]
        self._watched.update(dict.fromkeys(new))
        return self._say_watch(new, now)

    def unwatch(self, run: RunId) -> None:
        """Nobody waits for this run any more."""
        self._watched.pop(run, None)

    def request_number(self) -> int:
        """A fresh number for the `request` field of a message."""
        self._last_request += 1
        return self._last_request

    def request(self, message: Message, now: Now) -> ClientEffects:
        """Have this request answered; ends in Answered with the same number."""
        self._requests[message.request] = _Open(message, now.mono_s + REPEAT_S)  # type: ignore[attr-defined]
        if isinstance(message, Waits):
            self._waits = message if message.runs else None
        return ClientEffects(sends=[message] if self._boot else [])

    def forget(self, request: int) -> None:
        """Nobody waits for this answer any more."""
        self._requests.pop(request, None)

    def observe(self, name: RunId, now: Now) -> ClientEffects:
        """Look at a run, or at the board (`observer.BOARD_NAME`), from now on: RunSeen, BoardSeen.

        The caller must have subscribed to its topic.
        """
        self._observer.observe(name, now)
        return self._ask_observed(now)

    def unobserve(self, name: RunId) -> None:
        """Nobody looks at it any more."""
        self._requests.pop(self._observer.forget(name), None)

    def abandon(self, batch: str) -> None:
        """Give up on a batch of which nobody knows whether it is recorded; a promised one is recorded."""
        opened = self._submits.get(batch)
        if opened is None or opened.message.promised:  # type: ignore[attr-defined]
            return
        del self._submits[batch]
        for run in opened.message.runs:  # type: ignore[attr-defined]
            self._watched.pop(run.run, None)

    def withdraw(self, batch: str) -> None:
        """Forget a submit that could not be said, nor put into the outbox."""
        if opened := self._submits.pop(batch, None):
            for run in opened.message.runs:  # type: ignore[attr-defined]
                self._watched.pop(run.run, None)
                self._promised.pop(run.run, None)

    def lost(self, now: Now) -> None:
        """The broker's process is gone: say Hello to the next one, and then all that is open."""
        self._boot, self._hello_at = "", now.mono_s
        self._new_session()

    def leave(self) -> ClientEffects:
        """This process ends, or talks to another home from now on."""
        return ClientEffects(sends=[Left()])

    # -- from the broker -------------------------------------------------------------------------------

    def handle(self, message: Message, now: Now) -> ClientEffects:
        effects = ClientEffects()
        self._on[type(message)](self, message, now, effects)
        return effects

    _on = Dispatch("client")

    @_on.register
    def _on_welcome(self, message: Welcome, now: Now, effects: ClientEffects) -> None:
        if message.boot == self._boot or message.session != self._hello.session:
            # of another session: finals would be numbered as we do not expect, so the Hello is said again
            return
        if self._boot:
            # two brokers answered one Hello, and it is not known which of them lives
            self.lost(now)
            return
        self._boot, self._hello_at = message.boot, None
        effects.events.append(Connected(message.pid))
        for request in list(self._watches):
            self._drop_watch(request)
        for opened in [*self._submits.values(), *self._requests.values()]:
            opened.say_at, opened.pause_s = now.mono_s + REPEAT_S, REPEAT_S
            opened.session = opened.session or self._hello.session
            effects.sends.append(opened.message)
        unsubmitted = {run.run for o in self._submits.values() for run in o.message.runs}  # type: ignore[attr-defined]
        if self._waits is not None and self._waits.request not in self._requests:
            effects.sends.append(self._waits)  # a new broker does not know
        watch = self._say_watch([run for run in self._watched if run not in unsubmitted], now)
        effects.sends += watch.sends
        self._observer.restarted(now)
        effects.sends += self._ask_observed(now).sends

    @_on.register
    def _on_stranger(self, message: Stranger, now: Now, effects: ClientEffects) -> None:
        if self._hello_at is None:
            self.lost(now)

    @_on.register
    def _on_rejected(self, message: Rejected, now: Now, effects: ClientEffects) -> None:
        effects.events.append(Turned(message.code, message.reason))

    @_on.register
    def _on_accepted(self, message: Accepted, now: Now, effects: ClientEffects) -> None:
        if opened := self._submits.pop(message.batch, None):
            self._room = message.room
            if opened.message.promised:  # type: ignore[attr-defined]
                self._keep_promise(opened.message.runs[0].run, effects)  # type: ignore[attr-defined]
            else:
                effects.events.append(Recorded(message.batch, message.run))
            if message.run:
                for run in opened.message.runs:  # type: ignore[attr-defined]
                    self._watched.pop(run.run, None)
            if opened.session != self._hello.session:
                # it may answer what we said in a session that is over, with all that was told in it
                runs = [run.run for run in opened.message.runs if run.run in self._watched]  # type: ignore[attr-defined]
                effects.sends += self._say_watch(runs, now).sends

    @_on.register
    def _on_refused(self, message: Refused, now: Now, effects: ClientEffects) -> None:
        if message.batch in self._submits:
            self.withdraw(message.batch)
            effects.events.append(NotRecorded(message.batch, message.code, message.reason))

    @_on.register
    def _on_ended(self, message: Ended, now: Now, effects: ClientEffects) -> None:
        if self._note(message.session, message.number, now, effects):
            if batch := self._promised.get(message.run):
                del self._submits[batch]
                self._keep_promise(message.run, effects)
            if message.run in self._watched:
                del self._watched[message.run]
                effects.events.append(RunEnded(message))

    @_on.register
    def _on_missing(self, message: Missing, now: Now, effects: ClientEffects) -> None:
        if self._note(message.session, message.number, now, effects) and message.run in self._watched:
            del self._watched[message.run]
            effects.events.append(RunMissing(message.run))

    @_on.register
    def _on_closed(self, message: Closed, now: Now, effects: ClientEffects) -> None:
        # without a Welcome it is a late word of a broker that is gone
        if self._boot:
            effects.events.append(BrokerClosed())

    @_on.register
    def _on_event(self, message: BoardChanged | RunChanged, now: Now, effects: ClientEffects) -> None:
        if seen := self._observer.heard(message, self._boot, now):
            effects.events.append(seen)

    @_on.register
    def _on_answer(self, message: Answer, now: Now, effects: ClientEffects) -> None:
        request = message.request
        if isinstance(message, NotDone) and message.again:
            if opened := self._requests.get(request):
                opened.say_at = min(opened.say_at, now.mono_s + AGAIN_S)
        elif request in self._watches:
            self._drop_watch(request)
        elif not self._requests.pop(request, None):
            return
        elif self._observer.takes(request):
            if seen := self._observer.answered(request, message, self._boot, now):
                effects.events.append(seen)
        else:
            effects.events.append(Answered(request, message))

    # -- time ------------------------------------------------------------------------------------------

    def tick(self, now: Now) -> ClientEffects:
        """Say again what was not answered."""
        effects = ClientEffects()
        if self._hello_at is not None:
            if self._hello_at <= now.mono_s:
                self._hello_at = now.mono_s + HELLO_S
                effects.sends.append(self._hello)
            return effects
        for opened in [*self._submits.values(), *self._requests.values()]:
            if opened.say_at <= now.mono_s:
                opened.pause_s = min(2 * opened.pause_s, REPEAT_S_MAX)
                opened.say_at = now.mono_s + opened.pause_s
                effects.sends.append(opened.message)
        if self._note_at is not None and self._note_at <= now.mono_s:
            effects.sends += self._flush_note()
        if self._watched and self._beat_at <= now.mono_s:
            self._beat_at = now.mono_s + BEAT_S
            effects.sends.append(Beat(self._boot))
        effects.sends += self._ask_observed(now).sends
        return effects

    def wake_at(self) -> float | None:
        """When `tick` has something to do next (mono seconds); None: never, unless something is said."""
        if self._hello_at is not None:
            return self._hello_at
        times = [opened.say_at for opened in self._submits.values()]
        if self._requests:
            times += [opened.say_at for opened in self._requests.values()]
        if self._watched:
            times.append(self._beat_at)
        if self._note_at is not None:
            times.append(self._note_at)
        if len(self._observer) and (ask_at := self._observer.wake_at()) is not None:
            times.append(ask_at)
        return min(times, default=None)

    @property
    def is_connected(self) -> bool:
        return bool(self._boot)

    @property
    def watched(self) -> int:
        """Number of runs whose end is waited for."""
        return len(self._watched)

    @property
    def observed(self) -> int:
        """Number of runs and boards that are looked at."""
        return len(self._observer)

    def check(self) -> None:
        """Raise AssertionError if the machine contradicts itself."""
        assert all(number > self._noted for number in self._early), (self._noted, self._early)
        assert set(self._watches) <= set(self._requests), (self._watches, self._requests)
        assert set(self._promised.values()) <= set(self._submits), (self._promised, self._submits)

    # -- pieces ----------------------------------------------------------------------------------------

    def _note(self, session: int, number: int, now: Now, effects: ClientEffects) -> bool:
        """Count a final as arrived; False if it belongs to a session that is over."""
        if session != self._hello.session:
            return False  # everything open was watched again, so it is told again
        if number > self._noted:
            self._early.add(number)
            while self._noted + 1 in self._early:
                self._noted += 1
                self._early.remove(self._noted)
        self._arrived += 1
        if self._arrived >= NOTE_FINALS_MAX:
            effects.sends += self._flush_note()
        elif self._note_at is None:
            self._note_at = now.mono_s + NOTE_S
        return True

    def _flush_note(self) -> list[Message]:
        if not self._arrived:
            return []
        self._arrived, self._note_at = 0, None
        return [Noted(self._hello.session, self._noted)]

    def _keep_promise(self, run: RunId, effects: ClientEffects) -> None:
        """The broker has recorded this run, which was promised."""
        del self._promised[run]
        if not self._promised:
            effects.events.append(OutboxDone())

    def _new_session(self) -> None:
        """Nothing is known of what the broker told; finals are numbered from 1 again."""
        self._hello = msgspec.structs.replace(self._hello, session=self._hello.session + 1)
        self._noted, self._early = 0, set()
        self._arrived, self._note_at = 0, None
        self._room = 0

    def _ask_observed(self, now: Now) -> ClientEffects:
        effects = ClientEffects()
        if self._boot:
            for question in self._observer.questions(now, self.request_number):
                effects.sends += self.request(question, now).sends
        return effects

    def _say_watch(self, runs: list[RunId], now: Now) -> ClientEffects:
        effects = ClientEffects()
        for i in range(0, len(runs), WATCH_RUNS_MAX):
            number = self.request_number()
            ids = tuple(runs[i : i + WATCH_RUNS_MAX])
            self._watches[number] = ids
            effects.sends += self.request(Watch(number, ids), now).sends
        return effects

    def _drop_watch(self, request: int) -> None:
        self._watches.pop(request, None)
        self._requests.pop(request, None)
