"""Fixtures of the tests that start real processes; none is used unless it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.homes import fresh_home


@pytest.fixture
def home() -> Iterator[Path]:
    """A fresh home in the environment; afterwards its broker is stopped and no process may be left."""

    with fresh_home() as path:
        yield path


@pytest.fixture(scope="module")
def house() -> Iterator[tuple[Any, Any]]:
    """One broker and two workers for the tests of a module."""
    import nbtasks

    with fresh_home() as path, nbtasks.connect(path) as client:
        yield client, client.start_workers(2)


def _shares(request: pytest.FixtureRequest) -> bool:
    names = request.fixturenames
    return getattr(request.module, "SHARES_WORKERS", False) and "workers" in names and "home" not in names


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A client of a broker of its own; `.delay()` in the test goes there.

    In a module with `SHARES_WORKERS = True` the tests that ask for `workers`, and not for `home`, have broker
    and workers together: starting and ending them takes longer than most of these tests.
    """
    import nbtasks

    if _shares(request):
        client, _ = request.getfixturevalue("house")
        yield client
        client.cancel([run.id for run in client.runs() if not run.state.is_final])
        return
    with nbtasks.connect(request.getfixturevalue("home")) as client:
        yield client


@pytest.fixture
def workers(request: pytest.FixtureRequest, client: Any) -> Any:
    """A pool of two generic workers."""
    if _shares(request):
        return request.getfixturevalue("house")[1]
    return client.start_workers(2)
