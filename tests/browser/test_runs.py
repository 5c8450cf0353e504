"""What a user does with runs in JupyterLab: looks, clicks, presses keys, also while the kernel is busy."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.cells import BUSY, COUNTS, FAILURE, FIGURE, FLAKY, START
from tests.browser.lab import Lab
from tests.browser.notebook import HANG_MS, Notebook

pytestmark = pytest.mark.timeout(4 * HANG_MS / 1000)


@pytest.fixture(autouse=True)
def started(notebook: Notebook) -> None:
    notebook.run(START)


@pytest.mark.feature("N1", "N5")
def test_a_run_is_seen_to_end_while_another_cell_is_busy(notebook: Notebook, lab: Lab) -> None:
    shown = notebook.run("run = hold.delay('go')\nrun").run_view("hold")
    busy = notebook.start(BUSY.format("done"))

    expect(shown).to_have_attribute("data-state", "RUNNING")
    lab.touch("go")
    expect(shown).to_have_attribute("data-state", "COMPLETED")
    expect(busy.box).to_contain_text("[*]")

    lab.touch("done")
    busy.wait()
    assert notebook.run("run.result()").text() == "'go came'"


@pytest.mark.feature("N5")
def test_a_click_on_cancel_is_seen_to_act_while_another_cell_is_busy(notebook: Notebook, lab: Lab) -> None:
    cell = notebook.run("run = hold.delay('never')\nrun")
    busy = notebook.start(BUSY.format("cancelled"))
    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")

    cell.button("Cancel").click()

    expect(cell.run_view("hold")).to_have_attribute("data-state", "CANCELLED")
    expect(cell.button("Cancel")).to_have_count(0)
    expect(busy.box).to_contain_text("[*]")
    lab.touch("cancelled")
    busy.wait()
    assert notebook.run("run.state.name").text() == "'Cancelled'"


@pytest.mark.feature("N5")
@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_cancel_is_reached_and_pressed_by_keys(notebook: Notebook, key: str) -> None:
    cell = notebook.run("run = hold.delay('never')\nrun")
    expect(cell.run_view("hold")).to_have_attribute("data-state", "RUNNING")
    button = cell.button("Cancel")

    cell.focus()
    notebook.tab_to(button)
    notebook.page.keyboard.press(key)

    expect(cell.run_view("hold")).to_have_attribute("data-state", "CANCELLED")


@pytest.mark.feature("N5")
def test_a_map_is_one_bar_whose_runs_are_cancelled_together(notebook: Notebook, lab: Lab) -> None:
    cell = notebook.run("runs = hold.map(['first', *['never'] * 5], deferred=True)\nruns")
    shown = cell.output.get_by_role("group", name="hold: ")
    lab.touch("first")
    expect(shown).to_contain_text("1 completed")

    cell.button("Cancel all").click()

    expect(shown).to_contain_text("5 cancelled")
    expect(shown).to_have_attribute("data-state", "ended")
    assert notebook.run(COUNTS).text() == "{'COMPLETED': 1, 'CANCELLED': 5}"


@pytest.mark.feature("N4", "N5")
def test_output_is_seen_while_the_run_goes_on(notebook: Notebook, lab: Lab) -> None:
    shown = notebook.run("run = hold.delay('later')\nrun").run_view("hold")
    expect(shown.get_by_role("group", name="The end of the output of hold")).to_have_text("waiting for later")
    expect(shown).to_have_attribute("data-state", "RUNNING")

    lab.touch("later")

    expect(shown).to_contain_text("returned 'later came'")


@pytest.mark.feature("N4")
def test_a_figure_and_an_error_are_shown_in_the_widget(notebook: Notebook) -> None:
    drawn = notebook.run(FIGURE).run_view("draw")
    failed = notebook.run(FAILURE).run_view("divide")

    expect(drawn.get_by_role("img")).to_be_visible()
    expect(failed).to_have_attribute("data-state", "FAILED")
    expect(failed.get_by_role("group", name="The end of the output of divide")).to_contain_text(
        "ZeroDivisionError"
    )
    expect(failed).to_contain_text("division by zero")


@pytest.mark.feature("N5", "R5")
def test_a_run_that_failed_is_called_again_by_its_button(notebook: Notebook, lab: Lab) -> None:
    cell = notebook.run(FLAKY)
    expect(cell.run_view("flaky")).to_have_attribute("data-state", "FAILED")
    lab.touch("repaired")

    cell.button("Rerun").click()

    expect(cell.run_view("flaky")).to_have_attribute("data-state", "COMPLETED")
    expect(cell.run_view("flaky")).to_contain_text("rerun of")
