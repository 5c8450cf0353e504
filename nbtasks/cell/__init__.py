"""A cell as a call: the names that it needs, what travels of them, and executing it in a shell.

It takes source that IPython has transformed already, and the shell from whoever has one.
"""

from nbtasks.cell.capture import Capture, capture
from nbtasks.cell.execution import Cell, install
from nbtasks.cell.names import Names, names_of
from nbtasks.cell.snapshot import Part, Snapshot
from nbtasks.cell.task import CellTask

__all__ = ["Capture", "Cell", "CellTask", "Names", "Part", "Snapshot", "capture", "install", "names_of"]
