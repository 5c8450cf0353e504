"""The names of a cell, held against Python itself: small programs are run with and without what they need.

`pick()` decides in the programs, and every way it can decide is tried. So it is seen whether what was taken
from the notebook is enough (the outcome is the same), and whether each of it was wanted (without it, the
outcome of some run is another).
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nbtasks.cell.names import names_of

VARIABLES = ("a", "b", "c", "d")
FUNCTIONS = ("f", "g")
DECISIONS_MAX = 12
PATHS_MAX = 60
Outcome = tuple[list[str], str, dict[str, str]]


class Boom(Exception):
    """What the programs raise."""


class Playing:
    """One run of a program: its decisions, and what it showed."""

    def __init__(self, decisions: list[bool]) -> None:
        self.decisions, self.taken = decisions, 0
        self.turns = 2
        self.seen: list[str] = []
        self.entered: set[int] = set()

    def pick(self) -> bool:
        self.taken += 1
        return self.decisions[self.taken - 1] if self.taken <= len(self.decisions) else False

    def more(self) -> bool:
        if self.turns == 0 or not self.pick():
            return False
        self.turns -= 1
        return True

    def items(self) -> list[str]:
        return ["one", "two"] if self.pick() else []

    def boom(self) -> None:
        if self.pick():
            raise Boom

    def see(self, value: object) -> str:
        self.seen.append(value if isinstance(value, str) else type(value).__name__)
        return f"seen {len(self.seen)}"

    def enter(self, number: int) -> None:
        self.entered.add(number)

    def of_notebook(self, *names: object) -> str:
        return self.see("a function of the notebook")

    def run(self, program: Any, names: set[str]) -> Outcome:
        tools = {name: getattr(self, name) for name in ("pick", "more", "items", "boom", "see", "enter")}
        space: dict[str, Any] = {
            "__builtins__": {**vars(builtins), **tools, "Boom": Boom, "suppress": suppress}
        }
        notebook: dict[str, Any] = {name: f"the notebook's {name}" for name in VARIABLES}
        notebook |= dict.fromkeys(FUNCTIONS, self.of_notebook)
        space |= {name: value for name, value in notebook.items() if name in names}
        error = ""
        try:
            exec(program, space)
        except Exception as raised:
            error = type(raised).__name__
        bound = {name: value for name, value in space.items() if value != notebook.get(name)}
        shown = {
            name: value if isinstance(value, str) else type(value).__name__ for name, value in bound.items()
        }
        return self.seen, error, shown


def paths(program: Any, names: set[str]) -> Iterator[tuple[list[bool], Outcome, set[int]]]:
    """Every way to decide, with what comes of it."""
    rest: list[list[bool]] = [[]]
    for _ in range(PATHS_MAX):
        if not rest:
            return
        decisions = rest.pop()
        playing = Playing(decisions)
        outcome = playing.run(program, names)
        assume(playing.taken <= DECISIONS_MAX)
        yield decisions, outcome, playing.entered
        free = range(len(decisions), playing.taken)
        rest += [[*decisions, *[False] * (place - len(decisions)), True] for place in free]
    assume(not rest)


class Writer:
    """Writes programs; a tame one cannot fail while the notebook has all names, but by `Boom`."""

    def __init__(self, draw: Any, tame: bool) -> None:
        self.draw, self.tame = draw, tame
        self.functions = 0

    def one_of(self, *choices: str) -> str:
        chosen: str = self.draw(st.sampled_from(choices))
        return chosen

    def expression(self, depth: int = 2) -> str:
        kinds = ["read", "text"]
        if depth:
            kinds += ["walrus", "ternary", "and", "or", "list", "generator", "f"]
        x, inner = self.one_of(*VARIABLES), lambda: self.expression(depth - 1)
        match self.one_of(*kinds):
            case "read":
                return f"see({x})"
            case "walrus":
                return f"({x} := {inner()})"
            case "ternary":
                return f"({inner()} if pick() else {inner()})"
            case "and":
                return f"(pick() and {inner()})"
            case "or":
                return f"(pick() or {inner()})"
            case "list":
                return f"str([see({self.one_of(*VARIABLES)}) for {x} in items() if pick()])"
            case "generator":
                return f"str(list(see({self.one_of(*VARIABLES)}) for {x} in items()))"
            case "f":
                return f"f'{{{inner()}}}'"
        return "'text'"

    def block(self, depth: int, loop: bool, function: bool) -> list[str]:
        lines: list[str] = []
        for _ in range(self.draw(st.integers(1, 3))):
            lines += self.statement(depth, loop, function)
        return lines

    def indented(self, depth: int, loop: bool, function: bool, *first: str) -> list[str]:
        return [f"    {line}" for line in [*first, *self.block(depth - 1, loop, function)]]

    def statement(self, depth: int, loop: bool, function: bool) -> list[str]:
        x, f = self.one_of(*VARIABLES), self.one_of(*FUNCTIONS)
        kinds = ["assign", "assign", "read", "read", "augmented"]
        if not self.tame:
            kinds += ["del", "raise"]
        if depth:
            kinds += [
                "if",
                "if_else",
                "if_walrus",
                "for",
                "while",
                "while_true",
                "try",
                "finally",
                "with",
                "match",
            ]
        if depth and not function:
            kinds += ["def", "def", "lambda", "class", "alias"]
        kinds += ["call", "call"] if not function else []
        kinds += ["break", "continue"] if loop else []
        kinds += ["return"] if function else []
        inner = lambda *first: self.indented(depth, loop, function, *first)  # noqa: E731
        turning = lambda *first: self.indented(depth, True, function, *first)  # noqa: E731
        match self.one_of(*kinds):
            case "assign":
                return [f"{x} = {self.expression()}"]
            case "augmented":
                return [f"{x} += 'more'"]
            case "del":
                return [f"del {x}"]
            case "raise":
                return ["raise Boom"]
            case "break" | "continue" | "return" as word:
                return ["if pick():", f"    {word}"]
            case "if":
                return ["if pick():", *inner()]
            case "if_else":
                return ["if pick():", *inner(), "else:", *inner()]
            case "if_walrus":
                return [f"if pick() and ({x} := {self.expression()}):", *inner()]
            case "for":
                ending = ["else:", *inner()] if self.draw(st.booleans()) else []
                return [f"for {x} in items():", *turning(), *ending]
            case "while":
                return ["while more():", *turning()]
            case "while_true":
                return ["while True:", *turning("if not more():", "    break")]
            case "try":
                caught = self.one_of(" Boom", " Boom as b", "", *([] if self.tame else [" NameError"]))
                ending = ["else:", *inner()] if self.draw(st.booleans()) else []
                return ["try:", *inner("boom()"), f"except{caught}:", *inner(), *ending]
            case "finally":
                return ["try:", *inner("boom()"), "finally:", *inner()]
            case "with":
                return ["with suppress(Boom):", *inner("boom()")]
            case "match":
                return [
                    "match items():",
                    f"    case [{x}, *_] if pick():",
                    *(f"    {i}" for i in inner()),
                ]
            case "def":
                return self.function(f"def {f}():", depth)
            case "class":
                body = self.indented(depth, False, False)
                return ["class C:", *body, *(f"    {line}" for line in self.method(depth)), "C().m()"]
            case "lambda":
                self.functions += 1
                return [f"{f} = lambda: (enter({self.functions}), {self.expression(0 if self.tame else 2)})"]
            case "alias":
                return [f"{f} = {self.one_of(*FUNCTIONS)}"]
            case "call":
                return [f"{f}()"]
        return [self.expression()]

    def method(self, depth: int) -> list[str]:
        if not self.tame:
            return self.function("def m(self):", depth)
        # whether a method is called is not followed, so what it binds is not surely bound
        self.functions += 1
        return ["def m(self):", f"    enter({self.functions})", f"    {self.expression(0)}"]

    def function(self, head: str, depth: int) -> list[str]:
        self.functions += 1
        first = [f"enter({self.functions})"]
        if self.tame:  # whatever it binds is global: a local can be read too early
            first.insert(0, f"global {', '.join(VARIABLES)}")
        elif self.draw(st.booleans()):
            first.insert(0, f"global {self.one_of(*VARIABLES)}")
        return [head, *self.indented(depth, False, True, *first)]


@st.composite
def programs(draw: Any, tame: bool) -> str:
    writer = Writer(draw, tame)
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 5))):
        lines += writer.statement(2, False, False)
    return "\n".join(lines)


def is_program(source: str) -> bool:
    try:
        compile(source, "<program>", "exec")
    except SyntaxError:
        return False
    return True


EVERY = {*VARIABLES, *FUNCTIONS}
ONCE = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@ONCE
@given(programs(tame=False).filter(is_program))
def test_what_a_cell_needs_and_may_need_is_enough(source: str) -> None:
    names = names_of(source)
    program = compile(source, "<program>", "exec")

    for decisions, outcome, _ in paths(program, EVERY):
        assert Playing(decisions).run(program, set(names.needs | names.may_need)) == outcome
        assert outcome[1] or {name for name in outcome[2] if not name.startswith("__")} <= names.binds


@ONCE
@given(programs(tame=True).filter(is_program))
def test_a_cell_needs_nothing_that_changes_nothing(source: str) -> None:
    names = names_of(source)
    program = compile(source, "<program>", "exec")

    wanted: set[str] = set()
    entered: set[int] = set()
    for decisions, outcome, functions in list(paths(program, EVERY)):
        entered |= functions
        for name in EVERY - wanted:
            if Playing(decisions).run(program, EVERY - {name}) != outcome:
                wanted.add(name)
    assert names.needs & EVERY <= wanted
    # what a function reads that is never called may be needed by whoever calls it later
    if len(entered) == source.count("enter("):
        assert names.may_need & EVERY <= wanted
