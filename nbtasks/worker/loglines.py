"""The lines that a worker says about its runs, in the form that users of task libraries know.

A line is one write, so that the lines of several workers that share a log never mix.
"""

from __future__ import annotations

import os
import time
import traceback

from nbtasks.core.messages import Push

_STATES = {
    "completed": "Completed",
    "raised": "Failed",
    "cancelled": "Cancelled",
    "timed_out": "TimedOut",
    "crashed": "Crashed",
}


class LogLines:
    """Writes to a descriptor of its own, which no run can close by closing its stdout.

    Parameters
    ----------
    descriptor
        Where the lines go; duplicated.
    tells_runs
        Whether the coming and going of runs is worth a line.
    """

    def __init__(self, descriptor: int, tells_runs: bool) -> None:
        self._descriptor = os.dup(descriptor)
        self._tells_runs = tells_runs

    def line(self, level: str, text: str) -> None:
        now_s = time.time()
        clock = time.strftime("%H:%M:%S", time.localtime(now_s))
        words = f"{clock}.{int(now_s % 1 * 1000):03d} | {level:<7} | {text}\n"
        # a run may have closed the first one; the second is the spool, whose end the pool tells
        for descriptor in (self._descriptor, 2):
            try:
                os.write(descriptor, words.encode("utf-8", "backslashreplace"))
                return
            except OSError:
                continue

    def received(self, push: Push) -> None:
        if self._tells_runs:
            name = push.name
            self.line("INFO", f"nbtasks.worker - Received task run: {push.run} - {name}")
            self.line("INFO", f"nbtasks.worker - Submitting task run '{name}' to engine.")

    def printed(self, push: Push, text: str) -> None:
        self.line("INFO", f"Task run '{push.name}' - {text}")

    def finished(self, push: Push, outcome: str, message: str) -> None:
        if self._tells_runs:
            state = f"{_STATES[outcome]}({message!r})" if message else f"{_STATES[outcome]}()"
            level = "INFO" if outcome == "completed" else "ERROR"
            self.line(level, f"Task run '{push.name}' - Finished in state {state}")

    def problem(self, text: str) -> None:
        self.line("ERROR", f"nbtasks.worker - {text}")

    def bug(self, where: str) -> None:
        """Tell of the exception that is being handled."""
        self.problem(f"{where} failed:\n{traceback.format_exc()}")
