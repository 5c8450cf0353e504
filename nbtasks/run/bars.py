"""A bar in a terminal while somebody waits for many runs: the only sign of life that a prompt has.

A face that owns a terminal installs what draws. A notebook has none: there a list of runs that is
displayed moves by itself. A script prints what it wants to print.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nbtasks.context import current_run

QUIET_S = 1.0  # a wait that is shorter shows nothing
STEP_S = 0.25  # between two drawings

Draw = Callable[[int, int], object]

_drawers: list[tuple[Draw, Callable[[], object]]] = []


def install(draw: Draw, erase: Callable[[], object]) -> Callable[[], None]:
    """Have `draw(done, total)` called while the main thread waits, and `erase()` after it did.

    Both are called in a thread. Returns what takes that back.
    """
    drawer = draw, erase
    _drawers.append(drawer)

    def take_back() -> None:
        if drawer in _drawers:
            _drawers.remove(drawer)

    return take_back


@contextmanager
def shown(total: int, left: Callable[[], int]) -> Iterator[None]:
    """Around a wait for `total` runs of which `left()` have not ended."""
    run = current_run()
    is_user = threading.current_thread() is threading.main_thread() and (run is None or not run.is_recorded)
    if not _drawers or not is_user or not left():
        yield
        return
    draw, erase = _drawers[-1]
    over = threading.Event()

    def drawing() -> None:
        if over.wait(QUIET_S):
            return
        while True:
            draw(total - left(), total)
            if over.wait(STEP_S):
                break
        erase()

    thread = threading.Thread(target=drawing, name="nbtasks-bar", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
