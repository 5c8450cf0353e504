"""What the README shows is what the code has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from nbtasks.core.states import mermaid

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)\n```", README, flags=re.DOTALL)


def test_the_state_diagram_is_that_of_the_transition_table() -> None:
    assert blocks("mermaid") == [mermaid()]


def test_the_example_is_python_with_two_magics() -> None:
    [example] = blocks("python")
    magics = [line for line in example.splitlines() if line.startswith("%")]

    ast.parse(re.sub("^%", "# %", example, flags=re.MULTILINE))

    assert [line.split()[0] for line in magics] == ["%load_ext", "%nbtasks"]


def test_every_make_target_that_is_named_exists() -> None:
    named = set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

    assert named <= targets
    assert {"demo", "test", "lab", "check", "sim", "fresh"} <= named


def test_the_web_server_is_that_of_the_example() -> None:
    [shown] = blocks("py")
    example = ROOT / "examples" / "web_app"
    has = {line for name in ("tasks.py", "api.py") for line in (example / name).read_text().splitlines()}
    new = {line for line in shown.splitlines() if not line.startswith("# ")} - has

    assert new == {"    ..."}
