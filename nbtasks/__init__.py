"""Background tasks for notebooks.

Make a function a task with `task`, run it with `Task.delay`, `Task.map` or `Task.apply_async`, and get what
became of it from the `Run`.

.. include:: ../docs/coming_from.md
"""

# The only place where parts are wired together. Names are imported when they are used, so that
# `import nbtasks` costs next to nothing.

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nbtasks.context import current_run, progress, set_default, tags
from nbtasks.core.version import VERSION as __version__

if TYPE_CHECKING:
    from nbtasks import cache_policies, states, testing
    from nbtasks.client import Client, Pool, connect
    from nbtasks.errors import (
        BrokerUnavailable,
        CancelledRun,
        CrashedRun,
        Detached,
        FailedCell,
        FailedRun,
        NbtasksError,
        NotPicklable,
        QueueFull,
        Restarted,
        ResultCorrupt,
        SubmitUnknown,
        TimedOut,
        UnknownRun,
        UpstreamFailed,
        ValueTooLarge,
        VersionMismatch,
        WouldDeadlock,
    )
    from nbtasks.notebooks import ExecutedNotebook, notebook_task
    from nbtasks.pickling import allow_failure, quote
    from nbtasks.run import Run, RunList, as_completed, get_run, runs, wait
    from nbtasks.runners import ThreadPoolTaskRunner
    from nbtasks.runners.dask import DaskTaskRunner
    from nbtasks.runners.processes import ProcessPoolTaskRunner
    from nbtasks.tasks import (
        Task,
        concurrency,
        exponential_backoff,
        get_run_logger,
        limit,
        limits,
        rate_limit,
        serve,
        task,
        unmapped,
    )

__all__ = [
    "BrokerUnavailable",
    "CancelledRun",
    "Client",
    "CrashedRun",
    "DaskTaskRunner",
    "Detached",
    "ExecutedNotebook",
    "FailedCell",
    "FailedRun",
    "NbtasksError",
    "NotPicklable",
    "Pool",
    "ProcessPoolTaskRunner",
    "QueueFull",
    "Restarted",
    "ResultCorrupt",
    "Run",
    "RunList",
    "SubmitUnknown",
    "Task",
    "ThreadPoolTaskRunner",
    "TimedOut",
    "UnknownRun",
    "UpstreamFailed",
    "ValueTooLarge",
    "VersionMismatch",
    "WouldDeadlock",
    "__version__",
    "allow_failure",
    "as_completed",
    "cache_policies",
    "concurrency",
    "connect",
    "current_run",
    "exponential_backoff",
    "get_run",
    "get_run_logger",
    "limit",
    "limits",
    "load_ipython_extension",
    "notebook_task",
    "progress",
    "quote",
    "rate_limit",
    "runs",
    "serve",
    "states",
    "tags",
    "task",
    "testing",
    "unload_ipython_extension",
    "unmapped",
    "wait",
]

_MODULES = {"cache_policies", "states", "testing"}
_PARTS = {
    "client": {"Client", "Pool", "connect"},
    "notebooks": {"ExecutedNotebook", "notebook_task"},
    "pickling": {"allow_failure", "quote"},
    "run": {"Run", "RunList", "as_completed", "get_run", "runs", "wait"},
    "runners": {"ThreadPoolTaskRunner"},
    "runners.dask": {"DaskTaskRunner"},
    "runners.processes": {"ProcessPoolTaskRunner"},
    "tasks": {
        "Task",
        "concurrency",
        "exponential_backoff",
        "get_run_logger",
        "limit",
        "limits",
        "rate_limit",
        "serve",
        "task",
        "unmapped",
    },
}


def _found(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nbtasks' has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"nbtasks.{name}")
    part = next((part for part, names in _PARTS.items() if name in names), "errors")
    value = getattr(importlib.import_module(f"nbtasks.{part}"), name)
    globals()[name] = value
    return value


if not TYPE_CHECKING:
    __getattr__ = _found  # to a type checker it would say that there is every name


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _default_client() -> Any:
    from nbtasks.client import default_client

    return default_client()


# tasks and runs talk to this client unless `connect` says otherwise, also in a worker
set_default(_default_client)


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext nbtasks` does."""
    from nbtasks.jupyter import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext nbtasks` does."""
    from nbtasks.jupyter import unload_ipython_extension as unload

    unload(shell)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """How a Jupyter server finds its extension."""
    return [{"module": "nbtasks"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """What a Jupyter server does with it: serve the page of the home."""
    from nbtasks.web.jupyter import load

    load(server)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where JupyterLab and Notebook find theirs."""
    return [{"src": "web/labextensions/nbtasks", "dest": "nbtasks"}]
