"""What IPython's transformed lines hide: the Python in the text of magics, put back into the tree as Python.

`%time y = f(x)` becomes `y = f(x)`, the code of `%timeit` the body of a function that is called; a name in
the text of a shell line becomes a read that may fail. So the walk through a cell knows no magics.
"""

from __future__ import annotations

import ast
from itertools import pairwise

from nbtasks.cell.lines import transformed
from nbtasks.pickling.texts import expressions_in

TIMED = "%timed"  # no name that a cell can have
HIDES = "{} may use and bind names that cannot be seen in its text: name what it needs with -i"

_RUNS_CODE = {"time": "", "timeit": "n:r:tcp:qov:", "prun": "D:l:rs:T:q", "capture": "", "debug": "b:"}
_ASKS = {"pdef", "pdoc", "pfile", "pinfo", "pinfo2", "psource"}
_SHELL = {"!", "sx", "system"}
_SCRIPTS = {"bash", "cmd", "perl", "pypy", "python", "python2", "python3", "ruby", "script", "sh"}
_TEXTS = {"HTML", "SVG", "file", "html", "javascript", "js", "latex", "markdown", "svg", "writefile"}
# They run nothing of the cell's.
_PLAIN = {
    *("alias", "alias_magic", "autoawait", "autocall", "automagic", "autoreload", "bookmark", "cat", "cd"),
    *("colors", "conda", "config", "cp", "dhist", "dirs", "doctest_mode", "env", "gui", "hist", "history"),
    *(
        "killbgscripts",
        "ldir",
        "less",
        "lf",
        "lk",
        "ll",
        "load_ext",
        "logoff",
        "logon",
        "logstart",
        "logstate",
    ),
    *("logstop", "ls", "lsmagic", "lx", "mamba", "man", "matplotlib", "micromamba", "mkdir", "more", "mv"),
    *("notebook", "page", "pdb", "pip", "popd", "pprint", "precision", "psearch", "pushd", "pwd", "pycat"),
    *("quickref", "rehashx", "reload_ext", "rm", "rmdir", "set_env", "tb", "unalias", "unload_ext", "uv"),
    *("watermark", "who", "who_ls", "whos", "xmode"),
}


def without_magics(tree: ast.Module) -> tuple[ast.Module, list[str]]:
    """The tree with the Python that magics hide, and what stays hidden.

    Raises
    ------
    SyntaxError
        The Python in a magic is none.
    """
    rewriter = _Rewriter()
    return rewriter.visit(tree), rewriter.doubts


class _Rewriter(ast.NodeTransformer):
    def __init__(self) -> None:
        self.doubts: list[str] = []
        self.above = 0  # lines of the cell above the text that is visited

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        meant = self.meant(node.value)
        if meant is None:
            return node
        return meant or ast.copy_location(ast.Pass(), node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        meant = self.meant(node.value)
        if meant is None:
            return node
        return [*meant, ast.copy_location(ast.Assign(node.targets, ast.Constant(None)), node)]

    def meant(self, node: ast.expr) -> list[ast.stmt] | None:
        """The Python that a call of the shell stands for, if it is one."""
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython"), args=[]), attr=method),
                args=[*arguments],
            ) if all(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in arguments):
                texts = [each.value for each in arguments if isinstance(each, ast.Constant)]
            case _:
                return None
        match method, texts:
            case (("system" | "system_raw" | "system_piped"), [str(text)]):
                return [*softly(text), *_bound(["_exit_code"])]
            case "getoutput", [str(text)]:
                return softly(text)
            case "run_line_magic", [str(name), str(line)]:
                return self.of_line(name, line, self.above + node.lineno)
            case "run_cell_magic", [str(name), str(line), str(body)]:
                return self.of_cell(name, line, body, self.above + node.lineno)
        return None

    def of_line(self, name: str, line: str, lineno: int) -> list[ast.stmt]:
        if name in _RUNS_CODE and name != "capture":
            return self.running(name, "", _without_options(line, _RUNS_CODE[name]), lineno)
        if name in _ASKS:
            return softly("{" + line.strip().lstrip("%") + "}") if line.strip() else []
        if name == "pylab":
            return [ast.ImportFrom("pylab", [ast.alias("*")], 0)]
        if name not in _SHELL and name not in _PLAIN:
            self.doubts.append(HIDES.format(f"%{name}"))
        return softly(line)

    def of_cell(self, name: str, line: str, body: str, lineno: int) -> list[ast.stmt]:
        if name in _RUNS_CODE:
            kept = _without_options(line, _RUNS_CODE[name])
            found = self.running(name, kept if name == "timeit" else "", body, lineno + 1)
            return [*found, *_bound(kept.split()[:1])] if name == "capture" else found
        if name in _SHELL:
            return softly(f"{line}\n{body}")
        if name in _SCRIPTS:
            return [*softly(line), *_bound(_values_of(line, {"--out", "--err", "--proc"}))]
        if name not in _TEXTS:
            self.doubts.append(HIDES.format(f"%%{name}"))
        return softly(line)

    def running(self, name: str, setup: str, code: str, lineno: int) -> list[ast.stmt]:
        statements = [*self.code(setup, lineno - 1), *self.code(code, lineno)]
        if name != "timeit" or not statements:
            return statements
        made = ast.parse("def timed(): pass\ntimed()\ndel timed").body
        for node in ast.walk(ast.Module(made, [])):
            if isinstance(node, ast.Name):
                node.id = TIMED
            elif isinstance(node, ast.FunctionDef):
                node.name, node.body = TIMED, statements
        return made

    def code(self, text: str, lineno: int) -> list[ast.stmt]:
        """The statements of a magic's text, which begins in this line of the cell."""
        try:
            tree = ast.parse(transformed(text))
        except SyntaxError as error:
            lines = text.splitlines()
            if error.lineno is not None and 0 < error.lineno <= len(lines):
                error.text = lines[error.lineno - 1]
                error.lineno += lineno - 1
                error.end_lineno = None
            raise
        above, self.above = self.above, lineno - 1
        body: list[ast.stmt] = self.visit(tree).body
        self.above = above
        return body


def softly(text: str) -> list[ast.stmt]:
    """Read the names in a text, none of which must exist."""
    reads: list[ast.stmt] = [ast.Expr(each) for each in expressions_in(text)]
    if not reads:
        return []
    handler = ast.ExceptHandler(None, None, [ast.Pass()])
    return [ast.Try(reads, [handler], [], [])]


def _bound(names: list[str]) -> list[ast.stmt]:
    return [
        ast.Assign([ast.Name(name, ast.Store())], ast.Constant(None)) for name in names if name.isidentifier()
    ]


def _without_options(line: str, short: str) -> str:
    """The line of a magic without its options at the start, otherwise unchanged."""
    rest = line.strip()
    takes = {letter for letter, after in pairwise(short) if after == ":"}
    while rest.startswith("-"):
        option, _, after = rest.partition(" ")
        if not option[1:2].isalpha() and not option.startswith("--"):
            break
        rest = after.lstrip()
        if not option.startswith("--") and option[-1] in takes and len(option) == 2:
            rest = rest.partition(" ")[2].lstrip()
    return rest


def _values_of(line: str, options: set[str]) -> list[str]:
    words = line.replace("=", " ").split()
    return [value for option, value in pairwise(words) if option in options]
