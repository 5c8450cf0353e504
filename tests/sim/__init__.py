"""A whole home in one thread: the four real machines, virtual time, a bad network, a seeded bad day.

`python -m tests.sim 42` replays seed 42 and prints what happened; `--seeds 1000` runs many.
"""
