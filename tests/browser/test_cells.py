"""Cells that are offloaded, in both front ends: they run elsewhere, and the names they make come back."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.cells import BUSY, OFFLOADED, START
from tests.browser.lab import Lab
from tests.browser.notebook import BOTH, HANG_MS, Notebook

pytestmark = [pytest.mark.timeout(4 * HANG_MS / 1000), BOTH]


@pytest.mark.feature("N2", "N3", "N5")
def test_an_offloaded_cell_ends_while_another_is_busy_and_its_name_comes_back(
    notebook: Notebook, lab: Lab
) -> None:
    notebook.run(START)
    notebook.run("factor = 3")
    shown = notebook.run(OFFLOADED.format("offload")).run_view("scaled")
    busy = notebook.start(BUSY.format("offloaded"))

    expect(shown).to_have_attribute("data-state", "RUNNING")
    expect(shown).to_contain_text("scaling")
    lab.touch("offload")
    expect(shown).to_have_attribute("data-state", "COMPLETED")
    expect(busy.box).to_contain_text("[*]")

    lab.touch("offloaded")
    busy.wait()
    assert notebook.run("total").text() == "42"


@pytest.mark.feature("N1", "N3", "N4")
def test_a_restarted_kernel_collects_what_an_offloaded_cell_made(notebook: Notebook, lab: Lab) -> None:
    notebook.run(START)
    notebook.run("factor = 3")
    shown = notebook.run(OFFLOADED.format("collect")).run_view("scaled")
    expect(shown).to_have_attribute("data-state", "RUNNING")
    run = shown.get_attribute("data-run")

    notebook.restart_kernel()
    lab.touch("collect")
    notebook.run("%load_ext nbtasks")
    attached = notebook.run(f"%nbtasks attach {run}").output

    expect(attached).to_contain_text("Completed")
    notebook.run(f"%nbtasks collect {run}")
    assert notebook.run("total").text() == "42"
