"""The architecture as a test: who may import whom, through which door the outside comes in, and what is pure.

Imports are read from the syntax tree, so one inside a function or under TYPE_CHECKING counts as well.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "nbtasks"
LINES_MAX = 450
LONGER = {"core.messages": 900}  # a list of definitions: split, it would be no easier to read

# An import goes to a lower layer, or stays within its own part.
LAYERS: dict[str, int] = {
    "errors": 0,
    "core": 1,
    "wire": 2,
    "pickling": 2,
    "settings": 2,
    "states": 2,
    "tasks": 3,
    "run": 3,
    "runners": 3,
    "context": 3,
    "cell": 3,
    "notebooks": 3,
    "client": 4,
    "broker": 4,
    "worker": 4,
    "pool": 4,
    "cache_policies": 5,
    "views": 5,
    "details": 5,
    "cli": 5,
    "housekeeping": 5,
    "__main__": 6,
    "console": 5,
    "testing": 5,
    "jupyter": 5,
    "live": 5,
    "web": 5,
    "": 6,  # nbtasks/__init__.py, the only wiring
}
# Within a layer only these may be imported, and only by these.
WITHIN: dict[str, set[str]] = {
    "wire": {"settings"},
    "tasks": {"run", "runners", "context"},
    "runners": {"run", "context"},
    "run": {"context"},
    "cell": {"run", "context", "tasks"},
    "notebooks": {"context", "tasks"},
    "cli": {"console", "details", "housekeeping", "views", "web"},
    "housekeeping": {"views"},
    "details": {"views"},
    "jupyter": {"live", "views"},
    "live": {"views"},
    "web": {"details", "live", "views"},
}
# The journal's own files within the broker.
JOURNAL = ("store", "opening", "restoring", "queries", "reader", "upkeep", "copying")
# One door per outside thing: who may import it.
DOORS: dict[str, tuple[str, ...]] = {
    "zmq": ("wire",),
    "sqlite3": tuple(f"broker.{name}" for name in JOURNAL),
    "cloudpickle": ("pickling",),
    "pickle": ("pickling",),
    "jupyter_client": ("pool.kinds", "jupyter", "console", "notebooks.kernel"),
    "nbclient": ("notebooks.kernel",),
    "nbformat": ("notebooks.kernel",),
    "ipykernel": ("worker", "jupyter"),
    "IPython": ("worker", "jupyter"),
    "anywidget": ("jupyter",),
    "ipywidgets": ("jupyter",),
    "click": ("cli", "housekeeping"),
    "distributed": ("runners",),
    "rich": ("cli", "housekeeping"),
    "tornado": ("jupyter", "web", "worker"),
    "jupyter_server": ("web.jupyter",),
}
PURE = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "difflib",
    "enum",
    "functools",
    "heapq",
    "html",
    "itertools",
    "json",
    "math",
    "msgspec",
    "operator",
    "random",
    "re",
    "string",
    "typing",
    "zlib",  # its checksums
}
HEAVY = {
    "IPython",
    "anywidget",
    "cloudpickle",
    "distributed",
    "ipykernel",
    "ipywidgets",
    "jupyter_client",
    "nbclient",
    "nbformat",
    "numpy",
    "rich",
    "tornado",
    "zmq",
}
ACTING = {
    "open",
    "print",
    "input",
    "id",
    "hash",
    "exec",
    "eval",
    "datetime.now",
    "datetime.utcnow",
    "date.today",
}


def modules() -> dict[str, Path]:
    """Name below `nbtasks` -> file: "core.broker", "wire" for a package, "" for the top."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(tree: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """Every absolute name that is imported anywhere in `tree`; `from a import b` gives "a.b"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"__import__", "import_module"}:
            yield from (str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


@cache
def imports(module: str) -> frozenset[str]:
    path = modules()[module]
    package = ("nbtasks", *path.relative_to(ROOT).parent.parts)
    return frozenset(imports_of(ast.parse(path.read_text()), package))


def ours(module: str) -> set[str]:
    """The modules of nbtasks that `module` imports, as names below `nbtasks`."""
    known, found = modules(), set()
    for name in imports(module):
        if name == "nbtasks" or name.startswith("nbtasks."):
            below = name.removeprefix("nbtasks").lstrip(".")
            # "core.codec" is a module, "core.codec.encode" a thing in one
            while below and below not in known:
                below = below.rpartition(".")[0]
            found.add(below)
    return found


def part(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_has_a_layer() -> None:
    homeless = {part(module) for module in modules()} - LAYERS.keys()

    assert not homeless, "give them a layer"


@pytest.mark.parametrize("module", modules())
def test_an_import_never_goes_up(module: str) -> None:
    wrong = {
        other
        for other in ours(module)
        if part(other) != part(module)
        and LAYERS[part(other)] >= LAYERS[part(module)]
        and part(other) not in WITHIN.get(part(module), set())
    }

    assert not wrong


@pytest.mark.parametrize("module", modules())
def test_what_is_outside_comes_in_by_its_door(module: str) -> None:
    wrong = {
        name
        for name in imports(module)
        for top in [name.partition(".")[0]]
        if top in DOORS and not any(f"{module}.".startswith(f"{door}.") for door in DOORS[top])
    }

    assert not wrong


@pytest.mark.parametrize("module", [m for m in modules() if part(m) in {"core", "views", "errors"}])
def test_what_is_pure_imports_nothing_that_acts(module: str) -> None:
    outside = {name for name in imports(module) if not name.startswith("nbtasks")}
    wrong = {name for name in outside if name.partition(".")[0] not in PURE}
    # a seeded generator is handed in; the module's own functions share global state
    wrong |= {name for name in outside if name.partition(".")[0] == "random" and name != "random.Random"}

    assert not wrong


@pytest.mark.parametrize("module", [m for m in modules() if part(m) in {"core", "views"}])
def test_what_is_pure_neither_reads_the_clock_nor_touches_a_file(module: str) -> None:
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(modules()[module].read_text()))
        if isinstance(node, ast.Call)
    }

    assert not calls & ACTING


@pytest.mark.parametrize("process", ["broker", "pool"])
def test_a_process_that_must_not_unpickle_cannot(process: str) -> None:
    seen: set[str] = set()
    new = {module for module in modules() if part(module) == process}
    while new:
        seen |= new
        new = {other for module in new for other in ours(module)} - seen

    assert "pickling" not in {part(module) for module in seen}


@pytest.mark.parametrize("module", modules())
def test_a_file_holds_one_idea_and_says_it(module: str) -> None:
    text = modules()[module].read_text()

    assert text.count("\n") <= LONGER.get(module, LINES_MAX)
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "a paragraph at the top says what it is"


def loaded_with(module: str) -> set[str]:
    """The packages that are loaded once `module` is imported in a fresh interpreter."""
    code = f"import json, sys, {module}; print(json.dumps([name for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_importing_nbtasks_loads_nothing_heavy() -> None:
    assert not loaded_with("nbtasks") & {*HEAVY, "asyncio"}


@pytest.mark.parametrize("module", ["nbtasks.broker.__main__", "nbtasks.pool.__main__"])
def test_a_broker_and_a_pool_load_nothing_heavy_but_zmq(module: str) -> None:
    assert not loaded_with(module) & {*HEAVY - {"zmq"}, "asyncio"}
