"""`make bench`: nbtasks beside others, in alternating rounds; medians and ratios of one run.

The others are pools of processes, which record nothing, and a bare hop, which does nothing but pass on.

The machine's mood changes from minute to minute, so only what was measured in turns is compared.
`--against COMMIT` builds that commit in a folder of its own and compares with it instead.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench import report

ROOT = Path(__file__).parents[2]
CHILD_S = 600.0  # a hang limit for one system in one round
ROUNDS = 5
STANDING = "single_submits,mapped,round_trips,blocking,arrays"
PLAN = (STANDING, "cold", "queue", "killed_worker", "killed_broker")
ONCE = {"queue"}  # takes most of a minute; repeated if it is asked for alone
OTHERS = {  # system -> what it can do
    "pool": {*STANDING.split(","), "cold"},
    "loky": {*STANDING.split(","), "cold"},
    "hop": {*STANDING.split(",")} - {"arrays"},
}


class Contender(NamedTuple):
    """A system as it is run: by which interpreter, in which folder."""

    name: str  # in the table
    system: str
    python: str
    folder: Path


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    here = Contender("nbtasks", "nbtasks", sys.executable, ROOT)
    with ExitStack() as stack:
        if options.against:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nb-bench-", dir="/tmp")))
            contenders = [here, _built(options.against, folder)]
            stack.callback(_git, "worktree", "remove", "--force", str(folder / "tree"))
        else:
            contenders = [here, *(here._replace(name=other, system=other) for other in OTHERS)]
        figures = _measure(
            contenders, options.workloads.split("|") if options.workloads else PLAN, options.rounds
        )
    names = [contender.name for contender in contenders]
    medians = {
        figure: {name: statistics.median(values) for name, values in by_name.items()}
        for figure, by_name in figures.items()
    }
    report.show(Console(), names, medians)
    if options.output:
        report.write(Path(options.output), names, medians, options.rounds)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--against", default="", metavar="COMMIT")
    words = "these only; NAME,NAME: one after the other with one start"
    parser.add_argument("--workloads", default="", metavar="NAME|NAME", help=words)
    parser.add_argument("--output", default="", metavar="FOLDER", help="for the table and the plot")
    options = parser.parse_args(argv)
    known = [*STANDING.split(","), *PLAN[1:]]
    for name in options.workloads.replace(",", "|").split("|") if options.workloads else ():
        if name not in known:
            parser.error(f"there is no workload {name!r}; there are {', '.join(known)}")
    return options


# -- measuring ----------------------------------------------------------------------------------------------


def _measure(
    contenders: Sequence[Contender], plan: Sequence[str], rounds: int
) -> dict[str, dict[str, list[float]]]:
    """Figure -> contender -> its values, one a round."""
    todo = [
        (possible, contender)
        for workload in plan
        for _ in range(1 if workload in ONCE and len(plan) > 1 else rounds)
        for contender in contenders
        if (possible := _possible(contender.system, workload))
    ]
    figures: dict[str, dict[str, list[float]]] = {}
    columns = (TextColumn("{task.description:<46}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=len(todo))
        for workload, contender in todo:
            progress.update(bar, description=f"{contender.name}: {workload[:36]}")
            for figure, value in _child(contender, workload, progress.console.print).items():
                figures.setdefault(figure, {}).setdefault(contender.name, []).append(value)
            progress.advance(bar)
    return figures


def _possible(system: str, workload: str) -> str:
    """The part of a workload that a system can do: one unsupported name would cost it the others."""
    names = workload.split(",")
    return ",".join(name for name in names if system not in OTHERS or name in OTHERS[system])


def _child(contender: Contender, workload: str, say: Callable[[str], None]) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NBTASKS_")}
    command = [contender.python, "-m", "tests.bench.child", contender.system, workload]
    try:
        done = subprocess.run(
            command, cwd=contender.folder, env=environment, capture_output=True, text=True, timeout=CHILD_S,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        say(f"{contender.name}, {workload}: nothing within {CHILD_S:g} s")
        return {}
    lines = done.stdout.splitlines()
    found: dict[str, float] = json.loads(lines[-1]) if lines else {}
    if done.returncode or not lines:
        say(f"{contender.name}, {workload}: exit {done.returncode}\n{done.stderr[-2000:]}")
        return {}
    if reason := found.pop("unsupported", None):
        say(f"{contender.name}, {workload}: {reason}")
    return found


# -- another commit -----------------------------------------------------------------------------------------


def _built(commit: str, folder: Path) -> Contender:
    """An environment with that commit installed; its workloads are today's."""
    tree = folder / "tree"
    _git("worktree", "add", "--detach", str(tree), commit)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", f"{tree}[dev,demo]"], check=True)
    for name in ("bench", "homes.py", "__init__.py"):
        subprocess.run(["cp", "-r", str(ROOT / "tests" / name), str(tree / "tests")], check=True)
    return Contender(commit, "nbtasks", python, tree)


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    sys.exit(main())
