"""The extension of JupyterLab: the board beside the notebooks, before any of them has loaded anything."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.cells import START
from tests.browser.lab import Lab
from tests.browser.notebook import HANG_MS, Notebook

pytestmark = pytest.mark.timeout(4 * HANG_MS / 1000)

SIDEBAR = '.jp-SideBar [data-id="nbtasks-side"]'


@pytest.mark.feature("S5")
def test_the_board_is_in_the_sidebar_and_opens_from_the_launcher(notebook: Notebook, lab: Lab) -> None:
    page = notebook.page
    page.locator(SIDEBAR).click()
    side = page.locator("#nbtasks-side")

    notebook.run(START.replace("hold", "aside"))
    notebook.run("run = aside.delay('beside')")
    task = side.get_by_role("listitem").filter(has_text="aside")
    expect(task.get_by_role("img")).to_have_accessible_name("aside: 1 running")

    page.evaluate("() => void jupyterapp.commands.execute('launcher:create')")
    page.locator(".jp-LauncherCard", has_text="nbtasks board").click()
    board = page.locator("#nbtasks-board").get_by_role("region", name="nbtasks board")
    board.get_by_role("button", name="aside").first.click()
    expect(board).to_contain_text("waiting for beside")
    with page.context.expect_page() as opened:
        board.get_by_role("link", name="All about this run").click()
    expect(opened.value.get_by_role("group", name="Run aside:")).to_have_attribute("data-state", "RUNNING")
    opened.value.close()
    lab.touch("beside")
    expect(task.get_by_role("img")).to_have_accessible_name("aside: 1 completed")
    page.locator(SIDEBAR).click()
    expect(side).to_be_hidden()
    notebook.page.evaluate("(id) => jupyterapp.shell.activateById(id)", "nbtasks-board")


def test_the_palette_knows_the_board_and_the_page(notebook: Notebook) -> None:
    labels = "(ids) => ids.map((id) => jupyterapp.commands.label(id))"

    assert notebook.page.evaluate(labels, ["nbtasks:open-board", "nbtasks:open-page"]) == [
        "Background runs: board",
        "Background runs: page in a new browser tab",
    ]
