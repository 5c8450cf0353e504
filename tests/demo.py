"""`make demo`: runs the quick-start notebook in a real kernel, with live progress, and keeps what came out.

The notebook gets a home of its own, which ends with the demo. The progress is that of the cells and,
as another process sees them, of the runs.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import nbtasks
from nbtasks import views
from tests.homes import fresh_home

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "01_quickstart.ipynb"
EXECUTED = ROOT / "build" / NOTEBOOK.name
CELL_S = 300  # a hang limit for one cell
LOOK_S = 0.25  # between two looks at the runs
ROWS = 14
SHOWN = "result"  # tag of the cells whose output is printed at the end


class Progress:
    """What the terminal shows: the cell that runs, and the runs as the broker knows them."""

    def __init__(self, notebook: Any, home: Path, console: Console) -> None:
        self._cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self._home = home
        self._console = console
        self._done = 0
        self._doing = "starting a kernel"
        self._rows: list[views.Row] = []

    async def on_cell_start(self, cell: Any, cell_index: int) -> None:
        if cell.cell_type != "code":
            return
        self._doing = views.first_line(cell.source)
        if not self._console.is_terminal:
            # nothing can be redrawn in a file, so there is a line for each cell
            self._console.print(
                f"[{self._done + 1}/{len(self._cells)}] {self._doing}", markup=False, soft_wrap=True
            )

    async def on_cell_executed(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        self._done += 1

    def look(self) -> None:
        """Ask the broker of the notebook, if it is there."""
        try:
            with nbtasks.connect(self._home, start=False) as client:
                self._rows = [views.row(run) for run in client.runs(limit=ROWS)]
        except nbtasks.BrokerUnavailable:
            return  # before the first cell and after the last

    def draw(self) -> RenderableType:
        now_s = time.time()
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=len(self._cells), completed=self._done, width=30),
            f"cell {self._done}/{len(self._cells)}",
            Text(self._doing, overflow="ellipsis", no_wrap=True),
        )
        runs = Table("state", "task", "took", "attempts", box=None, pad_edge=False)
        for row in self._rows:
            _, _, task, took, attempts, _ = views.cells(row, now_s)
            state = Text(f"{views.shape(row.type)} {row.state}", style=views.COLOURS.get(row.type, ""))
            runs.add_row(state, Text(task, overflow="ellipsis", no_wrap=True), took, attempts)
        return Group(bar, Text(views.summary(self._rows)), runs)


async def execute(notebook: Any, progress: Progress, live: Live) -> None:
    """Run all cells; the runs are looked at meanwhile, in a thread, because that may wait for the broker."""
    runner = NotebookClient(
        notebook,
        timeout=CELL_S,
        kernel_name="python3",
        # what a kernel warns of while it starts is not about the notebook
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(NOTEBOOK.parent)}},
        on_cell_start=progress.on_cell_start,
        on_cell_executed=progress.on_cell_executed,
    )
    cells = asyncio.ensure_future(runner.async_execute())
    while not cells.done():
        await asyncio.to_thread(progress.look)
        live.update(progress.draw(), refresh=live.console.is_terminal)
        await asyncio.wait([cells], timeout=LOOK_S)
    await cells


def outputs(notebook: Any) -> list[str]:
    """The texts that the cells tagged "result" gave."""
    texts = []
    for cell in notebook.cells:
        if SHOWN in cell.metadata.get("tags", ()):
            for output in cell.outputs:
                texts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return [text.rstrip() for text in texts]


def main() -> int:
    console = Console()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    EXECUTED.parent.mkdir(exist_ok=True)
    status = 0
    with fresh_home() as home:
        progress = Progress(notebook, home, console)
        try:
            with Live(progress.draw(), console=console, auto_refresh=False) as live:
                asyncio.run(execute(notebook, progress, live))
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            status = 1
        finally:
            nbformat.write(notebook, EXECUTED)
    for text in outputs(notebook):
        console.print(text, markup=False, highlight=False)
    console.print(f"executed notebook: {EXECUTED}", markup=False, highlight=False, soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
