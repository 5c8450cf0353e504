"""What is left of a run when its page is closed or loaded again, or its kernel restarted; in both UIs."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.cells import START
from tests.browser.lab import Lab
from tests.browser.notebook import BOTH, HANG_MS, Notebook

pytestmark = [pytest.mark.timeout(4 * HANG_MS / 1000), BOTH]


@pytest.mark.feature("N4", "N5")
def test_a_widget_lives_on_in_a_page_that_is_loaded_again(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START)
    cell = notebook.run("run = hold.delay('reloaded')\nrun")
    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")
    notebook.save()

    notebook.load()

    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")
    lab.touch("reloaded")
    expect(cell.run_view("hold")).to_have_attribute("data-state", "COMPLETED")


@pytest.mark.feature("N4")
def test_output_is_kept_while_no_page_is_open(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START)
    cell = notebook.run("run = hold.delay('closed')\nrun")
    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")
    notebook.save()

    notebook.close_tab()
    lab.touch("closed")
    notebook.open_tab()

    expect(cell.run_view("hold")).to_have_attribute("data-state", "COMPLETED")
    assert notebook.run("run.result()").text() == "'closed came'"
    assert "waiting for closed" in notebook.run("run.show()").text()


@pytest.mark.feature("N1", "N4")
def test_a_result_is_collected_by_a_kernel_that_was_restarted(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START)
    cell = notebook.run("run = hold.delay('restarted')\nrun")
    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")
    run = notebook.run("print(run.id)").text().strip()

    notebook.save()
    notebook.restart_kernel()
    assert {"text/plain", "text/html"} <= set(cell.outputs()[-1]["data"])
    lab.touch("restarted")

    notebook.run("%load_ext nbtasks\nimport nbtasks")
    assert notebook.run(f"nbtasks.get_run('{run}').result()").text() == "'restarted came'"
    assert "waiting for restarted" in notebook.run(f"%nbtasks logs {run}").text()


@pytest.mark.feature("N4", "N5")
def test_a_run_is_watched_on_without_the_kernel_that_showed_it(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START)
    cell = notebook.run("run = hold.delay('orphaned')\nrun")
    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")
    notebook.save()

    notebook.restart_kernel()
    expect(cell.output.locator("[data-nbtasks=run]")).to_have_count(1)
    expect(cell.output.get_by_text("The kernel that showed this is gone")).to_be_hidden()
    notebook.load()

    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")
    expect(cell.output.get_by_text("Error displaying widget")).to_have_count(0)
    cell.button("Cancel").click()
    expect(cell.run_view("hold")).to_have_attribute("data-state", "CANCELLED")
    lab.touch("orphaned")
    cell.button("Rerun").click()
    expect(cell.run_view("hold")).to_have_attribute("data-state", "COMPLETED")
    expect(cell.run_view("hold")).to_contain_text("returned 'orphaned came'")


@pytest.mark.feature("N4", "N5")
def test_a_run_is_watched_on_after_its_kernel_was_shut_down(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START)
    cell = notebook.run("run = hold.delay('left')\nrun")
    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")

    notebook.shut_kernel_down()
    lab.touch("left")

    expect(cell.run_view("hold")).to_have_attribute("data-state", "COMPLETED")
