"""Cells that several tests run."""

from __future__ import annotations

# Workers, and a task that runs until a file says that it may end.
START = """
%load_ext nbtasks
%nbtasks start -w 2

import time
from pathlib import Path

from nbtasks import task

@task
def hold(name):
    print(f"waiting for {name}")
    while not Path(name).exists():
        time.sleep(0.02)
    return f"{name} came"
"""

# Keeps the kernel busy until the file {} is there.
BUSY = """
while not Path({!r}).exists():
    time.sleep(0.02)
"""

# How many of `runs` are in which state, as text.
COUNTS = "{state: number for state, number in runs.counts.items() if number}"

FIGURE = """
import matplotlib.pyplot as plt

@task
def draw():
    plt.plot([1, 2, 4])
    plt.show()

draw.delay()
"""

FAILURE = """
@task
def divide(a, b):
    return a / b

divide.delay(1, 0)
"""

# It fails until a file is there.
FLAKY = """
@task
def flaky():
    return Path("repaired").stat().st_size

flaky.delay()
"""

# A cell on a worker, until the file {} is there.
OFFLOADED = """%%delay -n scaled -o total
print("scaling")
while not Path({!r}).exists():
    time.sleep(0.02)
total = 14 * factor
"""
