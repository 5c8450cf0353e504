"""Hooks that no worker could run any more: a run of their own, recorded with the end of the run they are of.

A worker that lives runs the hooks of its run itself, and says so with the end. If the run ended without
(cancelled while it waited, crashed, killed), another run takes their place: on the next worker that can
serve the task, at most once, under an id that follows from the run's. It has no hooks itself.
"""

from __future__ import annotations

import msgspec

from nbtasks.core.ledger import Ledger
from nbtasks.core.messages import NewRun, RunId, Spec, Submit, Terms
from nbtasks.core.records import RunRecord
from nbtasks.core.states import StateType

RUNNING = "on_running"
OF_TYPE = {
    StateType.COMPLETED: "on_completion",
    StateType.FAILED: "on_failure",
    StateType.CANCELLED: "on_cancellation",
    StateType.CRASHED: "on_crash",
}
ENDS = tuple(OF_TYPE.values())  # by their places markers name them
SPECS_MAX = 256  # of hook runs, that are remembered

_VERSION_AT = 14  # of the digit in a UUID that tells its version


def hook_run_id(run: RunId) -> RunId:
    """The id of the hook run of `run`: the same UUID as version 8, its neighbour."""
    return f"{run[:_VERSION_AT]}8{run[_VERSION_AT + 1 :]}"


class Hooks:
    """Makes hook runs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._specs: dict[tuple[str, str], Spec] = {}  # id of the run's spec, hook -> spec of the hook run

    def follow(self, record: RunRecord, told: str, unix_s: float) -> RunRecord | None:
        """Record the hook run of a run that just ended, if it needs one.

        Parameters
        ----------
        told
            The hooks that its worker began to run, or "".
        """
        hook = OF_TYPE[record.state.type]
        if hook == told or hook not in record.spec.hooks:
            return None
        spec = self._spec(record, hook)
        spec_id = f"{record.spec_id} {hook}"
        run = NewRun(hook_run_id(record.run), b"", name=f"{record.name}: {hook}")
        terms = Terms(priority=record.terms.priority)
        submit = Submit(run.run, spec, b"", (run,), record.run, terms=terms)
        # its code is there: that of the run
        self._ledger.out.specs.append((spec_id, spec, b""))
        return self._ledger.add(run, submit, spec_id, unix_s)

    def _spec(self, record: RunRecord, hook: str) -> Spec:
        known = self._specs.get((record.spec_id, hook))
        if known is None:
            if len(self._specs) >= SPECS_MAX:
                self._specs.clear()
            known = self._specs[record.spec_id, hook] = msgspec.structs.replace(
                record.spec, retries=0, crash_retries=0, hooks=(), hook=hook
            )
        return known
