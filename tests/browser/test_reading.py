"""What a screen reader says and keys reach: the rules of axe hold for all that outputs show."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.cells import FAILURE, FIGURE, START
from tests.browser.lab import Lab
from tests.browser.notebook import HANG_MS, Notebook

pytestmark = pytest.mark.timeout(4 * HANG_MS / 1000)

OUTPUTS = ".jp-OutputArea-output"
THEMES = ("JupyterLab Light", "JupyterLab Dark")


def violations(notebook: Notebook) -> list[str]:
    """What axe finds in the outputs, with the elements that it found it in."""
    found = Axe().run(notebook.page, context={"include": [[OUTPUTS]]}).response["violations"]
    return [f"{each['id']}: {each['help']} ({each['nodes'][0]['html']})" for each in found]


@pytest.mark.feature("N5")
def test_what_outputs_show_can_be_read_aloud_and_reached_by_keys(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START)
    live = notebook.run("run = hold.delay('later')\nrun").run_view("hold")
    expect(live).to_contain_text("waiting for later")
    expect(notebook.run(FIGURE).run_view("draw").get_by_role("img")).to_be_visible()
    expect(notebook.run(FAILURE).run_view("divide")).to_have_attribute("data-state", "FAILED")
    notebook.run("runs = hold.map(['later'] * 3, deferred=True)\nruns")
    board = notebook.run("%nbtasks board").output.get_by_role("region", name="nbtasks board")
    expect(board).to_contain_text("hold")
    board.get_by_role("button", name="hold").first.click()

    for theme in THEMES:
        notebook.set_theme(theme)
        assert violations(notebook) == []

    lab.touch("later")
    expect(live).to_have_attribute("data-state", "COMPLETED")
    assert violations(notebook) == []
