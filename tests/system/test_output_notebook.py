"""Output of runs in notebooks: shown again by another kernel, rendered without one, and never in a cell
that did not ask for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from nbtasks import task
from tests.system.waiting import HANG_S, until

pytestmark = pytest.mark.feature("N4")
CELL_S = 90
SHARES_WORKERS = True


@task
def puts_out_everything() -> None:
    import sys

    import matplotlib.pyplot as plt
    from IPython.display import HTML, clear_output, display

    print("taken back")
    clear_output(wait=True)
    print("10%\r50%\r\x1b[32m100%\x1b[0m <done>")
    print("to stderr", file=sys.stderr)
    handle = display("first", display_id="d")
    display(HTML("<b>bold</b>"), metadata={"text/html": {"isolated": True}})
    plt.plot([1, 2])
    plt.show()
    handle.update("second")
    raise ValueError("the <end>")


def executed(*sources: str) -> Any:
    """A notebook with these cells, executed in a fresh kernel."""
    cells = [nbformat.v4.new_code_cell(source) for source in ("%load_ext nbtasks", *sources)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(
        notebook, timeout=CELL_S, kernel_name="python3", extra_arguments=["--log-level=ERROR"]
    ).execute()
    nbformat.validate(notebook)
    return notebook


@pytest.fixture
def ended(client: Any, workers: Any) -> Any:
    run = puts_out_everything.delay()
    run.wait(60)
    assert run.state.name == "Failed"
    return run


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.mark.parametrize("line", ["nbtasks.get_run({id!r}).show()", "%nbtasks logs {id}"])
def test_another_kernel_shows_all_that_a_run_put_out_as_it_was(ended: Any, line: str) -> None:
    notebook = executed("import nbtasks", line.format(id=str(ended.id)))

    text, warning, first, bold, figure, error = notebook.cells[-1].outputs
    assert (text.name, text.text) == ("stdout", "\x1b[32m100%\x1b[0m <done>\n")
    assert (warning.name, warning.text) == ("stderr", "to stderr\n")
    assert first.data == {"text/plain": "'second'"}
    assert bold.data["text/html"] == "<b>bold</b>"
    assert bold.metadata == {"text/html": {"isolated": True}}
    assert {"image/png", "text/plain"} <= set(figure.data)
    assert error.name == "stderr"
    assert "raise ValueError" in plain(error.text)
    assert plain(error.text).endswith("ValueError: the <end>\n")
    assert "\x1b[" in error.text


def test_a_rendered_notebook_holds_text_figure_and_traceback(ended: Any) -> None:
    notebook = executed("import nbtasks", f"nbtasks.get_run({str(ended.id)!r}).show()")

    html, _ = HTMLExporter().from_notebook_node(notebook)

    body = html[html.index("<body") :]
    assert '<span class="ansi-green-fg">100%</span> &lt;done&gt;' in body
    assert "<b>bold</b>" in body
    assert "data:image/png;base64," in body
    assert "ValueError" in body
    assert "the &lt;end&gt;" in body
    assert "taken back" not in body
    assert "widget-view" not in body


def test_a_run_that_still_runs_shows_what_there_is_and_followed_all(
    client: Any, workers: Any, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    @task
    def waits() -> None:
        import time

        print("so far")
        while not gate.exists():
            time.sleep(0.01)
        print("the rest")

    run = waits.delay()
    until(lambda: run.output, "something is recorded")

    [shown, _, followed] = executed(
        f"%nbtasks logs {run.id}",
        f"import pathlib, threading; threading.Timer(1, pathlib.Path({str(gate)!r}).touch).start()",
        f"%nbtasks logs --follow {run.id}",
    ).cells[1:]

    assert [output.text for output in shown.outputs] == ["so far\n"]
    assert "".join(output.text for output in followed.outputs) == "so far\nthe rest\n"


def test_more_text_than_a_server_lets_through_is_shown_from_its_end(client: Any, workers: Any) -> None:
    @task
    def floods() -> None:
        for number in range(400_000):
            print(f"{number:09d}")

    run = floods.delay()
    run.result(timeout=120)

    outputs = executed(f"%nbtasks logs {run.id}").cells[-1].outputs

    note, text = outputs
    assert note.text == "… 2,000,000 bytes of text before this are not shown; `logs` of the run has them …\n"
    assert text.text == "".join(f"{number:09d}\n" for number in range(200_000, 400_000))


# -- whose cell -----------------------------------------------------------------------------------------


class Kernel:
    """A kernel, and what it said under each cell."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self._client = client
        self.said: dict[str, list[dict[str, Any]]] = {}

    def start(self, source: str) -> str:
        cell = self._client.execute(source)
        self.said.setdefault(cell, [])
        return cell

    def listen(self, is_enough: Any, what: str) -> None:
        """Hear what it says until `is_enough()`."""

        def heard() -> bool:
            try:
                message = self._client.get_iopub_msg(timeout=0.1)
            except Empty:
                return bool(is_enough())
            parent = message["parent_header"].get("msg_id", "")
            self.said.setdefault(parent, []).append(message)
            return False

        until(heard, what)

    def run(self, source: str) -> str:
        cell = self.start(source)
        self.listen(lambda: self.is_idle(cell), f"the end of {source!r}")
        return cell

    def is_idle(self, cell: str) -> bool:
        words = [m["content"] for m in self.said[cell] if m["msg_type"] == "status"]
        return {"execution_state": "idle"} in words

    def text(self, cell: str) -> str:
        return "".join(m["content"]["text"] for m in self.said[cell] if m["msg_type"] == "stream")

    @property
    def parents(self) -> dict[str, str]:
        """Whatever was said as text, by the cell under which it was said."""
        return {cell: self.text(cell) for cell in self.said if self.text(cell)}


@pytest.fixture
def kernel(home: Path) -> Iterator[Kernel]:
    manager, client = start_new_kernel(startup_timeout=HANG_S, extra_arguments=["--log-level=ERROR"])
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def test_what_happens_in_the_background_says_nothing_in_another_cell(kernel: Kernel, tmp_path: Path) -> None:
    gate, called = tmp_path / "gate", tmp_path / "called"
    kernel.run("%load_ext nbtasks")
    started = kernel.run("%nbtasks start -w 1")
    kernel.run(f"""
from nbtasks import task

@task(log_prints=True)
def waits(number):
    import os, time, warnings
    print("printed in the task", number)
    os.write(2, b"written in the task")
    warnings.warn("warned in the task")
    while not os.path.exists({str(gate)!r}):
        time.sleep(0.01)
    if number == 1:
        raise ValueError("raised in the task")
""")
    made = kernel.run("""
runs = [waits.delay(number) for number in range(3)]
runs[0]
""")
    added = kernel.run(f"""
import pathlib
left = [*runs]
def end(run):
    print("called back")
    left.remove(run)
    if not left:
        pathlib.Path({str(called)!r}).touch()
        raise KeyError("raised in a callback")
for run in runs:
    run.add_done_callback(end)
""")
    other = kernel.run(f"""
import time
pathlib.Path({str(gate)!r}).touch()
while not pathlib.Path({str(called)!r}).exists():
    time.sleep(0.01)
print("only this")
""")
    last = kernel.run("print([str(run.state.name) for run in runs])")
    kernel.listen(lambda: "raised in a callback" in str(kernel.parents), "what the callbacks say")

    assert kernel.text(other) == "only this\n"
    assert kernel.text(last) == "['Completed', 'Failed', 'Completed']\n"
    assert kernel.text(added).count("called back") == 3
    assert "KeyError: 'raised in a callback'" in kernel.text(added)
    assert set(kernel.parents) <= {started, made, added, other, last}
    assert kernel.parents.get(made, "") == ""
    assert not any("in the task" in text for text in kernel.parents.values())
