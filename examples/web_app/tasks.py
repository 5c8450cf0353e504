"""The work that the web server hands over, and the worker that does it: `python tasks.py`."""

import math
import time

from nbtasks import task


@task(log_prints=True)
def some_work(value: int) -> float:
    print(f"working on {value}")
    time.sleep(0.2)  # too long for whoever waits for a web page
    if value < 0:
        raise ValueError(f"{value} has no square root")
    return math.sqrt(value)


if __name__ == "__main__":
    some_work.serve()
