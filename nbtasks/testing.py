"""For the tests of code that uses nbtasks: `with inline():` runs every task here and now.

`.delay()`, `.apply_async()` and `map(deferred=True)` execute the run before they return, in this process,
with names, tags, retries, conditions, hooks, caches and serializers as ever. Code and arguments are
pickled and read back, so what cannot travel fails here as it would there. A time-out interrupts, but
cannot kill. `eta`, `countdown` and `expires` are not waited for, and there are no workers: limits,
priorities and `crash_retries` mean nothing. Nothing is recorded outside of the block.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, NoReturn, TypeVar

from nbtasks import context, pickling
from nbtasks.context import Fate
from nbtasks.core import messages as m
from nbtasks.core.messages import Message, NewRun, RunId, RunInfo, Spec, Terms
from nbtasks.core.payload import Payload
from nbtasks.core.states import State
from nbtasks.errors import NbtasksError, UnknownRun
from nbtasks.pickling.code import load_code
from nbtasks.pickling.upstream import allow_failure
from nbtasks.run import Run
from nbtasks.runners import LocalRun
from nbtasks.tasks.definition import Task
from nbtasks.tasks.local import LocalCall

A = TypeVar("A", bound=Message)

__all__ = ["inline"]


@contextmanager
def inline() -> Iterator[None]:
    """Run every background run that is made within this block here and now.

    Examples
    --------
    >>> import nbtasks.testing
    >>> @nbtasks.task(retries=1)
    ... def double(x):
    ...     return 2 * x
    >>> with nbtasks.testing.inline():
    ...     double.delay(4).result()
    8
    """
    with context.use(_Inline()):
        yield


class _Done(NamedTuple):
    """One run, and what it was made of."""

    run: LocalRun
    spec: Spec
    code: bytes
    new: NewRun
    terms: Terms
    value: bytes
    fate: Fate


class _Inline:
    """Executes what is submitted."""

    def __init__(self) -> None:
        self._done: dict[RunId, _Done] = {}
        self._keys: dict[tuple[str, str], RunId] = {}
        self._payloads: dict[bytes, Payload] = {}

    # -- submitting ---------------------------------------------------------------------------------------

    def pack(self, payload: Payload, run: RunId) -> bytes:
        if not payload.buffers:
            return b"".join(payload.stream)
        token = f"inline {len(self._payloads)}".encode()
        self._payloads[token] = Payload(
            [b"".join(payload.stream)], [memoryview(bytearray(buffer)) for buffer in payload.buffers]
        )
        return token

    def unpack(self, body: bytes) -> Payload:
        return self._payloads.get(body) or Payload([body])

    def submit(self, spec: Spec, code: bytes, run: NewRun, parent: RunId, terms: Terms) -> Fate:
        if terms.key and (known := self._keys.get((spec.key, terms.key))):
            return self._done[known].fate
        for need in run.needs:
            self._of(need.run)
        local = LocalRun(run.run, spec, run.parameters, parent, run.name)
        _outside_of_a_loop(lambda: local.execute(lambda course: self._call(spec, code, run).start(course)))
        value = self._value_of(local, spec)
        last = local._moments[-1]
        fate = Fate(run.run)
        fate.settle(m.Ended(0, 0, run.run, last.state, last.message, last.at, value, label=last.label))
        self._done[run.run] = _Done(local, spec, code, run, terms, value, fate)
        if terms.key:
            self._keys[spec.key, terms.key] = run.run
        return fate

    def submit_many(
        self, spec: Spec, code: bytes, batches: Iterable[Sequence[NewRun]], parent: RunId, terms: Terms
    ) -> list[Fate]:
        return [self.submit(spec, code, run, parent, terms) for batch in batches for run in batch]

    def _call(self, spec: Spec, code: bytes, run: NewRun) -> LocalCall:
        loaded = load_code(code)
        # values are put in their places as for a run of this process, which also tells of upstream failures
        with pickling.given(self._argument):
            args, kwargs = pickling.load_arguments(self.unpack(run.args))
        bound = dict(context.bound(loaded.function, args, kwargs))
        task: Any = Task.of_spec(loaded.function, spec, loaded.around)
        waits_for = [self._argument(need.run, need.tolerant) for need in run.needs]
        return LocalCall(task, (args, kwargs, bound), spec, loaded.around, run.name, run.run, waits_for)

    def _value_of(self, run: LocalRun, spec: Spec) -> bytes:
        error = run.exception()
        if error is not None:
            return pickling.dump_failure(error)
        return self.pack(pickling.dump_result(run.result(), spec.serializer), "")

    # -- asking -------------------------------------------------------------------------------------------

    def page_of(self, run: RunId) -> str:
        return ""

    def fates(self, runs: Sequence[RunId]) -> list[Fate]:
        return [self._of(run).fate for run in runs]

    def wait(self, is_done: Callable[[], bool], timeout_s: float | None) -> bool:
        return is_done()

    def wake(self) -> None:
        """Nobody waits."""

    def waits(self, run: RunId, attempt: int, runs: Sequence[RunId]) -> AbstractContextManager[None]:
        return nullcontext()

    def keep(self, fate: Fate) -> None:
        """It is settled."""

    def info(self, run: RunId) -> RunInfo:
        return _info(self._of(run))

    def infos(self, wanted: m.RunFilter) -> list[RunInfo]:
        found = map(_info, reversed(self._done.values()))
        return [info for info in found if _fits(info, wanted)][: wanted.limit]

    def value(self, run: RunId) -> bytes:
        return self._of(run).value

    def output(self, run: RunId, after: int = 0) -> list[bytes]:
        self._of(run)
        return []  # what it printed was shown where it was printed

    def cancel(self, runs: Sequence[RunId]) -> None:
        for run in runs:
            self._of(run)  # it is over

    def ask(self, make: Callable[[int], Message], kind: type[A], *when: Any) -> A:
        question = make(0)
        answer: Any = None
        if isinstance(question, m.GetYielded):
            answer = m.YieldedFound(0, 1, (), 0, live=False)
        elif isinstance(question, m.GetCall):
            one = self._of(question.run)
            answer = m.CallFound(
                0, one.spec, one.code, one.new.args, one.new.parameters, one.new.needs, one.new.name
            )
        elif isinstance(question, (m.SetLimit, m.StopReading, m.Vacate)):
            answer = m.Done(0)
        elif isinstance(question, m.GetLimits):
            answer = m.LimitsFound(0, ())
        elif isinstance(question, m.GetStack):
            raise ValueError(f"run {question.run} is not running")
        if not isinstance(answer, kind):
            self._not_here()
        return answer

    def serve(self, *args: Any, **options: Any) -> NoReturn:
        self._not_here()

    # -- pieces -------------------------------------------------------------------------------------------

    def _not_here(self) -> NoReturn:
        raise NbtasksError("within nbtasks.testing.inline() there is no broker and are no workers")

    def _of(self, run: RunId) -> _Done:
        found = self._done.get(run)
        if found is None:
            raise UnknownRun(f"no run {run} was made within this nbtasks.testing.inline()")
        return found

    def _argument(self, run: RunId, tolerant: bool) -> Any:
        """A run that another one needs, as it stands among arguments."""
        handle = Run.of_info(self.info(run), self)
        return allow_failure(handle) if tolerant else handle


def _outside_of_a_loop(call: Callable[[], None]) -> None:
    """Call it; if an event loop runs in this thread, in another one."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        call()
        return
    thread = threading.Thread(target=contextvars.copy_context().run, args=(call,), name="nbtasks-inline")
    thread.start()
    thread.join()


def _info(done: _Done) -> RunInfo:
    run, spec = done.run, done.spec
    last = run._moments[-1]
    told = run.progress
    attempts = tuple(
        m.Attempt(
            one.number, "inline", one.pid, one.start.timestamp(), one.end.timestamp() if one.end else 0.0,
            one.outcome, m.Progress(1, told.done, told.total or 0.0, told.text) if told else None,
        )
        for one in run.attempts
    )  # fmt: skip
    return RunInfo(
        run=done.new.run, spec=spec, submitted=run._moments[0].at, parameters=done.new.parameters,
        parent=str(run.parent) if run.parent else "", state=last.state, message=last.message, at=last.at,
        history=tuple(run._moments), attempts=attempts, worker="", own_name=done.new.name,
    )  # fmt: skip


def _fits(info: RunInfo, wanted: m.RunFilter) -> bool:
    state = State(info.state)
    names = {state.value, state.type.value}
    return (
        (not wanted.states or bool(names & set(wanted.states)))
        and (not wanted.key or wanted.key in (info.spec.key, info.spec.name))
        and (not wanted.tag or wanted.tag in info.spec.tags)
    )
