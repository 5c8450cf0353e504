"""tqdm in tasks: always the text bar.

In a kernel tqdm chooses a bar made of widgets, which nobody sees in a task. Its module for notebooks is
replaced, whether a task names it or `tqdm.auto` chooses it, by one that has the same names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

NAME = "tqdm.notebook"


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


def install() -> None:
    sys.meta_path.insert(0, TextBars())
