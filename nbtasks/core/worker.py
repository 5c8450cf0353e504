"""The worker's decisions: which attempt runs next, what is said, and what is said again.

The edge calls it from two threads under one lock: the agent with what arrives, the main thread with
what its run does. A worker forgets an attempt only when the broker says that it is recorded.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from nbtasks.core.dispatch import Dispatch
from nbtasks.core.messages import (
    Acked,
    Beat,
    Consumed,
    Draining,
    Finished,
    Held,
    HelloWorker,
    Interrupt,
    Kept,
    Leave,
    Left,
    Message,
    OutputKept,
    Printed,
    Progress,
    Progressed,
    Push,
    Rejected,
    Returned,
    Revoke,
    RunId,
    ShowStack,
    StackShown,
    Started,
    Stranger,
    Welcome,
)
from nbtasks.core.records import Break, Effects, Exit, MarkEnded, Now, Read, Show

HELLO_S = 0.2  # pause between two Hellos until Welcome
FINISHED_S = 0.5  # pause before an unkept Finished is said again; doubled up to FINISHED_S_MAX
FINISHED_S_MAX = 5.0
ACK_S = 0.005  # an Acked or Started waits so long for a Finished that it can travel with
FINISHED_HOLD_S = 0.002  # a Finished waits so long for others, but only if the next run begins at once
MARKED_MAX = 60  # attempts begun from the oldest that is not recorded on; fewer than a marker has slots
PROGRESS_S = 0.2  # between two words about the progress of a run
BEAT_S = 5.0  # a Beat so often, so that a broker that lost us can say Stranger
SHORT_MAX = 1000  # tasks of which it is remembered that they are short
DONE_MAX = 10_000  # attempts remembered as over, so that a late copy of their push is not executed

Key = tuple[RunId, int]


class _Ending(msgspec.Struct):
    """A finished attempt that is not recorded yet."""

    finished: Finished
    chunks: list[Printed]
    begun: int  # its number among the attempts taken
    say_at: float  # mono seconds
    pause_s: float = FINISHED_S


class Worker:
    """One worker kernel; executes one attempt at a time.

    Parameters
    ----------
    runs_max
        After so many attempts it leaves; 0: never.
    """

    def __init__(self, hello: HelloWorker, runs_max: int = 0) -> None:
        self._hello = hello
        self._runs_max = runs_max
        self._boot = ""  # of the broker that welcomed us; "" until then
        self._hello_at: float | None = 0.0
        self._waiting: OrderedDict[RunId, Push] = OrderedDict()
        self._current: Push | None = None
        self._started_at = 0.0  # UNIX seconds; 0: user code of the current attempt has not begun
        self._chunks: list[Printed] = []  # of the current attempt, not kept yet
        self._printed = 0
        self._progress: Progress | None = None  # of the current attempt
        self.progress_at = 0.0  # mono seconds, from when on another word about it is welcome
        self._broken = ""  # reason for which the current attempt was interrupted
        self._endings: dict[Key, _Ending] = {}
        self._says: dict[Key, Message] = {}  # of each attempt the newest fact, which may wait for company
        self._says_at: float | None = None
        self._begun = 0  # attempts taken so far
        self._done: dict[Key, None] = {}  # oldest first
        self._short: dict[str, None] = {}  # tasks whose last run was so short that its Started waits
        self._beat_at = 0.0
        self._leaving = False
        self._gone = False

    # -- from the broker -------------------------------------------------------------------------------

    def handle(self, message: Message, now: Now) -> Effects:
        """Take one message from the broker."""
        effects = Effects()
        self._on[type(message)](self, message, now, effects)
        self._leave_if_empty(effects)
        return effects

    _on = Dispatch("worker")

    @_on.register
    def _on_welcome(self, message: Welcome, now: Now, effects: Effects) -> None:
        if message.boot == self._boot:
            return
        self._boot = message.boot
        self._hello_at = None
        self._says.clear()
        self._say_current(effects)
        for ending in self._endings.values():
            effects.sends += [*ending.chunks, ending.finished]
            ending.say_at, ending.pause_s = now.mono_s + FINISHED_S, FINISHED_S

    @_on.register
    def _on_stranger(self, message: Stranger, now: Now, effects: Effects) -> None:
        if self._hello_at is None:
            self._boot = ""
            self._hello_at = now.mono_s

    @_on.register
    def _on_rejected(self, message: Rejected, now: Now, effects: Effects) -> None:
        effects.acts.append(Exit(1))
        self._gone = True

    @_on.register
    def _on_push(self, message: Push, now: Now, effects: Effects) -> None:
        key = (message.run, message.attempt)
        if not self._holds(key):
            if self._leaving or key in self._done:
                # a late copy of what was handed back or kept; the broker ignores what it knows already
                self._give_back(key, effects)
                if self._is_worn:
                    effects.sends.append(Draining(0.0))
                return
            # a newer attempt of the same run replaces an older one that still waits
            self._waiting.pop(message.run, None)
            self._waiting[message.run] = message
        self._say_soon(Acked(message.run, message.attempt), now, ACK_S)

    @_on.register
    def _on_interrupt(self, message: Interrupt, now: Now, effects: Effects) -> None:
        key = (message.run, message.attempt)
        if self._current and (self._current.run, self._current.attempt) == key:
            if not self._broken:
                self._broken = message.reason
                effects.acts.append(Break(message.run, message.attempt, message.reason))
            return
        if key not in self._endings:
            self._give_back(key, effects)
        elif message.reason == "stale":
            del self._endings[key]

    @_on.register
    def _on_revoke(self, message: Revoke, now: Now, effects: Effects) -> None:
        key = (message.run, message.attempt)
        busy_with_it = self._current and (self._current.run, self._current.attempt) == key
        if not busy_with_it and key not in self._endings:
            self._give_back(key, effects)

    @_on.register
    def _on_kept(self, message: Kept, now: Now, effects: Effects) -> None:
        self._endings.pop((message.run, message.attempt), None)

    @_on.register
    def _on_output_kept(self, message: OutputKept, now: Now, effects: Effects) -> None:
        if self._current and (self._current.run, self._current.attempt) == (message.run, message.attempt):
            self._chunks = [c for c in self._chunks if c.number > message.upto]
        elif ending := self._endings.get((message.run, message.attempt)):
            ending.chunks = [c for c in ending.chunks if c.number > message.upto]

    @_on.register
    def _on_consumed(self, message: Consumed, now: Now, effects: Effects) -> None:
        if self._current and (self._current.run, self._current.attempt) == (message.run, message.attempt):
            effects.acts.append(Read(message.upto))

    @_on.register
    def _on_show_stack(self, message: ShowStack, now: Now, effects: Effects) -> None:
        current = self._current
        if self._started_at and current and (current.run, current.attempt) == (message.run, message.attempt):
            effects.acts.append(Show(message))
        else:
            effects.sends.append(stack_shown(message, ""))

    @_on.register
    def _on_leave(self, message: Leave, now: Now, effects: Effects) -> None:
        self._leaving = True
        for push in list(self._waiting.values()):
            self._give_back((push.run, push.attempt), effects)

    def _retire(self, effects: Effects) -> None:
        """Leave of its own will; the broker must not give it back what it gives back."""
        effects.sends.append(Draining(0.0))
        self._leaving = True
        for push in list(self._waiting.values()):
            self._give_back((push.run, push.attempt), effects)

    # -- from the main thread --------------------------------------------------------------------------

    def take(self) -> Push | None:
        """The next attempt for the main thread, which must be free; None: nothing waits."""
        assert self._current is None, "the main thread is busy"
        if not self._waiting or self._gone or self._marks_all() or self._is_worn:
            return None
        _, self._current = self._waiting.popitem(last=False)
        self._begun += 1
        self._printed, self._chunks, self._broken, self._started_at = 0, [], "", 0.0
        self._progress = None
        return self._current

    def _marks_all(self) -> bool:
        """Whether one more start would push an attempt out of the marker that the broker may not know of."""
        oldest = next(iter(self._endings.values()), None)
        return oldest is not None and self._begun - oldest.begun + 1 >= MARKED_MAX

    def started(self, now: Now) -> Effects:
        """User code of the taken attempt begins now (its marker is written)."""
        assert self._current is not None
        self._started_at = now.unix_s
        self._say_soon(Started(self._current.run, self._current.attempt, now.unix_s), now, ACK_S)
        spec = self._current.spec
        # once its code holds the interpreter nobody can say it, and a deadline counts from that word
        waits = spec.key in self._short and not spec.timeout_s
        return Effects(sends=[] if waits else self._flush_says())

    def printed(self, body: bytes) -> Effects:
        """The taken attempt put out `body` (JSON array of nbformat outputs)."""
        assert self._current is not None
        self._printed += 1
        chunk = Printed(self._current.run, self._current.attempt, self._printed, body)
        self._chunks.append(chunk)
        return Effects(sends=[*self._flush_says(), chunk] if self._boot else [])

    def progressed(self, done: float, total: float, text: str, now: Now) -> Effects:
        """The code of the taken attempt says how far it is; not to be called before `progress_at`."""
        assert self._current is not None
        number = self._progress.number + 1 if self._progress else 1
        self._progress = Progress(number, done, total, text)
        self.progress_at = now.mono_s + PROGRESS_S
        word = Progressed(self._current.run, self._current.attempt, self._progress)
        return Effects(sends=[*self._flush_says(), word] if self._boot else [])

    def ended(
        self,
        outcome: str,
        message: str,
        value: bytes,
        start: float,
        now: Now,
        retry: bool = True,
        label: str = "",
        hooks: str = "",
        cache_key: str = "",
    ) -> Effects:
        """The taken attempt is over and all its output was given to `printed`; see `Finished`."""
        assert self._current is not None
        push, self._current = self._current, None
        self._remember_length(push.spec.key, now.unix_s - self._started_at)
        finished = Finished(
            push.run,
            push.attempt,
            outcome,
            message,
            value,
            self._printed,
            start,
            now.unix_s,
            retry,
            label,
            hooks,
            cache_key,
            self._progress,
        )
        self._progress = None
        self._remember((push.run, push.attempt))
        self._endings[push.run, push.attempt] = _Ending(
            finished, self._chunks, self._begun, now.mono_s + FINISHED_S
        )
        effects = Effects(acts=[MarkEnded((*self._chunks, finished))])
        self._chunks = []
        self._say_soon(finished, now, FINISHED_HOLD_S)
        if not self._waiting or (self._says_at is not None and self._says_at <= now.mono_s):
            effects.sends += self._flush_says()
        if self._is_worn:
            self._retire(effects)
        self._leave_if_empty(effects)
        return effects

    @property
    def _is_worn(self) -> bool:
        """Whether it has executed as much as it is to."""
        return 0 < self._runs_max <= self._begun

    # -- time ------------------------------------------------------------------------------------------

    def tick(self, now: Now) -> Effects:
        """Say again what was not answered."""
        effects = Effects()
        if self._hello_at is not None:
            if self._hello_at <= now.mono_s:
                self._hello_at = now.mono_s + HELLO_S
                effects.sends.append(msgspec.structs.replace(self._hello, held=self._held()))
            return effects
        if self._says_at is not None and self._says_at <= now.mono_s:
            effects.sends += self._flush_says()
        if self._beat_at <= now.mono_s:
            self._beat_at = now.mono_s + BEAT_S
            self._say_current(effects)
            effects.sends.append(Beat())
        for ending in self._endings.values():
            if ending.say_at <= now.mono_s:
                effects.sends += [*ending.chunks, ending.finished]
                ending.pause_s = min(2 * ending.pause_s, FINISHED_S_MAX)
                ending.say_at = now.mono_s + ending.pause_s
        return effects

    def wake_at(self) -> float | None:
        """When `tick` has something to do next (mono seconds)."""
        if self._hello_at is not None:
            return self._hello_at
        times = [self._beat_at, *(ending.say_at for ending in self._endings.values())]
        if self._says_at is not None:
            times.append(self._says_at)
        return min(times)

    @property
    def current(self) -> Push | None:
        return self._current

    @property
    def broken(self) -> str:
        """Why the current attempt was interrupted: "", "cancel", "timeout", "stale"."""
        return self._broken

    @property
    def chunks_printed(self) -> int:
        """How many chunks the taken attempt, or the last one, put out."""
        return self._printed

    @property
    def is_empty_handed(self) -> bool:
        return not (self._current or self._waiting or self._endings)

    @property
    def has_work(self) -> bool:
        is_able = self._current is None and not self._marks_all() and not self._is_worn
        return bool(self._waiting) and is_able

    def check(self) -> None:
        """Raise AssertionError if the machine contradicts itself."""
        held = [(h.run, h.attempt) for h in self._held()]
        assert len(held) == len(set(held)), held
        numbers = [c.number for c in self._chunks]
        assert numbers == sorted(numbers), numbers

    # -- pieces ----------------------------------------------------------------------------------------

    def _held(self) -> tuple[Held, ...]:
        held = [Held(p.run, p.attempt) for p in self._waiting.values()]
        if self._current:
            held.append(Held(self._current.run, self._current.attempt, started=bool(self._started_at)))
        held += [Held(run, attempt, started=True, ended=True) for run, attempt in self._endings]
        return tuple(held)

    def _holds(self, key: Key) -> bool:
        holders = (self._waiting.get(key[0]), self._current)
        return key in self._endings or any(p is not None and (p.run, p.attempt) == key for p in holders)

    def _give_back(self, key: Key, effects: Effects) -> None:
        """Say that this attempt will never start here, and make it true for late copies of its push."""
        if (push := self._waiting.get(key[0])) and push.attempt == key[1]:
            del self._waiting[key[0]]
        self._remember(key)
        effects.sends.append(Returned(*key))

    def _remember_length(self, task: str, seconds: float) -> None:
        self._short.pop(task, None)
        if seconds < ACK_S:
            self._short[task] = None
            if len(self._short) > SHORT_MAX:
                del self._short[next(iter(self._short))]

    def _remember(self, key: Key) -> None:
        self._done[key] = None
        while len(self._done) > DONE_MAX:
            del self._done[next(iter(self._done))]

    def _say_current(self, effects: Effects) -> None:
        """Say again what the broker should know of the run that executes; a deadline counts from Started."""
        if self._current and self._started_at:
            effects.sends.append(Started(self._current.run, self._current.attempt, self._started_at))
            if self._progress:
                effects.sends.append(Progressed(self._current.run, self._current.attempt, self._progress))
        effects.sends += self._chunks

    def _say_soon(self, message: Acked | Started | Finished, now: Now, wait_s: float) -> None:
        """Say this and all that waits within `wait_s`; a newer fact of an attempt implies the older."""
        if self._boot:
            self._says[message.run, message.attempt] = message
            say_at = now.mono_s + wait_s
            self._says_at = say_at if self._says_at is None else min(self._says_at, say_at)

    def _flush_says(self) -> list[Message]:
        says, self._says, self._says_at = list(self._says.values()), {}, None
        return says

    def _leave_if_empty(self, effects: Effects) -> None:
        if self._leaving and not self._gone and self.is_empty_handed:
            self._gone = True
            effects.sends.append(Left())
            effects.acts.append(Exit(0))


def stack_shown(asked: ShowStack, text: str) -> StackShown:
    """The answer to a client that wants to see a stack."""
    return StackShown(asked.run, asked.attempt, asked.peer, asked.request, text)
