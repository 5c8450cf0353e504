"""The README's cells and commands, word for word: in JupyterLab, and in a shell beside it."""

from __future__ import annotations

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import nbtasks
from nbtasks.wire import pages
from tests.browser.notebook import HANG_MS, Notebook
from tests.system.waiting import until
from tests.test_readme import blocks

pytestmark = pytest.mark.timeout(4 * HANG_MS / 1000)

MAGIC = re.compile(r"^%", flags=re.MULTILINE)
PROMISE = re.compile(r"#\s*(\d+|'[^']*'|\[[^\]]*\]|\{[^}]*\})(?:$|[,;])")
OTHERS = re.compile(r",\s*\.\.\.\s*}")
STAYS = ("worker", "dashboard")  # commands that go on until Ctrl-C
SERVED = "from nbtasks import task\n\n@task\ndef {name}():\n    pass\n"


class Shown(NamedTuple):
    """A cell as somebody types it who reads the README, and what its comment says that it gives."""

    source: str
    promise: str = ""


def cells(block: str) -> Iterator[Shown]:
    """One cell for each expression, as a cell displays its last one; a cell magic has a block of its own."""
    if block.startswith("%%"):
        yield Shown(block)
        return
    lines = block.splitlines()
    begin = 0
    for statement in ast.parse(MAGIC.sub("#%", block)).body:
        if isinstance(statement, ast.Expr):
            end = statement.end_lineno or statement.lineno
            found = PROMISE.search(lines[end - 1])
            yield Shown("\n".join(lines[begin:end]), found[1] if found else "")
            begin = end
    if rest := "\n".join(lines[begin:]).strip():
        yield Shown(rest)


def keeps(promise: str, shown: str) -> bool:
    """Whether a displayed value is the promised one; a dict that ends in `...` may hold more."""
    value, wanted = ast.literal_eval(shown), ast.literal_eval(OTHERS.sub("}", promise))
    return bool(wanted.items() <= value.items() if OTHERS.search(promise) else wanted == value)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("sh")).splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("nbtasks ")]


@pytest.mark.feature("N1", "N5")
def test_the_cells_do_what_the_readme_says(notebook: Notebook) -> None:
    wrong: list[tuple[Shown, str]] = []

    for shown in [shown for block in blocks("python") for shown in cells(block)]:
        cell = notebook.run(shown.source)
        outputs = cell.outputs()
        text = cell.value()
        if any(output["output_type"] == "error" for output in outputs) or "UsageError:" in cell.text():
            wrong.append((shown, cell.text()))
        elif shown.promise and not keeps(shown.promise, text):
            wrong.append((shown, text))

    assert not wrong


@pytest.mark.feature("W4")
def test_the_commands_do_what_the_readme_says(notebook: Notebook, broker_home: Path, tmp_path: Path) -> None:
    notebook.run("%load_ext nbtasks\n%nbtasks start -w 2\nfrom nbtasks import task")
    run = notebook.run("run = task(print).delay('told'); run.wait(); print(run.id)").text().split()[-1]
    said: dict[str, str] = {}

    for command in commands():
        words = [run if word.rstrip(".") == "RUN" else word for word in command]
        said[" ".join(command)] = (
            serve(words, tmp_path, broker_home) if words[1] in STAYS else ask(words, tmp_path)
        )

    assert run in said["nbtasks show RUN"]
    assert "told" in said["nbtasks logs RUN"]


def ask(words: list[str], folder: Path) -> str:
    """What a command says that ends by itself."""
    done = subprocess.run(
        words, cwd=folder, env=shell(), capture_output=True, text=True, timeout=HANG_MS / 1000
    )
    assert not done.returncode, (words, done.stdout, done.stderr)
    return done.stdout


def serve(words: list[str], folder: Path, home: Path) -> str:
    """What a worker or a dashboard says that is started, and ended by Ctrl-C."""
    for word in words:
        module, colon, name = word.partition(":")
        if colon:
            path = folder / (module if module.endswith(".py") else f"{module.replace('.', '/')}.py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SERVED.format(name=name))
    log = folder / "log"
    with log.open("w") as file:
        process = subprocess.Popen(words, cwd=folder, env=shell(), stdout=file, stderr=file)
    try:
        with nbtasks.connect(home) as client:

            def is_there() -> bool:
                page = pages.find(home)
                pids = {pool.pid for pool in client.status().pools} | {page.pid if page else 0}
                return process.poll() is not None or process.pid in pids

            until(is_there, "its pool, or its page, is known", HANG_MS / 1000)
        process.send_signal(signal.SIGINT)
        assert not process.wait(HANG_MS / 1000), (words, log.read_text())
    finally:
        process.kill()
    return log.read_text()


def shell() -> dict[str, Any]:
    """The environment of a terminal in which the project's environment is active."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
