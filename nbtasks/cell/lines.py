"""Lines of a cell within a cell, as IPython writes them, made Python.

The body of `%%time` comes untransformed: IPython transforms it when it runs. What it does there to magics,
shell lines and questions is done here to the lines that are no Python without it.
"""

from __future__ import annotations

import ast
import re

_ESCAPED = re.compile(r"(?P<indent>\s*)(?P<target>[^=!%#]+=\s*)?(?P<sign>%|!!|!)(?P<rest>.*)", re.DOTALL)
_ASKED = re.compile(
    r"(?P<indent>\s*)(?:\?{1,2}(?P<before>[%\w.*]+)|(?P<after>[%\w.*\[\]'\"]+)\?{1,2})\s*;?\s*"
)


def transformed(source: str) -> str:
    """Source that Python parses, if IPython's parse as magics; it has as many lines as before."""
    head, _, body = source.lstrip().partition("\n")
    if head.startswith("%%"):
        name, _, line = head[2:].partition(" ")
        return f"get_ipython().run_cell_magic({name!r}, {line.strip()!r}, {body!r})"
    lines = source.splitlines()
    for _ in lines:
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            place = (error.lineno or 0) - 1
            if not 0 <= place < len(lines) or not _replace(lines, place):
                break
        else:
            break
    return "\n".join(lines)


def _replace(lines: list[str], place: int) -> bool:
    """Make one line Python, together with those it goes on in; False if it is no magic."""
    end, text = place, lines[place]
    while text.endswith("\\") and end + 1 < len(lines):
        end += 1
        text = f"{text[:-1]} {lines[end].strip()}"
    made = _line(text)
    if made is None:
        return False
    lines[place : end + 1] = [made, *[""] * (end - place)]
    return True


def _line(text: str) -> str | None:
    asked = _ASKED.fullmatch(text)
    if asked:
        return (
            f"{asked['indent']}get_ipython().run_line_magic('pinfo', {asked['before'] or asked['after']!r})"
        )
    escaped = _ESCAPED.fullmatch(text)
    if escaped is None:
        return None
    start, rest = escaped["indent"] + (escaped["target"] or ""), escaped["rest"]
    if escaped["sign"] == "%":
        name, _, line = rest.strip().partition(" ")
        return f"{start}get_ipython().run_line_magic({name!r}, {line.strip()!r})"
    method = "system" if escaped["sign"] == "!" and not escaped["target"] else "getoutput"
    return f"{start}get_ipython().{method}({rest.strip()!r})"
