"""The page of a home in a browser, as `nbtasks dashboard` serves it: from the board to a run and back."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

import nbtasks
from tests.browser.launching import context_of
from tests.browser.notebook import HANG_MS
from tests.homes import fresh_home
from tests.system.tasks import double, say_and_hold

pytestmark = pytest.mark.timeout(4 * HANG_MS / 1000)
EVIL = "<img src=x onerror=window.evil=1>"


class Dashboard:
    """A process that serves the page; it can be ended and started again at its address."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        code = "from nbtasks.cli import main; main(prog_name='nbtasks')"
        command = [sys.executable, "-c", code, "dashboard", "--port", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        found = re.search(r"(http://[^:]+:(\d+)/)\S+", self._process.stdout.readline())
        assert found
        self.link, self.url, self.port = found[0], found[1], int(found[2])

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate()


@pytest.fixture(scope="module")
def dashboard() -> Iterator[Dashboard]:
    with fresh_home(), nbtasks.connect() as client:
        client.start_workers(1)
        dashboard = Dashboard()
        yield dashboard
        dashboard.end()


@pytest.fixture
def page(dashboard: Dashboard, browser: Browser) -> Iterator[Page]:
    """A browser that the link has let in; it may have complained of nothing."""
    complaints: list[str] = []
    context = context_of(browser)
    page = context.new_page()
    page.set_default_timeout(HANG_MS)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(dashboard.link)
    yield page
    assert page.evaluate("window.evil") is None
    context.close()
    assert complaints == []


def violations(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['help']} ({each['nodes'][0]['html']})" for each in found]


@pytest.mark.feature("S1", "S2")
def test_a_run_is_followed_from_the_board_to_its_page(
    page: Page, dashboard: Dashboard, tmp_path: Path
) -> None:
    run = nbtasks.task(say_and_hold, name="followed").delay(EVIL, str(tmp_path / "go"))
    board = page.get_by_role("region", name="nbtasks board")
    board.get_by_role("button", name="followed").first.click()
    expect(board).to_contain_text(EVIL)

    board.get_by_role("link", name="All about this run").click()

    expect(page).to_have_url(f"{dashboard.url}runs/task-run/{run.id}")
    card = page.get_by_role("group", name="Run followed:")
    expect(card).to_have_attribute("data-state", "RUNNING")
    expect(page.get_by_role("row", name="1 running")).to_be_visible()
    (tmp_path / "go").touch()
    expect(card).to_have_attribute("data-state", "COMPLETED")
    expect(page).to_have_title("✓ followed · nbtasks")
    expect(page.get_by_role("cell", name=f"{EVIL!r}")).to_be_visible()
    expect(page.get_by_role("cell", name="Pending")).to_be_visible()
    page.get_by_text("All of its output").click()
    expect(page.locator(".nbp-output")).to_contain_text(f"{EVIL}\nreleased")
    page.get_by_role("link", name="All runs").click()
    expect(board).to_contain_text("followed")
    page.go_back()
    expect(card).to_have_attribute("data-state", "COMPLETED")


def test_a_rerun_takes_the_page_to_the_new_run(page: Page, dashboard: Dashboard) -> None:
    run = nbtasks.task(double, name="twice").delay("a")
    page.goto(f"{dashboard.url}runs/task-run/{run.id}")
    card = page.get_by_role("group", name="Run twice:")
    expect(card).to_contain_text("returned 'aa'")

    card.get_by_role("button", name="Rerun").click()

    expect(card).to_contain_text("rerun of")
    expect(page).not_to_have_url(f"{dashboard.url}runs/task-run/{run.id}")
    [new] = [one for one in nbtasks.runs(task="twice") if one.id != run.id]
    expect(page).to_have_url(f"{dashboard.url}runs/task-run/{new.id}")
    expect(page.locator(".nbp-facts")).to_contain_text(str(new.id))


def test_what_cannot_be_shown_is_said(page: Page, dashboard: Dashboard) -> None:
    page.goto(f"{dashboard.url}runs/task-run/00000000-0000-7000-8000-000000000000")

    expect(page.get_by_text("no run 00000000-0000-7000-8000-000000000000 is recorded")).to_be_visible()


def test_a_page_goes_on_when_its_server_was_started_again(page: Page, dashboard: Dashboard) -> None:
    board = page.get_by_role("region", name="nbtasks board")
    expect(board).to_be_visible()

    dashboard.end()
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    nbtasks.task(double, name="meanwhile").delay(1)
    dashboard.start()

    expect(page.get_by_text("The server does not answer")).to_be_hidden()
    expect(board.get_by_role("button", name="meanwhile").first).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 380])
def test_the_page_can_be_read_in_any_light_and_on_a_telephone(
    page: Page, dashboard: Dashboard, scheme: str, width: int
) -> None:
    run = nbtasks.task(double, name="seen", tags={"a"}).delay("b" * 150)
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{dashboard.url}runs/task-run/{run.id}")

    expect(page.locator(".nbp-facts")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    page.get_by_role("link", name="All runs").click()
    expect(page.get_by_role("region", name="nbtasks board")).to_contain_text("seen")
    assert violations(page) == []
