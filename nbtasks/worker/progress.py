"""tqdm in tasks: always the text bar, and the outermost one is the progress of the run.

In a kernel tqdm chooses a bar made of widgets, which nobody sees in a task. Its module for notebooks is
replaced, whether a task names it or `tqdm.auto` chooses it, by one that has the same names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from nbtasks import context

NAME = "tqdm.notebook"
BARS = "tqdm.std"  # where the class is that all bars are made of


class TextBars(MetaPathFinder, Loader):
    """Finds and fills the module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == NAME else None

    def exec_module(self, module: ModuleType) -> None:
        std = sys.modules["tqdm.std"]  # the package has imported it before anything below it
        names = {"tqdm": std.tqdm, "trange": std.trange, "tqdm_notebook": std.tqdm, "tnrange": std.trange}
        # autonotebook looks at the last two to see whether there are widgets
        vars(module).update(names, __all__=list(names), IProgress=object, WARN_NOIPYW="")


class ToldBars(MetaPathFinder, Loader):
    """Lets the class of all bars tell the run whenever a bar is drawn."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target) if fullname == BARS else None
        if found is None or found.loader is None:
            return None
        self._loader = found.loader
        found.loader = self
        return found

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        bar = vars(module).get("tqdm")
        plain = getattr(bar, "display", None)
        if not callable(plain):
            return  # a version that draws otherwise: its bars are text alone

        def display(self: Any, *args: Any, **options: Any) -> Any:
            if not getattr(self, "pos", 0):
                _tell(self)
            return plain(self, *args, **options)

        bar.display = display  # type: ignore[union-attr]


def _tell(bar: Any) -> None:
    try:
        context.progress(max(0, bar.n), bar.total, str(bar.desc or "").rstrip(": "))
    except (AttributeError, TypeError, ValueError):
        return  # what it counts is no number: the text says it


def install() -> None:
    sys.meta_path[:0] = [TextBars(), ToldBars()]
