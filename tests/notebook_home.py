"""A pytest plugin (`-p tests.notebook_home`): the notebooks run under it share a home that ends with them."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.homes import fresh_home


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    with fresh_home():
        return (yield)
