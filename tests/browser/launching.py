"""Chromium as tests and pictures start it: the system's own, with a fresh HOME, fetching nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from tests.browser import chromium

# A container's /dev/shm may be too small, its user may have no namespaces, and nothing is to be fetched.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def launched(home: Path) -> Iterator[Browser]:
    """A browser whose HOME is `home`."""
    path = chromium.find()
    assert path, chromium.missing()
    with sync_playwright() as playwright:
        variables = {**os.environ, "HOME": str(home)}
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, env=variables)
        try:
            yield browser
        finally:
            browser.close()


def context_of(browser: Browser, width: int = 1200, height: int = 900) -> BrowserContext:
    """A profile without a past; the page is as large as said."""
    return browser.new_context(viewport={"width": width, "height": height})
