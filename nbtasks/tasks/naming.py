"""What one run is called: its task's name, or what `task_run_name` makes of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

NAME_CHARACTERS_MAX = 300  # of one run; it stands in log lines and tables
WHOLE = "parameters"  # a function's parameter of this name gets all of the run's as a dict

Naming = str | Callable[..., str] | None
_KEYWORDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def check(naming: Naming, signature: inspect.Signature | None) -> None:
    """Refuse what could name no run of a function with this signature.

    Raises
    ------
    ValueError
        The template is none, or wants a parameter that the function does not have.
    TypeError
        The naming function wants one.
    """
    known = None if signature is None else set(signature.parameters)
    if isinstance(naming, str):
        for name in _fields(naming):
            if not name.isidentifier() or (known is not None and name not in known):
                raise ValueError(
                    f"task_run_name {naming!r} wants {{{name}}}, which is no parameter of the task; "
                    f"it has {', '.join(sorted(known or ())) or 'none'}"
                )
    elif naming is not None and known is not None:
        wanted = _parameters(naming)
        missing = [p.name for p in wanted if p.default is p.empty and p.name not in {*known, WHOLE}]
        if missing:
            raise TypeError(
                f"the function given for task_run_name wants {', '.join(missing)}, which the task does not "
                "have: it is called with parameters of the run, by name"
            )


def name_of(naming: Naming, parameters: Mapping[str, Any]) -> str:
    """The run's own name; "": that of its task.

    Raises
    ------
    TypeError
        The naming function gave no string.
    """
    if naming is None:
        return ""
    if isinstance(naming, str):
        name: object = naming.format_map(parameters)
    else:
        name = naming(**_chosen(naming, parameters))
    if not isinstance(name, str):
        if inspect.iscoroutine(name):
            name.close()
        raise TypeError(f"the function given for task_run_name must give a string, not {name!r}")
    return name if len(name) <= NAME_CHARACTERS_MAX else name[: NAME_CHARACTERS_MAX - 1] + "…"


def _fields(template: str) -> list[str]:
    """The parameters that a template wants, those within format specifications included."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"task_run_name {template!r} is no template: {error}") from None
    found = []
    for _, field, specification, _ in parts:
        if field is not None:
            found.append(field.partition(".")[0].partition("[")[0])
            found += _fields(specification or "")
    return found


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return [p for p in inspect.signature(function).parameters.values() if p.kind in _KEYWORDS]
    except ValueError:
        return []  # written in C, and does not tell


def _chosen(function: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What the naming function takes of the run's parameters."""
    every = {**parameters} if WHOLE in parameters else {**parameters, WHOLE: dict(parameters)}
    return {p.name: every[p.name] for p in _parameters(function) if p.name in every}
