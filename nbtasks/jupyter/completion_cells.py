"""Tab completion on the first line of `%%delay` and `%%task`: options, and names after -i and -o."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from nbtasks.cell import names_of
from nbtasks.jupyter.cells import CellMagics

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

Matcher = Callable[[CompletionContext], SimpleMatcherResult]


def matcher(shell: InteractiveShell) -> Matcher:
    """What offers completions in this shell."""

    @context_matcher()
    def match(context: CompletionContext) -> SimpleMatcherResult:
        words = context.text_until_cursor.split()
        is_ours = context.cursor_line == 0 and words and words[0] in ("%%delay", "%%task")
        if not is_ours or context.text_until_cursor == words[0]:
            return {"completions": []}
        fragment = "" if context.text_until_cursor.endswith(" ") else words.pop()
        offered = _offered(shell, words, fragment, context.full_text)
        fragment = fragment.rpartition(",")[2]
        found = [SimpleCompletion(text, type="param") for text in offered if text.startswith(fragment)]
        return {"completions": found, "matched_fragment": fragment, "suppress": bool(found)}

    found: Matcher = match
    return found


def _offered(shell: InteractiveShell, words: list[str], fragment: str, text: str) -> list[str]:
    if words[-1] in ("-i", "--input"):
        return sorted(_of_notebook(shell))
    if words[-1] in ("-o", "--output"):
        return sorted(_of_cell(shell, text))
    if not fragment.startswith("-"):
        return []
    parser = (CellMagics.delay if words[0] == "%%delay" else CellMagics.task).parser
    return [option for option in parser._option_string_actions if option.startswith("--")]


def _of_notebook(shell: InteractiveShell) -> set[str]:
    hidden = shell.user_ns_hidden
    return {name for name in shell.user_ns if name not in hidden and not name.startswith("_")}


def _of_cell(shell: InteractiveShell, text: str) -> set[str]:
    """What the cell below binds; while it cannot be read, the notebook's names."""
    _, _, body = text.partition("\n")
    try:
        return set(names_of(shell.transform_cell(body)).binds)
    except SyntaxError:
        return _of_notebook(shell)
