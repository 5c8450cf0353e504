"""An IPython shell of a test's own, in a home where no broker runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

from tests.homes import environment


@contextmanager
def fresh_shell(place: Path) -> Iterator[InteractiveShell]:
    """What a terminal has; this process is afterwards as it was."""
    with environment({"NBTASKS_HOME": str(place), "IPYTHONDIR": str(place / "ipython")}):
        hook, main = sys.displayhook, sys.modules["__main__"]
        shell = InteractiveShell()
        try:
            yield shell
        finally:
            if "nbtasks" in shell.extension_manager.loaded:
                shell.run_line_magic("unload_ext", "nbtasks")
            sys.displayhook, sys.modules["__main__"] = hook, main
            shell.history_manager.end_session()
