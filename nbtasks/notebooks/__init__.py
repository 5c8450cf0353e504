"""Notebooks as tasks: each run executes a copy of a notebook, with parameters, in a kernel of its own.

nbclient drives the kernel; it is imported where one is needed.
"""

from nbtasks.notebooks.executed import ExecutedNotebook
from nbtasks.notebooks.task import NotebookTask, notebook_task

__all__ = ["ExecutedNotebook", "NotebookTask", "notebook_task"]
