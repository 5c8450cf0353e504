"""How runs show themselves in IPython: HTML where it is drawn, and a text that is the same at each execution.

Formatters are registered with the shell instead of methods of `Run`, so that a script that never
loads the extension pays nothing for them and `repr` stays what a terminal needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from nbtasks import views
from nbtasks.client import Client
from nbtasks.errors import NbtasksError
from nbtasks.jupyter import still, widgets
from nbtasks.run import Run, RunList
from nbtasks.tasks import loglines

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

MISSING = object()


class RunTable:
    """What `%nbtasks runs` gives: the runs as they were when it was asked."""

    def __init__(self, runs: Iterable[Run], shell: InteractiveShell | None = None) -> None:
        self._rows = rows(runs)
        self._now_s = time.time()
        self._is_in_terminal = shell is not None and not _is_kernel(shell)

    def __repr__(self) -> str:
        return views.runs_text(self._rows, has_ids=self._is_in_terminal)

    def _repr_html_(self) -> str:
        return views.runs_html(self._rows, self._now_s)


class BoardView:
    """What `%nbtasks board` gives: the board as it is when it is displayed, and live where that is seen."""

    def __init__(self, client: Client, shell: InteractiveShell | None) -> None:
        self._client = client
        self._shell = shell

    def __repr__(self) -> str:
        counts = f"Board of {views.counts_text(self._client.board().counts)}"
        if self._shell is None or _is_kernel(self._shell):
            return counts
        # a terminal has nothing else to show
        table = views.runs_text(rows(self._client.runs(limit=20)), has_ids=True)
        return "\n".join([counts, *table.split("\n")[1:]])

    def _repr_html_(self) -> str:
        counts, now_s = self._client.status().counts, time.time()
        shown = rows(self._client.runs(limit=views.ROWS_MAX))
        return views.runs_html(shown, now_s, sum(counts.values()))

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return widgets.view_of_board(self._client) if widgets.is_live(self._shell) else {}


def rows(runs: Iterable[Run]) -> list[views.Row]:
    return [row(run) for run in runs]


def row(run: Run) -> views.Row:
    """Read a run; one whose broker is gone is shown with what is known without it."""
    try:
        return views.row(run)
    except NbtasksError as error:
        return views.Row(str(run.id), run.name, "", "state unknown", views.first_line(str(error)))


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Teach `shell` to display runs; returns what takes that back."""
    formatters: Any = shell.display_formatter.formatters if shell.display_formatter else {}
    html, plain = formatters["text/html"], formatters["text/plain"]
    live = shell.display_formatter.mimebundle_formatter if shell.display_formatter else None
    undo = [
        loglines.leave_to_displays(),
        _set(live, Run, lambda run: widgets.view_of_run(run) if widgets.is_live(shell) else {}),
        _set(live, RunList, lambda runs: widgets.view_of_runs(runs) if widgets.is_live(shell) else {}),
        _set(html, Run, lambda run: still.run_html(run, row(run))),
        _set(html, RunList, _runs_html),
    ]
    for kind in (list, tuple):
        undo.append(_set(html, kind, _html_of_plain(html.lookup_by_type(kind) if kind in html else None)))
    if _is_kernel(shell):
        # a terminal draws no HTML: there, repr says more
        undo.append(_set(plain, Run, lambda run, printer, cycle: printer.text(views.run_text(row(run)))))
        undo.append(_set(plain, RunList, _pretty_runs))

    def take_back() -> None:
        for step in reversed(undo):
            step()

    return take_back


def _runs_html(runs: Sequence[Run]) -> str:
    # what is not shown is not asked for: a list may hold 100,000 runs
    return views.runs_html(rows(runs[: views.ROWS_MAX]), time.time(), len(runs))


def _pretty_runs(runs: Sequence[Run], printer: Any, cycle: bool) -> None:
    names = sorted({run.name for run in runs})
    printer.text(f"RunList of {views.many(len(runs), 'run')}" + (f" of {', '.join(names)}" if names else ""))


def _html_of_plain(before: Callable[[Any], str | None] | None) -> Callable[[Any], str | None]:
    """Draw a list that holds nothing but runs; any other is left to whoever drew lists before."""

    def draw(items: Sequence[Any]) -> str | None:
        if items and type(items[0]) is Run and all(type(item) is Run for item in items):
            return _runs_html(items)
        return before(items) if before else None

    return draw


def _set(formatter: Any, kind: type, function: Callable[..., Any]) -> Callable[[], None]:
    before = formatter.type_printers.get(kind, MISSING)
    formatter.for_type(kind, function)

    def take_back() -> None:
        if formatter.type_printers.get(kind) is not function:
            return  # somebody registered after us: theirs stays
        if before is MISSING:
            formatter.pop(kind)
        else:
            formatter.for_type(kind, before)

    return take_back


def _is_kernel(shell: InteractiveShell) -> bool:
    return getattr(shell, "kernel", None) is not None
