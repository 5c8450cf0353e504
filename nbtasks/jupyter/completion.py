"""Tab completion after `%nbtasks`: its verbs, then the ids of runs where a run is meant.

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

from nbtasks.errors import NbtasksError
from nbtasks.jupyter import session
from nbtasks.jupyter.magics import VERBS

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

IDS_MAX = 50
TAKES_RUN = {"logs", "cancel"}


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Add the matcher to `shell`; returns what takes it away."""
    matchers = shell.Completer.custom_matchers
    matchers.append(match)

    def take_back() -> None:
        if match in matchers:
            matchers.remove(match)

    return take_back


@context_matcher()
def match(context: CompletionContext) -> SimpleMatcherResult:
    """Offer what may stand at the cursor of a `%nbtasks` line."""
    words = context.text_until_cursor.split(" ")
    if words[0] != "%nbtasks" or len(words) < 2:
        return {"completions": []}
    offered = list(VERBS) if len(words) == 2 else _run_ids() if words[1] in TAKES_RUN else []
    found = [SimpleCompletion(text, type="param") for text in offered if text.startswith(words[-1])]
    return {"completions": found, "matched_fragment": words[-1], "suppress": bool(found)}


def _run_ids() -> list[str]:
    try:
        return [str(run.id) for run in session.running().runs(limit=IDS_MAX)]
    except NbtasksError:
        return []
