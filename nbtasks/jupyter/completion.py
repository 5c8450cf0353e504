"""Tab completion after `%nbtasks`: its verbs, then their options, ids of runs, names of tasks or states.

Asks the broker only where ids are wanted, only if it runs, and for the newest runs only: completion
must never start anything or make the user wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from IPython.core.completer import (
    CompletionContext,
    SimpleCompletion,
    SimpleMatcherResult,
    context_matcher,
)

from nbtasks.core.states import State
from nbtasks.errors import NbtasksError
from nbtasks.jupyter import completion_cells, session
from nbtasks.jupyter.magics import OPTIONS, VERBS

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

IDS_MAX = 50
TAKES_RUN = {"logs", "cancel", "attach", "collect"}


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Add the matchers to `shell`; returns what takes them away."""
    matchers = shell.Completer.custom_matchers
    ours = [match, completion_cells.matcher(shell)]
    matchers += ours

    def take_back() -> None:
        for one in ours:
            if one in matchers:
                matchers.remove(one)

    return take_back


@context_matcher()
def match(context: CompletionContext) -> SimpleMatcherResult:
    """Offer what may stand at the cursor of a `%nbtasks` line."""
    words = context.text_until_cursor.split(" ")
    if words[0] != "%nbtasks" or len(words) < 2:
        return {"completions": []}
    offered = _offered(words[1:])
    found = [SimpleCompletion(text, type="param") for text in offered if text.startswith(words[-1])]
    return {"completions": found, "matched_fragment": words[-1], "suppress": bool(found)}


def _offered(words: list[str]) -> list[str]:
    """What may stand in the place of the last of these words."""
    if len(words) == 1:
        return list(VERBS)
    verb, before = words[0], words[-2]
    options = list(OPTIONS.get(verb, ()))
    if before in options and before in _VALUES:
        return _VALUES[before]()
    return _run_ids() if verb in TAKES_RUN and not words[-1].startswith("-") else options


def _task_names() -> list[str]:
    try:
        return sorted({task.name for task in session.running().board().tasks if task.name})
    except NbtasksError:
        return []


def _states() -> list[str]:
    return [state.value for state in State]


_VALUES: dict[str, Callable[[], list[str]]] = {"--task": _task_names, "--state": _states}


def _run_ids() -> list[str]:
    try:
        return [str(run.id) for run in session.running().runs(limit=IDS_MAX)]
    except NbtasksError:
        return []
