"""What was measured, as a table in the terminal, a Markdown table and a plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tests.bench.targets import LIMIT, TARGETS, THERE, times_as_good

Medians = Mapping[str, Mapping[str, float]]  # figure -> system -> median
WIDE = 100  # characters of a terminal; in a narrower one the comparison with the limit has no room


def show(console: Console, names: Sequence[str], medians: Medians) -> None:
    """Print the table; a floor that is missed is marked."""
    narrow = console.width < WIDE
    gap = (0, 0 if narrow else 1, 0, 0)
    table = Table(title=machine(), box=box.SIMPLE_HEAD, padding=gap, pad_edge=False)
    kept = [i for i, head in enumerate(heads(names)) if not (narrow and head == f"nbtasks / {LIMIT}")]
    for head in (heads(names)[i] for i in kept):
        if head == "workload":
            table.add_column(head)
        elif head == "floor":
            table.add_column(head, justify="right", max_width=len("missed") if narrow else None)
        else:
            table.add_column(head.replace(" / ", "\n/ "), justify="right", no_wrap=True)
    for row in rows(names, medians):
        table.add_row(*(row[i] for i in kept))
    console.print(table)
    console.print(speed(medians), highlight=False)


def heads(names: Sequence[str]) -> list[str]:
    """What is above the words of `rows`."""
    return ["workload", *names, *(f"nbtasks / {name}" for name in names[1:]), "floor", "goal"]


def rows(names: Sequence[str], medians: Medians) -> list[list[str]]:
    """One row of words for each figure, in the order of measuring."""
    words = []
    for figure, by_name in medians.items():
        ours = by_name.get(names[0])
        target = TARGETS.get(figure)
        row = [figure, *(_number(by_name.get(name)) for name in names)]
        for name in names[1:]:
            theirs = by_name.get(name)
            row.append("" if not ours or not theirs else f"{ours / theirs:.2f}")
        if target is None:
            row += ["", ""]
        else:
            missed = ours is not None and not target.holds(ours)
            row += [f"{_number(target.floor)}{' missed' if missed else ''}", _number(target.goal)]
        words.append(row)
    return words


def write(folder: Path, names: Sequence[str], medians: Medians, rounds: int) -> None:
    """Leave `bench.md` and `bench.svg` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    head = heads(names)
    lines = [
        f"Medians of {rounds} alternating rounds, two workers, {machine()}.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *("| " + " | ".join(row) + " |" for row in rows(names, medians)),
        "",
        speed(medians),
    ]
    (folder / "bench.md").write_text("\n".join(lines) + "\n")
    _plot(folder / "bench.svg", [name for name in names if name != LIMIT], medians)


def machine() -> str:
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {platform.machine()}, {platform.system()}, {python}"


def speed(medians: Medians) -> str:
    """How fast this machine was meanwhile, by what the others did here and where the floors were set."""
    by_name = []
    for name, figures in THERE.items():
        shares = [
            f"{times_as_good(figure, here, there):.2f} ({figure.partition(',')[0]})"
            for figure, there in figures.items()
            if (here := medians.get(figure, {}).get(name))
        ]
        if shares:
            by_name.append(f"{name} {', '.join(shares)}")
    if not by_name:
        return ""
    return f"Speed here, with 1 for the machine that the floors were set for: {'; '.join(by_name)}."


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _plot(path: Path, names: Sequence[str], medians: Medians) -> None:
    """How many times better than each pool nbtasks is, per workload that all can do."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    labels, bars = [], {name: [] for name in names[1:]}
    for figure, by_name in medians.items():
        if all(name in by_name for name in names):
            labels.append(figure)
            for name in names[1:]:
                bars[name].append(times_as_good(figure, by_name[names[0]], by_name[name]))
    axes = pyplot.subplots(figsize=(8, 0.5 * len(labels) + 1), layout="constrained")[1]
    height = 0.8 / max(1, len(bars))
    for number, (name, values) in enumerate(bars.items()):
        axes.barh([i + number * height for i in range(len(labels))], values, height, label=f"against {name}")
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks([i + 0.4 - height / 2 for i in range(len(labels))], labels)
    axes.invert_yaxis()
    axes.set_xlabel("times as good (right of the line: nbtasks is ahead)")
    axes.legend()
    axes.figure.savefig(path)
