"""`make screenshots`: pictures of a notebook in JupyterLab, light and dark, in build/screenshots.

They are for people to look at; no test compares them. The first part, light, is what the README shows,
so it is written to docs/notebook.png as well.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from tests.browser.lab import Lab
from tests.browser.launching import context_of, launched
from tests.browser.notebook import HANG_MS, Notebook
from tests.homes import fresh_home

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "screenshots"
BYTES_MAX = 200_000  # of the README's picture
WIDTH, HEIGHT = 960, 1560
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}

# What the notebook imports: a curve that gets closer in four steps; that of degree 3 waits before the last.
CURVES = """
import time
from pathlib import Path

import numpy as np

def fitted(degree):
    rng = np.random.default_rng(degree)
    x = np.linspace(0, 6, 80)
    y = np.sin(x) + rng.normal(0, 0.15, x.size)
    for lower in (3, 2, 1, 0):
        while lower == 0 and degree == 3 and not Path("go").exists():
            time.sleep(0.02)
        yield x, y, np.polynomial.Polynomial.fit(x, y, max(1, degree - lower))
"""
TASK = """
import matplotlib.pyplot as plt
from curves import fitted
from nbtasks import progress, task

@task
def fit(degree):
    for step, (x, y, model) in enumerate(fitted(degree), 1):
        error = abs(model(x) - y).mean()
        progress(step, 4)
        print(f"step {step}: error {error:.3f}")
    plt.figure(figsize=(6, 2))
    plt.plot(x, y, ".", x, model(x))
    plt.show()
    return float(error)
"""
BROKEN = """
@task
def divide(a, b):
    return a / b

divide.delay(1, 0)
"""
MAP = """
from curves import Path, time

@task
def square(number):
    while number > 5 and not Path("go").exists():
        time.sleep(0.02)
    return number * number

square.map(range(12), deferred=True)
"""


class Shooting:
    """A notebook with all there is to be seen, and a folder for its pictures."""

    def __init__(self, lab: Lab, context: BrowserContext) -> None:
        (lab.folder / "curves.py").write_text(CURVES)
        lab.write("Background tasks", [])
        self._lab = lab
        self._notebook = Notebook(context, lab.page_url("Background tasks"), "Background tasks")
        self._notebook.page.evaluate("() => jupyterapp.commands.execute('application:toggle-left-area')")

    def take(self) -> None:
        notebook = self._notebook
        notebook.run("%load_ext nbtasks\n%nbtasks start -w 2")
        notebook.run(TASK.strip())
        done = notebook.run("fit.delay(5)").run_view("fit")
        expect(done).to_have_attribute("data-state", "COMPLETED")
        live = notebook.run("fit.delay(3)").run_view("fit")
        expect(live).to_contain_text("3 of 4")
        bad = notebook.run(BROKEN.strip()).run_view("divide")
        expect(bad).to_have_attribute("data-state", "FAILED")
        self._shoot("runs", to_end=False)
        bar = notebook.run(MAP.strip()).output.get_by_role("group", name="square: ")
        expect(bar).to_contain_text("6 completed")
        board = notebook.run("%nbtasks board").output.get_by_role("region", name="nbtasks board")
        expect(board).to_contain_text("6 of 12")
        board.scroll_into_view_if_needed()
        self._shoot("map-and-board")
        self._lab.touch("go")
        expect(bar).to_have_attribute("data-state", "ended")
        self._shoot("ended")

    def _shoot(self, name: str, to_end: bool = True) -> None:
        shown = self._notebook.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer")
        shown.evaluate("(box, toEnd) => { box.scrollTop = toEnd ? box.scrollHeight : 0; }", to_end)
        for short, theme in THEMES.items():
            self._notebook.set_theme(theme)
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
