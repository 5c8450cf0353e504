"""A notebook in the page: cells run by JupyterLab's own commands, and are looked at as a user does.

Notebook 7 is made of the same parts and has the same commands.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Locator, Page, expect

TABS_MAX = 30
LOADS_MAX = 5
# For the tests of a module: each in JupyterLab, then each in Notebook 7.
BOTH = pytest.mark.parametrize("tab", ["lab", "notebook"], indirect=True, scope="module")
# What JupyterLab says by itself: it has no terminals, a kernel is restarted, the machine is busy. It gives
# the model of a widget 2 s to come, and tries again when it has loaded all; that it is shown, tests see.
JUPYTERLABS = re.compile(
    r"Disabling terminals plugin|Connection lost, reconnecting"
    r"|Plugin \S+ .*to activate|Error: widget model not found"
)
# What Notebook 7 says besides: it has JupyterLab's menus and settings, but not all that they are about.
NOTEBOOKS = re.compile(
    r"Menu entry for command \S+ is duplicated|\[yjs#509\] Not same Y\.Doc"
    r"|TypeError: Cannot read properties of undefined \(reading 'schema'\)"
    r"|Error: Command 'filebrowser:open-path' not registered"
)
HANG_MS = 120_000  # far beyond what anything here needs on a busy machine

PANEL = "const panel = [...jupyterapp.shell.widgets('main')].find((w) => w.context?.path === path);"
# The notebook is there, and its kernel takes cells.
READY = f"""(path) => {{
  {PANEL}
  const kernel = panel?.context.isReady && panel.sessionContext.session?.kernel;
  return kernel && kernel.connectionStatus === "connected" && kernel.status === "idle";
}}"""
ADD = f"""([path, source]) => {{
  {PANEL}
  const cells = panel.content.model.sharedModel;
  cells.insertCell(cells.cells.length, {{ cell_type: "code", source, metadata: {{ trusted: true }} }});
  return cells.cells.length - 1;
}}"""
RUN = f"""([path, index]) => {{
  {PANEL}
  jupyterapp.shell.activateById(panel.id);
  panel.content.deselectAll();
  panel.content.activeCellIndex = index;
  void jupyterapp.commands.execute("notebook:run-cell", {{ activate: false }});
}}"""
FOCUS = f"""([path, index]) => {{
  {PANEL}
  panel.content.activeCellIndex = index;
  panel.content.mode = "command";
  panel.content.widgets[index].node.focus();
}}"""
HAS_RUN = f"""([path, index]) => {{
  {PANEL}
  const cell = panel?.content.widgets[index];
  return cell?.model.executionCount !== null && cell?.model.executionState === "idle";
}}"""
OUTPUTS = f"""([path, index]) => {{
  {PANEL}
  return panel.content.widgets[index].outputArea.model.toJSON();
}}"""


class Cell:
    """A code cell of a notebook, by its place."""

    def __init__(self, notebook: Notebook, index: int) -> None:
        self._notebook = notebook
        self._place = [notebook.path, index]

    @property
    def _page(self) -> Page:
        return self._notebook.page  # another one if the tab was closed

    @property
    def box(self) -> Locator:
        shown = self._page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
        return shown.locator(".jp-Notebook .jp-Cell").nth(self._place[1])

    @property
    def output(self) -> Locator:
        return self.box.locator(".jp-Cell-outputWrapper")

    def start(self) -> Cell:
        self._page.evaluate(RUN, self._place)
        return self

    def wait(self) -> Cell:
        """Until the kernel is done with it."""
        self._page.wait_for_function(HAS_RUN, arg=self._place, timeout=HANG_MS)
        return self

    def focus(self) -> None:
        """Select it as a user does who moves by the arrow keys."""
        self._page.evaluate(FOCUS, self._place)

    def outputs(self) -> list[dict[str, Any]]:
        """As they would be saved."""
        found: list[dict[str, Any]] = self._page.evaluate(OUTPUTS, self._place)
        return found

    def text(self) -> str:
        """All that it printed, and the plain text of what it displayed."""
        texts = [o.get("text") or o.get("data", {}).get("text/plain") or _error(o) for o in self.outputs()]
        return "".join(map(_joined, texts))

    def value(self) -> str:
        """The plain text of the value that it displayed."""
        found = [o["data"]["text/plain"] for o in self.outputs() if o["output_type"] == "execute_result"]
        return _joined(found[0]) if found else ""

    def run_view(self, name: str) -> Locator:
        """The widget of a run of the task `name`."""
        return self.output.get_by_role("group", name=f"Run {name}:")

    def button(self, name: str) -> Locator:
        return self.output.get_by_role("button", name=name)


class Notebook:
    """One notebook, in a tab of its own.

    Attributes
    ----------
    complaints
        What its pages wrote to the browser's console as a warning or an error, and what nobody caught.
    """

    def __init__(self, context: BrowserContext, url: str, name: str) -> None:
        self.name, self.path = name, f"{name}.ipynb"
        self._context, self._url = context, url
        self.complaints: list[str] = []
        self.open_tab()

    def open_tab(self) -> None:
        self.page = self._context.new_page()
        self.page.set_default_timeout(HANG_MS)
        self.page.on("console", self._hear)
        self.page.on("pageerror", self._hear_error)
        self.load()

    def close_tab(self) -> None:
        """At once, as a tab is closed whose notebook was saved."""
        self.page.close()

    def _hear(self, message: ConsoleMessage) -> None:
        is_known = JUPYTERLABS.match(message.text) or NOTEBOOKS.match(message.text)
        if message.type in ("error", "warning") and not is_known:
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _hear_error(self, error: Error) -> None:
        text = str(error.stack or error)
        if not NOTEBOOKS.match(text):
            self.complaints.append(f"uncaught: {text}")

    def load(self) -> None:
        """Open the page, or load it again, and wait for the kernel.

        JupyterLab looks for the models of widgets in the kernel for 2 s and, if the machine is too slow for
        that, leaves an error in their places for good; then a user loads the page once more.
        """
        for _ in range(LOADS_MAX):
            self.page.goto(self._url)
            self.page.wait_for_function("() => window.jupyterapp?.restored !== undefined", timeout=HANG_MS)
            self.page.evaluate("() => jupyterapp.restored")
            self.wait_for_kernel()
            expect(self.page.get_by_text("Loading widget...")).to_have_count(0)
            if not self.page.get_by_text("Error displaying widget").count():
                return

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(READY, arg=self.path, timeout=HANG_MS)

    def cell(self, index: int) -> Cell:
        return Cell(self, index)

    def add(self, source: str) -> Cell:
        return self.cell(self.page.evaluate(ADD, [self.path, source]))

    def run(self, source: str) -> Cell:
        """Add a cell, run it, and wait until it is done."""
        return self.start(source).wait()

    def start(self, source: str) -> Cell:
        return self.add(source).start()

    def save(self) -> None:
        self.page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")

    def restart_kernel(self) -> None:
        """By the menu's command and its dialog."""
        self.page.evaluate("() => void jupyterapp.commands.execute('notebook:restart-kernel')")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        expect(self.page.locator(".jp-Dialog")).to_have_count(0)
        self.wait_for_kernel()

    def shut_kernel_down(self) -> None:
        self.page.evaluate("() => jupyterapp.commands.execute('notebook:shutdown-kernel')")

    def tab_to(self, target: Locator) -> None:
        """Press Tab until `target` has the focus."""
        for _ in range(TABS_MAX):
            self.page.keyboard.press("Tab")
            if target.evaluate("(element) => element === document.activeElement"):
                return
        raise AssertionError(f"Tab does not get to {target}")

    def set_theme(self, name: str) -> None:
        self.page.evaluate("(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })", name)
        light = "true" if "Light" in name else "false"
        expect(self.page.locator(f"body[data-jp-theme-light={light}]")).to_have_count(1)


def _joined(text: Any) -> str:
    return "".join(text) if isinstance(text, list) else str(text or "")


def _error(output: dict[str, Any]) -> str:
    return f"{output.get('ename')}: {output.get('evalue')}" if output.get("output_type") == "error" else ""
