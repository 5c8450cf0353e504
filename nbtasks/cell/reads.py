"""The globals that compiled functions read: what a function of the notebook needs when it is called."""

from __future__ import annotations

import dis
from types import CodeType

from nbtasks.cell.expressions import OWN
from nbtasks.pickling.texts import QUERYING, SHELL, names_of_line, names_of_query

_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_STORES = {"STORE_NAME", "STORE_GLOBAL", "DELETE_NAME", "DELETE_GLOBAL"}


def reads_of(code: CodeType) -> frozenset[str]:
    """Every global name that `code` and the code nested in it may read, builtins included.

    A class body binds names of its own by the same instructions that read globals: a name it has surely
    bound by then is none.
    """
    found: set[str] = set()
    rest = [code]
    while rest:
        one = rest.pop()
        found |= _own_reads(one)
        rest += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
    return frozenset(found - OWN)


def _own_reads(code: CodeType) -> set[str]:
    instructions = list(dis.get_instructions(code))
    skips = _skips(code, instructions)
    bound, found = {"__module__", "__qualname__"} if _is_class_body(instructions) else set(), set()
    for instruction in instructions:
        name = str(instruction.argval)
        if instruction.opname in _LOADS and name not in bound:
            found.add(name)
        elif instruction.opname in _STORES and not any(
            start < instruction.offset < end for start, end in skips
        ):
            bound.add(name)
    return found | _read_in_texts(code)


def _is_class_body(instructions: list[dis.Instruction]) -> bool:
    return any(one.opname == "STORE_NAME" and one.argval == "__qualname__" for one in instructions)


def _skips(code: CodeType, instructions: list[dis.Instruction]) -> list[tuple[int, int]]:
    """Where the code may jump over what stands between, or leave it by an exception."""
    jumps = {*dis.hasjrel, *dis.hasjabs}
    found = [(one.offset, one.argval) for one in instructions if one.opcode in jumps]
    # Python >= 3.11 keeps its handlers in a table
    entries = getattr(dis.Bytecode(code), "exception_entries", ())
    return found + [(entry.start - 1, entry.target) for entry in entries]


def _read_in_texts(code: CodeType) -> set[str]:
    """Names in the texts of queries and of shell lines."""
    names, own = set(code.co_names), {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
    texts = [constant for constant in code.co_consts if isinstance(constant, str)]
    found: set[str] = set()
    if names & QUERYING:
        found |= {name for text in texts for name in names_of_query(text)}
    if "get_ipython" in names and names & SHELL:
        found |= {name for text in texts for name in names_of_line(text)}
    return found - own
