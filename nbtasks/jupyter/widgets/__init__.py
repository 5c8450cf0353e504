"""Live widgets of runs, lists of runs and the board; each is a view of what the client hears.

Nothing here is loaded until a kernel with a front end displays one of them: ipywidgets costs more
than the rest of nbtasks. What cannot be shown live is left to text and HTML.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbtasks.client import Client
from nbtasks.errors import NbtasksError
from nbtasks.live.homes import digest
from nbtasks.run import Run

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

VIEW = "application/vnd.jupyter.widget-view+json"
CARD = "application/vnd.nbtasks.card+json"  # for our extension of JupyterLab, once the model is gone


def is_live(shell: InteractiveShell | None, variables: Mapping[str, str] = os.environ) -> bool:
    """Whether somebody may look at a widget of this shell.

    Tools that execute notebooks (nbclient, nbval, papermill) start kernels without a Jupyter server: what
    they keep is text and HTML. `NBTASKS_WIDGETS` = 0 or 1 says otherwise.
    """
    if getattr(shell, "kernel", None) is None:
        return False
    said = variables.get("NBTASKS_WIDGETS", "")
    if said:
        return said != "0"
    return "JPY_SESSION_NAME" in variables or any(name.startswith("VSCODE_") for name in variables)


def view_of_run(run: Run) -> dict[str, Any]:
    """The mime data of a widget on `run`; empty if there is nothing to be watched."""
    if run._state_type is not None or not isinstance(run._client, Client):
        return {}
    return _view("run", run._client, run)


def view_of_runs(runs: Sequence[Run]) -> dict[str, Any]:
    """The mime data of a bar of `runs`; empty if they have ended, or are of several brokers."""
    clients = {id(run._client): run._client for run in runs}
    if len(clients) != 1 or all(run._state_type is not None for run in runs):
        return {}
    [client] = clients.values()
    return _view("list", client, runs) if isinstance(client, Client) else {}


def view_of_board(client: Client) -> dict[str, Any]:
    return _view("board", client, None)


def close_all() -> None:
    """Close every widget, if there ever was one."""
    deck = sys.modules.get(f"{__name__}.deck")
    if deck is not None:
        deck.close_all()


def _view(kind: str, client: Client, subject: Any) -> dict[str, Any]:
    try:
        from nbtasks.jupyter.widgets import deck
    except ImportError:
        return {}  # an environment that lost anywidget: text and HTML say it as well
    try:
        card = deck.card(kind, client, subject)
    except NbtasksError:
        return {}  # nothing can be heard of it now
    if card is None:
        return {}
    told = {"kind": kind, "home": digest(client.home), **({"run": subject._run} if kind == "run" else {})}
    return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": card.model_id}, CARD: told}
