"""What a cell gives, as it is stored: its result, and the names that it offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbtasks import pickling
from nbtasks.core.payload import Payload
from nbtasks.errors import NotPicklable
from nbtasks.pickling import Offered
from nbtasks.pickling.blame import type_name, why_not


def dumped(given: Offered, warn: Callable[[str], object]) -> Payload:
    """The result alone if no names are offered.

    A last expression that cannot travel, such as a generator, was perhaps never meant to be a result: it
    is left out with a word to the user.

    Raises
    ------
    NotPicklable
        A name that is offered cannot travel; the message names it.
    """
    try:
        return _dumped(given)
    except Exception as error:
        reason = error
    names = _dumped(Offered(None, given.names))
    try:
        pickling.dump(given.value)
    except Exception as error:
        reason = error
    why = why_not("the last value", type_name(given.value), given.value, reason, pickling.dumps)
    warn(f"nbtasks: the result is None: {why}\n")
    return names


def _dumped(given: Offered) -> Payload:
    try:
        return pickling.dump(given if given.names else given.value)
    except Exception:
        for name, value in given.names.items():
            _refuse(name, value)
        raise


def _refuse(name: str, value: Any) -> None:
    try:
        pickling.dumps(value)
    except Exception as error:
        raise NotPicklable(why_not("the name", repr(name), value, error, pickling.dumps)) from None
