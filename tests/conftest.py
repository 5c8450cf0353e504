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


@pytest.fixture
def client(home: Path) -> Iterator[Any]:
    """A client of a broker of its own; `.delay()` in the test goes there."""
    import nbtasks

    with nbtasks.connect(home) as client:
        yield client


@pytest.fixture
def workers(client: Any) -> Any:
    """A pool of two generic workers."""
    return client.start_workers(2)
