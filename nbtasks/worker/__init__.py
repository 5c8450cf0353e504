"""The worker process: `python -m nbtasks.worker`, a kernel that executes one run at a time."""
