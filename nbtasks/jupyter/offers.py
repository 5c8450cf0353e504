"""Names that runs of this notebook will assign (`-o`): when, and when not.

They are assigned in the main thread only: before the next cell, by `%nbtasks collect`, or when the result is
asked for. A name that the user bound anew since the cell was submitted is the user's, and stays as it is.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nbtasks.core.states import StateType
from nbtasks.errors import NbtasksError
from nbtasks.pickling import NamedOutput, Offered
from nbtasks.pickling import offered as offering
from nbtasks.run import Run

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

MISSING: Any = object()


@dataclass
class Offer:
    """What one run will assign.

    Attributes
    ----------
    before
        Name -> what it was when the cell was submitted; `MISSING`: it was not bound.
    rebound
        Those that the user bound anew since.
    is_fetched
        The run has ended, and what it gave was asked for.
    """

    run: Run
    before: dict[str, Any]
    rebound: set[str] = field(default_factory=set)
    is_fetched: bool = False

    @property
    def is_at_hand(self) -> bool:
        """Whether the run has ended, and what it gave can be had without asking anybody.

        Who waited for the run may be faster than the thread that tells everybody of its end.
        """
        return self.is_fetched or self._came_along(self.run)

    @staticmethod
    def _came_along(run: Run) -> bool:
        """Whether what it gave came with the word of its end."""
        ended = run._fate.ended if run._fate is not None else None
        return ended is not None and not ended.fetch

    def notice(self, namespace: Mapping[str, Any]) -> None:
        """See which names were bound anew."""
        for name, before in self.before.items():
            if name not in self.rebound and namespace.get(name, MISSING) is not before:
                self.rebound.add(name)
                self.before[name] = None  # what it was may go

    def ended(self, run: Run) -> None:
        """Called in whatever thread hears that the run ended."""
        if not self._came_along(run):
            # the one who hears must not ask, and the main thread must not wait for an answer
            threading.Thread(target=self._fetch, name="nbtasks-offer", daemon=True).start()

    def _fetch(self) -> None:
        try:
            if self.run.exception() is None:
                self.run._stored()
        except Exception:
            return  # `%nbtasks collect` says why
        self.is_fetched = True


class Offers:
    """Those of one shell; the main thread only."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._open: dict[str, Offer] = {}  # by the run's id

    # -- submitting ---------------------------------------------------------------------------------------

    def add(self, run: Run, names: Iterable[str]) -> None:
        """This run will assign these names, and no earlier run will."""
        namespace = self._shell.user_ns
        before = {name: namespace.get(name, MISSING) for name in names}
        for key, offer in list(self._open.items()):
            for name in before:
                offer.before.pop(name, None)
            if not offer.before:
                del self._open[key]
        offer = self._open[str(run.id)] = Offer(run, before)
        run.add_done_callback(offer.ended)

    def pending(self, name: str) -> NamedOutput | None:
        """What gives this name's value, if a run will assign it."""
        for offer in self._open.values():
            offer.notice(self._shell.user_ns)
            if name in offer.before and name not in offer.rebound:
                return NamedOutput(offer.run, name)
        return None

    # -- assigning ----------------------------------------------------------------------------------------

    def before_cell(self, info: Any = None) -> None:
        """Assign what is at hand; a cell never waits for it."""
        for offer in list(self._open.values()):
            offer.notice(self._shell.user_ns)
            if offer.is_at_hand:
                self._settle(offer)

    def take(self, run: str, given: Offered) -> None:
        """A result was loaded in this process, perhaps one whose names are awaited."""
        offer = self._open.get(run)
        if offer is not None and threading.current_thread() is threading.main_thread():
            del self._open[run]
            self._assign(offer, given)

    def collect(self, runs: Iterable[Run] | None = None) -> list[str]:
        """Assign what there is now.

        Parameters
        ----------
        runs
            Any that offer names, also of an earlier kernel; None: all of which names are awaited here.

        Returns
        -------
        A line for each run.
        """
        wanted = [offer.run for offer in self._open.values()] if runs is None else list(runs)
        return [self._collected(run) for run in wanted]

    def _collected(self, run: Run) -> str:
        offer = self._open.get(str(run.id))
        state = run.state
        if not state.is_final:
            names = f"{', '.join(offer.before)}: " if offer else ""
            return f"{names}run {run.name!r} is still {state.name}"
        if state.type is not StateType.COMPLETED:
            self._open.pop(str(run.id), None)
            return f"run {run.name!r} is {state.name} and assigns nothing"
        stored = run._stored()
        if not isinstance(stored, Offered):
            return f"run {run.name!r} offers no names"
        if offer is None:
            # asked for by name, so what the names were does not matter
            self._shell.user_ns.update(stored.names)
            return f"{', '.join(stored.names)}: assigned by run {run.name!r}"
        del self._open[str(run.id)]
        assigned = ", ".join(self._assign(offer, stored)) or "nothing"
        return f"{assigned}: assigned by run {run.name!r}"

    def _settle(self, offer: Offer) -> None:
        """Assign what a run gave that ended; say so if it gave nothing."""
        run = offer.run
        try:
            error = run.exception()
            if error is None:
                run.result()  # which calls `take`
        except NbtasksError as lost:
            error = lost
        if self._open.pop(str(run.id), None) is not None:
            names = ", ".join(offer.before)
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            _say(f"{names} not assigned: run {run.name!r} is {run.state.name} ({why})")

    def _assign(self, offer: Offer, given: Offered) -> list[str]:
        """Returns which names it were."""
        offer.notice(self._shell.user_ns)
        assigned = [name for name in offer.before if name not in offer.rebound and name in given.names]
        self._shell.user_ns.update({name: given.names[name] for name in assigned})
        if kept := [name for name in offer.before if name in offer.rebound]:
            _say(f"{', '.join(kept)} of run {offer.run.name!r} not assigned: bound anew since")
        return assigned


_of: WeakKeyDictionary[InteractiveShell, Offers] = WeakKeyDictionary()


def of(shell: InteractiveShell) -> Offers:
    """The offers of a shell; they outlive a reload of the extension."""
    if shell not in _of:
        _of[shell] = Offers(shell)
    return _of[shell]


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Assign before each cell; returns what ends that."""
    offers = of(shell)
    shell.events.register("pre_run_cell", offers.before_cell)
    offering.takers.append(offers.take)

    def take_back() -> None:
        shell.events.unregister("pre_run_cell", offers.before_cell)
        offering.takers.remove(offers.take)

    return take_back


def _say(text: str) -> None:
    print(f"nbtasks: {text}", file=sys.stderr)
