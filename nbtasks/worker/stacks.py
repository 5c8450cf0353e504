"""Where the code of a run is: the frames of its thread, and of the coroutines that it drives."""

from __future__ import annotations

import asyncio
import sys
import traceback
from pathlib import Path
from types import FrameType

CHARACTERS_MAX = 100_000
# frames up to the last of these are ours, not the run's
_OWN = tuple(str(Path(__file__).parent.with_name(name)) for name in ("worker", "cell"))


def frames(thread: int) -> list[FrameType]:
    """The frames of the run in this thread, the innermost last; empty: it executes none."""
    found = _outwards(sys._current_frames().get(thread))[::-1]
    own = [place for place, frame in enumerate(found) if frame.f_code.co_filename.startswith(_OWN)]
    return found[own[-1] + 1 :] if own else found


def of_thread(thread: int) -> str:
    """The frames of the run in this thread, and those of its coroutines, as text."""
    users = frames(thread) or _outwards(sys._current_frames().get(thread))[::-1]
    text = "".join(traceback.format_list(traceback.StackSummary.extract((f, f.f_lineno) for f in users)))
    text += "".join(_coroutines(users))
    return text if len(text) <= CHARACTERS_MAX else f"…{text[-CHARACTERS_MAX:]}"


def _outwards(frame: FrameType | None) -> list[FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found


def _coroutines(users: list[FrameType]) -> list[str]:
    """What the tasks of an event loop wait for, which no frame of the thread shows."""
    found = []
    for frame in users:
        loop = frame.f_locals.get("self") if frame.f_code.co_name == "run_forever" else None
        if not isinstance(loop, asyncio.AbstractEventLoop):
            continue
        for task in asyncio.all_tasks(loop):
            stack = task.get_stack()
            if not stack:
                continue
            lines = traceback.StackSummary.extract((f, f.f_lineno) for f in stack).format()
            found.append(f"coroutine {task.get_name()}:\n" + "".join(lines))
    return found
