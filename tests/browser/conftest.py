"""One JupyterLab, one broker and one Chromium for all tests here; a tab and a kernel for each module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import nbtasks
from tests.browser.lab import Lab
from tests.browser.launching import context_of, launched
from tests.browser.notebook import HANG_MS, Notebook
from tests.homes import fresh_home

expect.set_options(timeout=HANG_MS)


@pytest.fixture(scope="package")
def broker_home() -> Iterator[Path]:
    """The home of the one broker; afterwards no process may be left of it, of JupyterLab and of Chromium."""
    with fresh_home() as home:
        yield home


@pytest.fixture(scope="package")
def lab(broker_home: Path) -> Iterator[Lab]:
    lab = Lab(broker_home.parent)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture(scope="package")
def browser(broker_home: Path) -> Iterator[Browser]:
    with launched(broker_home.parent) as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(lab: Lab, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    """The notebook of a module's tests, with a kernel of its own: a page takes longer to load than a test.

    A module whose tests are parametrized by `BOTH` has one in JupyterLab and one in Notebook 7.
    """
    ui = getattr(request, "param", "lab")
    name = request.module.__name__.rpartition(".")[2].removeprefix("test_") + f"-in-{ui}"
    lab.write(name, [])
    context = context_of(browser)
    yield Notebook(context, lab.page_url(name, ui), name)
    context.close()
    lab.end_kernels()
    lab.clear()


@pytest.fixture
def notebook(tab: Notebook, broker_home: Path) -> Iterator[Notebook]:
    """A notebook that has loaded nothing yet, or what a former test loaded.

    Afterwards its runs are cancelled, and the browser has complained of nothing.
    """
    yield tab
    with nbtasks.connect(broker_home, start=False) as client:
        client.cancel([run.id for run in client.runs() if not run.state.is_final])
    said, tab.complaints = tab.complaints, []
    assert "\n".join(said) == ""
