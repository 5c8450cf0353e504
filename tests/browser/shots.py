"""`make screenshots`: pictures of a notebook in JupyterLab, light and dark, in build/screenshots.

They are for people to look at; no test compares them. The first part, light, is what the README shows,
so it is written to docs/notebook.png as well.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import BrowserContext, Locator, expect

from tests.browser.lab import Lab
from tests.browser.launching import context_of, launched
from tests.browser.notebook import HANG_MS, Notebook
from tests.homes import fresh_home

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "screenshots"
BYTES_MAX = 200_000  # of the README's picture
WIDTH, HEIGHT = 960, 1560
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

# What the notebook imports: steps of a descent, the last of which wait until a file says that they may come.
STEPS = """
import time
from pathlib import Path

def step(epoch):
    while epoch > 28 and not Path("go").exists():
        time.sleep(0.02)
    return [1 / epoch, 0.5], 0.8 / epoch
"""
START = """
%load_ext nbtasks
%nbtasks start -w 2

import matplotlib.pyplot as plt
import numpy as np
from nbtasks import progress, task
from steps import step

x = np.linspace(0, 6, 120)
"""
DONE = """
%%delay -n fit
y = np.sin(x) + np.random.default_rng(5).normal(0, 0.15, x.size)
curve = np.polynomial.Polynomial.fit(x, y, 5)
plt.figure(figsize=(6, 1.7))
plt.plot(x, y, ".", x, curve(x))
plt.show()
float(abs(y - curve(x)).mean())
"""
LIVE = """
%%delay -n train -o model
for epoch in range(1, 41):
    model, loss = step(epoch)
    progress(epoch, 40)
    if epoch % 4 == 0:
        print(f"epoch {epoch:2d}: loss {loss:.3f}")
"""
BROKEN = """
%%delay -n average
kept = [value for value in x if value > 6]
sum(kept) / len(kept)
"""
MAP = """
@task
def square(number):
    if number > 5:
        step(40)
    return number * number

square.map(range(12), deferred=True)
"""


class Shooting:
    """A notebook with all there is to be seen, and a folder for its pictures."""

    def __init__(self, lab: Lab, context: BrowserContext) -> None:
        (lab.folder / "steps.py").write_text(STEPS)
        lab.write("Background tasks", [])
        self._lab = lab
        self._notebook = Notebook(context, lab.page_url("Background tasks"), "Background tasks")
        self._notebook.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")

    def take(self) -> None:
        notebook = self._notebook
        notebook.run(START.strip())
        done = notebook.run(DONE.strip()).run_view("fit")
        expect(done).to_have_attribute("data-state", "COMPLETED")
        live = notebook.run(LIVE.strip()).run_view("train")
        expect(live).to_contain_text("28 of 40")
        bad = notebook.run(BROKEN.strip()).run_view("average")
        expect(bad).to_have_attribute("data-state", "FAILED")
        expect(bad).to_contain_text("Traceback")
        self._shoot("runs", notebook.cell(0).box)
        bar = notebook.run(MAP.strip()).output.get_by_role("group", name="square: ")
        expect(bar).to_contain_text("6 completed")
        board = notebook.run("%nbtasks board").output.get_by_role("region", name="nbtasks board")
        expect(board).to_contain_text("6 of 12")
        self._shoot("map-and-board", board)
        self._lab.touch("go")
        expect(bar).to_have_attribute("data-state", "ended")
        self._shoot("ended", board)

    def _shoot(self, name: str, last: Locator) -> None:
        """A page of the notebook that ends with `last`, or the first one."""
        shown = self._notebook.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer")
        for short, theme in THEMES.items():
            self._notebook.set_theme(theme)
            for _ in range(2):  # how high a cell is gets known when it is looked at
                last.evaluate("(box) => box.scrollIntoView({ block: 'end' })")
                expect(last).to_be_in_viewport()
            shown.screenshot(path=OUT / f"{name}-{short}.png")


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    expect.set_options(timeout=HANG_MS)
    with fresh_home() as home:
        lab = Lab(home.parent)
        try:
            with launched(lab.home) as browser:
                Shooting(lab, context_of(browser, WIDTH, HEIGHT)).take()
        finally:
            lab.close()
    picture = (OUT / "runs-light.png").read_bytes()
    assert len(picture) <= BYTES_MAX, f"the README's picture has {len(picture):,} bytes"
    (ROOT / "docs" / "notebook.png").write_bytes(picture)
    print("\n".join(str(path.relative_to(ROOT)) for path in sorted(OUT.iterdir())))


if __name__ == "__main__":
    main()
