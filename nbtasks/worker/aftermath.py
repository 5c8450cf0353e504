"""What follows the code of a run in its worker: the condition of a retry, and hooks.

Both are user code, within the run's slot and what can be interrupted. Once hooks for its ending begin, the
outcome stands whatever they do: that is in the marker, so that nobody runs them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from nbtasks import context, pickling, states
from nbtasks.context import RunContext
from nbtasks.core import policy
from nbtasks.core.hooks import OF_TYPE, RUNNING
from nbtasks.core.messages import Push, RunId, Subject
from nbtasks.core.records import RunRecord
from nbtasks.core.states import State, StateType
from nbtasks.errors import TimedOut
from nbtasks.pickling.code import Code
from nbtasks.pickling.offered import value_in
from nbtasks.run import Run
from nbtasks.tasks.around import CONDITION, Around
from nbtasks.tasks.definition import Task
from nbtasks.wire.blobs import Blobs
from nbtasks.wire.marker import Marker
from nbtasks.worker.upstream import Upstreams

Bind = Callable[[], Mapping[str, Any]]
Report = Callable[[float, float, str], object]


class Outcome(NamedTuple):
    """How an attempt ended, as `Finished` says it, and the output that tells why."""

    word: str
    message: str = ""
    value: bytes = b""
    error: dict[str, Any] | None = None
    data: Any = None  # what the value is the pickle of
    retry: bool = True
    label: str = ""
    hooks: str = ""
    cache_key: str = ""


class Aftermath:
    """The user code around one attempt.

    Parameters
    ----------
    broken
        Why the attempt was interrupted; "": it was not.
    report
        Told how far the code says that it is.
    """

    def __init__(self, push: Push, marker: Marker, broken: Callable[[], str], report: Report) -> None:
        self._push = push
        self._report = report
        self._marker = marker
        self._broken = broken
        self._around: Around | None = None
        self.decided: Outcome | None = None  # hooks for it began

    def inside(self, code: Code, bind: Bind) -> context.running:
        """Around the function: it is a run."""
        push = self._push
        run = _context(push, push.run, push.name, push.number, bind, self._report)
        self._around = Around(partial(Task.of_spec, code.function, push.spec, code.around), run, code.around)
        return context.running(run)

    def begin(self) -> None:
        """Run the hooks that tell that the function begins; `inside`."""
        if self._around is not None and self._around.has(RUNNING):
            self._around.ask(RUNNING, states.running(self._push.number))

    def conclude(self, outcome: Outcome) -> Outcome:
        """Ask whether there is to be another attempt; if there is none, run the hooks."""
        around, stop = self._around, self._broken()
        if around is None or around.is_empty or stop == "stale":
            return outcome
        if around.has(CONDITION) and outcome.retry and self._is_retried(outcome, stop):
            outcome = outcome._replace(retry=around.ask(CONDITION, _state(outcome, stop)))
        if self._is_retried(outcome, stop):
            return outcome
        state = _state(outcome, stop)
        hook = OF_TYPE[state.type]
        if around.has(hook):
            self.decided = outcome = outcome._replace(hooks=hook)
            self._marker.hooks(hook)
            around.ask(hook, state)
        return outcome

    def _is_retried(self, outcome: Outcome, stop: str) -> bool:
        """Whether the broker will have the run executed again, as far as can be known here."""
        push = self._push
        record = RunRecord(
            0, push.run, "", push.spec, "", push.parent, 0.0, stop=stop, failures=push.failures
        )
        verdict = policy.after_attempt(record, outcome.word, outcome.message, 0.0, outcome.retry)
        return verdict.cause in policy.RETRIES


def run_hooks_of(subject: Subject, push: Push, code: Code, blobs: Blobs) -> None:
    """Execute the hooks of a run that ended without its worker; `push` is the hook run."""
    bind = partial(_parameters, code.function, push, blobs)
    run = _context(push, subject.run, subject.name, subject.number, bind)
    data = value_in(Upstreams((subject.given,), blobs).value_of(subject.run, tolerant=True))
    kind = State(subject.given.state)
    state = states.State(
        kind.type, subject.label or kind.value, subject.given.message, data, states.moment(subject.at)
    )
    around = Around(partial(Task.of_spec, code.function, push.spec, code.around), run, code.around)
    own = _context(push, push.run, push.name, push.number, bind)
    with context.running(own):
        around.ask(push.spec.hook, state, inside=own)


def _context(
    push: Push, run: RunId, name: str, attempt: int, bind: Bind, report: Report = context.unheard
) -> RunContext:
    tags = frozenset(push.spec.tags)
    return RunContext(
        run, name, attempt, tags, bind, token=push.attempt, task_key=push.spec.key, report=report
    )


def _parameters(function: Callable[..., Any], push: Push, blobs: Blobs) -> Mapping[str, Any]:
    """Those of the run that ended; a run among them is a handle, for it may never have got its value."""
    client = context.submitter()
    with pickling.given(lambda run, tolerant: Run.of_info(client.info(run), client)):
        arguments, options = pickling.load_arguments(blobs.unpack(push.args))
    return context.bound(function, arguments, options)


def _state(outcome: Outcome, stop: str) -> states.State:
    kind = State(policy.outcome_name(outcome.word, stop))
    data, message = outcome.data, outcome.message
    if kind is State.TIMED_OUT:
        data = TimedOut(message)
    elif kind.type not in (StateType.COMPLETED, StateType.FAILED):
        data = None
    return states.State(kind.type, outcome.label or kind.value, message, data)
