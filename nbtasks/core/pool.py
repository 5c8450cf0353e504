"""The pool's decisions: which worker processes to start, to end, and to replace.

An exit is a fact and is said until the broker has recorded it. A worker that dies is replaced at
once; the next one after a pause that doubles while workers die young.
"""

from __future__ import annotations

import msgspec

from nbtasks.core.dispatch import Dispatch
from nbtasks.core.messages import (
    Beat,
    Disband,
    Draining,
    Exited,
    ExitNoted,
    HelloPool,
    Kill,
    Left,
    Message,
    PeerId,
    Rejected,
    Stranger,
    Want,
    Welcome,
)
from nbtasks.core.records import Effects, Exit, Launch, Now, Signal

HELLO_S = 0.2
REPEAT_S = 0.5  # pause before an unanswered Exited or Draining is said again
BEAT_S = 5.0
YOUNG_S = 10.0  # a worker that dies sooner counts as a failed start
BACKOFF_S = 1.0  # pause after the first failed start, doubled each time
BACKOFF_S_MAX = 30.0
LAST_WORD_S = 1.0  # for the broker to note the last exits
TERM_S = 1.0  # from SIGTERM to SIGKILL
_WHATEVER = ("", 0)  # of a kill: whatever the worker does


class _Member(msgspec.Struct):
    """A worker process that is alive as far as we know."""

    launched: float  # mono seconds
    kill: tuple[str, int] | None = None  # the attempt it is killed for
    kill_at: float | None = None  # mono seconds: when SIGKILL follows SIGTERM


class Pool:
    """The workers of one machine; `name` makes theirs."""

    def __init__(self, name: PeerId, hello: HelloPool) -> None:
        self._name = name
        self._hello = hello
        self._boot = ""
        self._hello_at: float | None = 0.0
        self._beat_at = 0.0
        self._want = hello.least
        self._members: dict[PeerId, _Member] = {}
        self._launched = 0
        self._young_deaths = 0  # in a row
        self._launch_at = 0.0  # mono seconds, not before
        self._exits: dict[PeerId, Exited] = {}
        self._say_exits_at: float | None = None
        self._draining: Draining | None = None
        self._say_draining_at = 0.0
        self._disband_at: float | None = None  # mono seconds: workers are ended then
        self._hands_over = False  # at the deadline running workers are left to themselves
        self._go_at: float | None = None  # mono seconds: all workers are gone, their exits may not be noted
        self._gone = False

    # -- from the broker -------------------------------------------------------------------------------

    def handle(self, message: Message, now: Now) -> Effects:
        effects = Effects()
        self._on[type(message)](self, message, now, effects)
        return effects

    _on = Dispatch("pool")

    @_on.register
    def _on_welcome(self, message: Welcome, now: Now, effects: Effects) -> None:
        self._boot, self._hello_at = message.boot, None

    @_on.register
    def _on_stranger(self, message: Stranger, now: Now, effects: Effects) -> None:
        if self._hello_at is None:
            self._boot, self._hello_at = "", now.mono_s
            self._say_exits_at = now.mono_s if self._exits else None

    @_on.register
    def _on_rejected(self, message: Rejected, now: Now, effects: Effects) -> None:
        self._gone = True
        effects.acts.append(Exit(1))

    @_on.register
    def _on_want(self, message: Want, now: Now, effects: Effects) -> None:
        self._want = message.workers

    @_on.register
    def _on_kill(self, message: Kill, now: Now, effects: Effects) -> None:
        member = self._members.get(message.worker)
        if member and member.kill not in (_WHATEVER, (message.run, message.attempt)):
            self._end(message.worker, member, message.run, message.attempt, now, effects)

    @_on.register
    def _on_disband(self, message: Disband, now: Now, effects: Effects) -> None:
        if self._disband_at is None or self._hands_over:
            self._disband_at = now.mono_s + message.drain_s
        self._hands_over = False

    @_on.register
    def _on_exit_noted(self, message: ExitNoted, now: Now, effects: Effects) -> None:
        self._exits.pop(message.worker, None)

    # -- from this machine -----------------------------------------------------------------------------

    def exited(self, exited: Exited, now: Now) -> Effects:
        """A worker process is gone; `exited` says how, and what its marker file names."""
        effects = Effects()
        member = self._members.pop(exited.worker, None)
        if member is None:
            return effects
        self._exits[exited.worker] = exited
        self._say_exits_at = now.mono_s + REPEAT_S
        if self._boot:
            effects.sends.append(exited)
        if exited.held or now.mono_s - member.launched >= YOUNG_S or exited.status == "exit status 0":
            self._young_deaths = 0
        else:
            self._young_deaths += 1
            pause = min(BACKOFF_S * 2 ** (self._young_deaths - 1), BACKOFF_S_MAX)
            self._launch_at = now.mono_s + pause
        return effects

    def spared(self, worker: PeerId) -> None:
        """The signal was not sent, because the worker does not execute what it was to be ended for."""
        member = self._members.get(worker)
        if member and member.kill != _WHATEVER:
            member.kill = member.kill_at = None

    def drain(self, drain_s: float, now: Now, hands_over: bool = False) -> Effects:
        """This process was asked to stop: let workers finish, hand back what has not started.

        Parameters
        ----------
        hands_over
            What still runs after `drain_s` is left to itself, not ended.
        """
        if self._draining is None:
            self._draining = Draining(drain_s)
            self._disband_at, self._hands_over = now.mono_s + drain_s, hands_over
            self._say_draining_at = now.mono_s
        return self.tick(now)

    def end_workers(self, now: Now) -> Effects:
        """Asked again to stop: end every worker now."""
        self._disband_at, self._hands_over = now.mono_s, False
        return self.tick(now)

    # -- time ------------------------------------------------------------------------------------------

    def tick(self, now: Now) -> Effects:
        """Start what is wanted, end what is due, say again what was not answered."""
        effects = Effects()
        if self._gone:
            return effects
        self._say(now, effects)
        if self._disband_at is None:
            self._launch(now, effects)
        elif self._disband_at <= now.mono_s:
            if self._hands_over:
                return self._exit(effects)
            for worker, member in self._members.items():
                if member.kill != _WHATEVER:
                    self._end(worker, member, *_WHATEVER, now, effects)
        for worker, member in self._members.items():
            if member.kill_at is not None and member.kill_at <= now.mono_s and member.kill:
                member.kill_at = now.mono_s + TERM_S
                effects.acts.append(Signal(worker, "SIGKILL", *member.kill))
        if self._disband_at is not None and not self._members and self._may_go(now):
            return self._exit(effects)
        return effects

    def wake_at(self) -> float | None:
        """When `tick` has something to do next (mono seconds)."""
        times = [self._beat_at if self._hello_at is None else self._hello_at]
        times += [m.kill_at for m in self._members.values() if m.kill_at is not None]
        if self._say_exits_at is not None and self._boot:
            times.append(self._say_exits_at)
        if self._disband_at is not None:
            if any(m.kill != _WHATEVER for m in self._members.values()):
                times.append(self._disband_at)
            if not self._members:
                times.append(0.0 if self._go_at is None or not self._exits else self._go_at)
            if self._draining and self._boot:
                times.append(self._say_draining_at)
        elif len(self._members) < self._want:
            times.append(self._launch_at)
        return min(times)

    @property
    def workers(self) -> tuple[PeerId, ...]:
        return tuple(self._members)

    def is_ending(self, worker: PeerId) -> bool:
        """Whether this worker was sent a signal to end."""
        member = self._members.get(worker)
        return member is not None and member.kill is not None

    @property
    def is_draining(self) -> bool:
        return self._disband_at is not None

    def check(self) -> None:
        """Raise AssertionError if the machine contradicts itself."""
        assert not set(self._members) & set(self._exits), "alive and gone"

    # -- pieces ----------------------------------------------------------------------------------------

    def _say(self, now: Now, effects: Effects) -> None:
        if self._hello_at is not None:
            if self._hello_at <= now.mono_s:
                self._hello_at = now.mono_s + HELLO_S
                effects.sends.append(msgspec.structs.replace(self._hello, workers=self.workers))
            return
        if self._beat_at <= now.mono_s:
            self._beat_at = now.mono_s + BEAT_S
            effects.sends.append(Beat())
        if self._say_exits_at is not None and self._say_exits_at <= now.mono_s:
            effects.sends += self._exits.values()
            self._say_exits_at = now.mono_s + REPEAT_S if self._exits else None
        if self._draining and self._say_draining_at <= now.mono_s:
            self._say_draining_at = now.mono_s + REPEAT_S
            effects.sends.append(self._draining)

    def _launch(self, now: Now, effects: Effects) -> None:
        while len(self._members) < self._want and self._launch_at <= now.mono_s:
            self._launched += 1
            worker = f"w-{self._name.removeprefix('p-')}-{self._launched}"
            self._members[worker] = _Member(now.mono_s)
            effects.acts.append(Launch(worker))

    def _end(
        self, worker: PeerId, member: _Member, run: str, attempt: int, now: Now, effects: Effects
    ) -> None:
        member.kill, member.kill_at = (run, attempt), now.mono_s + TERM_S
        effects.acts.append(Signal(worker, "SIGTERM", run, attempt))

    def _may_go(self, now: Now) -> bool:
        """Whether the broker has heard of every exit, or had the time to."""
        if not self._exits or not self._boot:
            return True
        # what it does not hear of it sees itself: it holds a pidfd of every local worker
        if self._go_at is None:
            self._go_at = now.mono_s + LAST_WORD_S
        return self._go_at <= now.mono_s

    def _exit(self, effects: Effects) -> Effects:
        self._gone = True
        effects.sends.append(Left())
        effects.acts.append(Exit(0))
        return effects
