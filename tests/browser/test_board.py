"""The board in JupyterLab: it counts, finds by a filter, and cancels from a row."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.cells import COUNTS, START
from tests.browser.lab import Lab
from tests.browser.notebook import HANG_MS, Notebook

pytestmark = pytest.mark.timeout(4 * HANG_MS / 1000)


@pytest.mark.feature("N6")
def test_the_board_counts_finds_and_cancels(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START.replace("hold", "watched"))
    board = notebook.run("%nbtasks board").output.get_by_role("region", name="nbtasks board")
    notebook.run("runs = watched.map(['counted'] * 3 + ['not'] * 2, deferred=True)")

    task = board.get_by_role("listitem").filter(has_text="watched")
    expect(task.get_by_role("img")).to_have_accessible_name("watched: 2 running, 3 pending")
    lab.touch("counted")
    expect(task).to_contain_text("3 of 5")
    expect(task.get_by_role("img")).to_have_accessible_name("watched: 3 completed, 2 running")

    rows = board.get_by_role("table").locator("tbody tr")
    board.get_by_role("searchbox", name="Filter runs").fill("watched running")
    expect(rows).to_have_count(2)
    rows.first.get_by_role("button", name="Cancel").click()

    expect(rows).to_have_count(1)
    board.get_by_role("searchbox", name="Filter runs").fill("watched cancelled")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("Cancelled")
    board.get_by_role("searchbox", name="Filter runs").fill("no such run")
    expect(board).to_contain_text("No run fits the filter.")
    notebook.run("runs.cancel(); runs.wait()")
    assert notebook.run(COUNTS).text() == "{'COMPLETED': 3, 'CANCELLED': 2}"
