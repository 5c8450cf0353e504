"""The cell magics `%%delay` and `%%task`: a cell on a worker, now or whenever it is called.

What is wrong is said before anything is submitted: bad options as a `UsageError`, a name that is nowhere
as a `NameError`, a value that cannot travel by its name.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import keyword
import re
import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.utils.process import arg_split  # type: ignore[attr-defined]

from nbtasks import cell as cells
from nbtasks import views
from nbtasks.cell import Capture, Cell, CellTask, Names, Snapshot
from nbtasks.cell.execution import FUTURE
from nbtasks.errors import BrokerUnavailable, NbtasksError, NotPicklable
from nbtasks.jupyter import manifest, offers, syntax
from nbtasks.jupyter.magics import added
from nbtasks.run import Run, outputs

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

GIVEN = frozenset({"get_ipython", "open", "exit", "quit"})
NAME = "cell"  # of a run, if nobody gave it one


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that both magics have."""
    for add in reversed(
        [
            argument(
                "-i",
                "--input",
                action="append",
                metavar="A,B",
                help="names that travel as well, such as those in strings",
            ),
            argument("--isolated", action="store_true", help="only the names of -i travel"),
            argument(
                "--timeout",
                type=float,
                metavar="S",
                help="interrupt it after S seconds, and kill it if it goes on",
            ),
            argument("--retries", type=int, metavar="N", help="if it fails run it again, up to N times"),
            argument("--worker", action="append", metavar="TAG", help="only a worker that offers this tag"),
            argument(
                "--gpu", action="store_true", help="only a worker that has a GPU; the same as --worker gpu"
            ),
            argument(
                "--tag",
                action="append",
                metavar="TAG",
                help="a tag of the run, to find it by and to limit how many run",
            ),
            argument("--dry-run", action="store_true", help="run nothing; show what would travel"),
        ]
    ):
        function = add(function)
    return function


@magics_class
class CellMagics(Magics):
    """Holds `%%delay` and `%%task`; their docstrings are what `%%delay?` shows."""

    shell: InteractiveShell

    @magic_arguments("%delay")
    @argument("-n", "--name", metavar="NAME", default=NAME, help="what the run is called (default: cell)")
    @argument(
        "-o",
        "--output",
        action="append",
        metavar="X,Y",
        help="names that the cell binds, and that are assigned in this notebook",
    )
    @argument("--handle", metavar="VARIABLE", help="a variable that holds the run")
    @argument("--wait", action="store_true", help="wait for it; show, raise and give here what it did there")
    @_options
    @no_var_expand
    @cell_magic
    def delay(self, line: str, cell: str) -> Any:
        """Run this cell on a worker; the notebook is free meanwhile.

            %%delay -o table,total --timeout 600
            table = load(path)
            total = table.size

        The names that the cell needs travel as they are now. What it gives is a Run, whose result is the
        value of the last expression. The names of -o are assigned in this notebook before the next cell after
        the run's end, unless they were bound anew; a %%delay that needs one of them before waits for it.
        """
        arguments = _parsed(self.delay, line)
        wanted = _names("-o", arguments.output)
        if arguments.handle is not None:
            _name("--handle", arguments.handle)
        offloaded = self._offloaded(f"# %%delay {line}", cell, arguments, wanted)
        if arguments.dry_run:
            print(offloaded.manifest())
            return None
        try:
            run = offloaded.task(arguments.name).delay()
        except BrokerUnavailable as error:
            raise UsageError(str(error)) from None
        if wanted:
            offers.of(self.shell).add(run, wanted)
        if arguments.handle:
            self.shell.user_ns[arguments.handle] = run
        return _waited(run) if arguments.wait else run

    @magic_arguments("%task")
    @argument(
        "variable", metavar="NAME", help="the variable that holds the task, and what its runs are called"
    )
    @_options
    @no_var_expand
    @cell_magic
    def task(self, line: str, cell: str) -> None:
        """Make a task of this cell, without running it.

            %%task fit
            model = train(data, depth)
            model.score

        NAME.delay() runs it on a worker, with the names that it needs as they are now; keyword arguments
        replace them: NAME.delay(depth=3), NAME.map(depth=[1, 2, 3], deferred=True). The result is the value
        of the last expression.
        """
        arguments = _parsed(self.task, line)
        name = _name("%%task", arguments.variable)
        offloaded = self._offloaded(f"# %%task {line}", cell, arguments, [])
        if arguments.dry_run:
            print(offloaded.manifest())
        else:
            self.shell.user_ns[name] = offloaded.task(name, is_kept=True)

    def _offloaded(self, head: str, body: str, arguments: Namespace, wanted: list[str]) -> _Offloaded:
        """Everything about the cell that can be wrong is found here."""
        shell, notebook = self.shell, self.shell.user_ns
        flags = shell.compile.flags & FUTURE
        # with the magic's line in front, lines have the numbers that the notebook shows
        try:
            source = f"{head.rstrip()}\n{shell.transform_cell(body)}"
            names = cells.names_of(source, flags)
        except SyntaxError as error:
            raise syntax.of_cell(error, _caller()) from None
        if not ast.parse(source).body:
            raise UsageError("there is no code in the cell")
        local = _locals_around(notebook)
        pending = offers.of(shell).pending
        try:
            captured = cells.capture(
                source,
                names,
                {**_own(shell), **local},
                _names("-i", arguments.input),
                arguments.isolated,
                lambda name: None if name in local else pending(name),
            )
            _refuse_unbound(wanted, names, captured)
            _tell_of_missing(names, captured)
            snapshot = Snapshot(captured, notebook)
        except (NameError, NotPicklable) as error:
            raise _drawn(error, [f"{type(error).__name__}: {error}"]) from None
        outputs = {name: name not in notebook for name in wanted}
        return _Offloaded(source, names, snapshot, outputs, arguments, flags)


class _Offloaded:
    """A cell that can be submitted.

    Parameters
    ----------
    wanted
        The names that it is to offer; whether it has to bind them.
    flags
        Of `__future__` imports that earlier cells made.
    """

    def __init__(
        self,
        source: str,
        names: Names,
        snapshot: Snapshot,
        wanted: dict[str, bool],
        arguments: Namespace,
        flags: int,
    ) -> None:
        self._source = source
        self._names = names
        self._snapshot = snapshot
        self._wanted = wanted
        self._arguments = arguments
        self._flags = flags

    def manifest(self) -> str:
        whole_bytes = self._snapshot.frozen.payload.size
        return manifest.text(self._snapshot.parts(), whole_bytes, list(self._wanted), self._names.doubts)

    def task(self, name: str, is_kept: bool = False) -> CellTask:
        """The task of it; `is_kept` if it may be called later."""
        for part in self._snapshot.large():
            print(
                f"nbtasks: {part.name} is large: {views.size(part.size or 0)} travel with the cell",
                file=sys.stderr,
            )
        digest = hashlib.blake2b(self._source.encode(), digest_size=4).hexdigest()
        cell = Cell(self._source, f"<{name} {digest}>", self._wanted, self._flags)
        snapshot = self._snapshot.kept() if is_kept else self._snapshot
        reads = {*self._names.needs, *self._names.may_need, *snapshot.names}
        try:
            return CellTask(cell, snapshot, reads, name=name, **self._given())
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from None

    def _given(self) -> dict[str, Any]:
        arguments = self._arguments
        given = {
            "timeout_seconds": arguments.timeout,
            "retries": arguments.retries,
            "tags": arguments.tag,
            "worker_tags": [*(arguments.worker or ()), *(["gpu"] if arguments.gpu else [])] or None,
        }
        return {word: value for word, value in given.items() if value is not None}


def _refuse_unbound(wanted: list[str], names: Names, captured: Capture) -> None:
    for name in wanted:
        if name not in names.binds and name not in captured.names and not (names.stars or names.doubts):
            raise UsageError(f"-o {name}: the cell binds no {name!r}")


def _tell_of_missing(names: Names, captured: Capture) -> None:
    if captured.missing:
        missing = ", ".join(map(repr, captured.missing))
        print(f"nbtasks: not defined in the notebook: {missing}; {'; '.join(names.doubts)}", file=sys.stderr)


def _parsed(magic: Any, line: str) -> Namespace:
    """The options on the line, up to a `#`; what follows a comma belongs to the word before."""
    try:
        words = arg_split(re.sub(r",\s*$", "", line), posix=True)
    except ValueError as error:
        raise UsageError(f"{error}: {line}") from None
    merged: list[str] = []
    for word in itertools.takewhile(lambda word: not word.startswith("#"), words):
        if merged and merged[-1].endswith(","):
            merged[-1] += word
        else:
            merged.append(word)
    found, strays = magic.parser.parse_known_args(merged)
    if strays:
        hint = "" if strays[0].startswith("-") or hasattr(found, "variable") else f"; write -n {strays[0]}"
        raise UsageError(f"there is no option {strays[0]!r}{hint}")
    return cast("Namespace", found)


def _own(shell: InteractiveShell) -> dict[str, Any]:
    """The names of the notebook, without those that every shell gives: there are such where the cell runs."""
    given = shell.user_ns_hidden
    return {
        name: value
        for name, value in shell.user_ns.items()
        if name not in GIVEN or value is not given.get(name)
    }


def _caller() -> FrameType | None:
    """What called the magic: the cell, or a function of it."""
    frame = sys._getframe()
    while frame.f_code.co_name != "run_cell_magic" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_back


def _locals_around(notebook: dict[str, Any]) -> dict[str, Any]:
    """The variables of the function of the notebook that called the magic, if one did."""
    caller = _caller()
    # IPython gives cell magics the notebook's namespace for this
    is_function = caller is not None and caller.f_globals is notebook and caller.f_locals is not notebook
    return dict(caller.f_locals) if caller is not None and is_function else {}


def _names(option: str, words: list[str] | None) -> list[str]:
    found = [name.strip() for word in words or () for name in word.split(",")]
    for name in found:
        if not _is_name(name):
            raise UsageError(f"{option} takes names, with commas between them, not {name!r}")
    return list(dict.fromkeys(found))


def _is_name(word: str) -> bool:
    return word.isidentifier() and not keyword.iskeyword(word)


def _name(option: str, word: str) -> str:
    if not _is_name(word):
        raise UsageError(f"{option} takes the name of one variable, not {word!r}")
    return word


def _waited(run: Run) -> Any:
    """What the cell would have shown, raised and given here."""
    run.wait()
    shown = run.output
    results = [output for output in shown if output.get("output_type") == "execute_result"]
    errors = [output for output in shown if output.get("output_type") == "error"]
    outputs.show([output for output in shown if output not in results + errors])
    if (error := run.exception()) is not None:
        # what was raised there, not what ended it
        traceback = errors[-1]["traceback"] if errors else []
        if errors and errors[-1].get("ename") == type(error).__name__:
            raise _drawn(error, traceback)
        if isinstance(error, NbtasksError):  # where it was, then what ended it
            raise _drawn(error, [*traceback, f"{type(error).__name__}: {error}"])
        raise error
    value = run.result()
    if results and value is None:
        outputs.show(results)
    # without a text to show, because making it raised: the shell says so as it would of any cell's value
    return value if results or errors else None


def _drawn(error: BaseException, lines: list[str]) -> BaseException:
    """The error, of which IPython shows these lines: where in nbtasks it was raised tells nobody anything."""
    with suppress(AttributeError):  # some have no room for it
        error._render_traceback_ = lambda: lines  # type: ignore[attr-defined]
    return error


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Give `shell` the magics; returns what puts back those of these names that were there before."""
    undo = [
        added(shell, CellMagics, "cell", ("delay", "task")),
        syntax.register(shell),
        offers.register(shell),
        cells.install(shell),
    ]

    def take_back() -> None:
        for step in reversed(undo):
            step()

    return take_back
