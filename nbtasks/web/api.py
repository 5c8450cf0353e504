"""What the REST API answers: plain data as the command line prints it, of one client. No server in here.

Fields are those of `nbtasks … -o json`, which scripts rely on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from nbtasks import details, views
from nbtasks.client import Client
from nbtasks.errors import BrokerUnavailable, NbtasksError, UnknownRun

LIMIT_MAX = 1000  # runs in one answer

Query = Mapping[str, str]


class Problem(Exception):
    """A request that gets an error; `status` is one of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Route(NamedTuple):
    verb: str
    path: re.Pattern[str]
    answer: Callable[..., Any]


def answer(client: Client, verb: str, path: str, query: Query) -> Any:
    """What is sent as JSON.

    Parameters
    ----------
    path
        Behind `api/`, without a slash at either end.

    Raises
    ------
    Problem
        There is no such thing, it cannot be done now, or no broker.
    """
    fitting = [(route, match) for route in _ROUTES if (match := route.path.fullmatch(path))]
    if not fitting:
        raise Problem(404, f"there is no {path!r} here")
    allowed = {route.verb: (route, match) for route, match in fitting}
    if verb not in allowed:
        raise Problem(405, f"{path!r} takes {', '.join(allowed)}, not {verb}")
    route, match = allowed[verb]
    try:
        return route.answer(client, query, **match.groupdict())
    except UnknownRun as error:
        raise Problem(404, str(error)) from None
    except BrokerUnavailable as error:
        raise Problem(503, str(error)) from None
    except (ValueError, TypeError) as error:
        raise Problem(400, str(error)) from None
    except (NbtasksError, TimeoutError) as error:
        raise Problem(409, str(error)) from None


def _status(client: Client, query: Query) -> dict[str, Any]:
    return details.status_record(client.status())


def _runs(client: Client, query: Query) -> list[dict[str, Any]]:
    if unknown := set(query) - {"state", "task", "tag", "limit"}:
        raise ValueError(f"runs are found by state, task, tag and limit, not by {', '.join(sorted(unknown))}")
    limit = query.get("limit", "100")
    if not limit.isdecimal() or not 1 <= int(limit) <= LIMIT_MAX:
        raise ValueError(f"limit is a number from 1 to {LIMIT_MAX}, not {limit!r}")
    found = client.runs(query.get("state"), query.get("task"), query.get("tag"), int(limit))
    return [views.record(views.row(run)) for run in found]


def _run(client: Client, query: Query, run: str) -> dict[str, Any]:
    return details.run_record(client.get_run(_id(run)))


def _output(client: Client, query: Query, run: str) -> list[dict[str, Any]]:
    """All that is kept of its output, as outputs of a notebook."""
    return client.get_run(_id(run)).output


def _cancel(client: Client, query: Query, run: str) -> dict[str, Any]:
    found = client.get_run(_id(run))
    client.cancel([found.id])
    return {"id": str(found.id), "state": found.state.name}


def _rerun(client: Client, query: Query, run: str) -> dict[str, Any]:
    return {"id": str(client.get_run(_id(run)).rerun().id)}


def _id(run: str) -> UUID:
    try:
        return UUID(run)
    except ValueError:
        raise UnknownRun(f"{run!r} is not the id of a run") from None


_ONE = r"runs/(?P<run>[^/]+)"
_ROUTES = [
    _Route(verb, re.compile(path), answers)
    for verb, path, answers in (
        ("GET", "status", _status),
        ("GET", "runs", _runs),
        ("GET", _ONE, _run),
        ("GET", f"{_ONE}/output", _output),
        ("POST", f"{_ONE}/cancel", _cancel),
        ("POST", f"{_ONE}/rerun", _rerun),
    )
]
