"""Exceptions on their way back, each with the text of its traceback."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

from nbtasks.core.codec import VALUE_BYTES_MAX
from nbtasks.errors import FailedCell, FailedRun, ResultCorrupt
from nbtasks.pickling import exceptions
from nbtasks.pickling.blame import line_of, safe_repr
from nbtasks.pickling.values import PROTOCOL, dumps

TRACEBACK_CHARACTERS_MAX = 200_000


class RemoteTraceback(Exception):
    """The traceback of an exception in the worker; shown as its cause."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def dump_failure(error: BaseException) -> bytes:
    """Pickle an exception with the text of its traceback; if it does not survive the way, the text alone.

    Attributes that cannot be pickled are left out, or None if its message needs them; a member of a group
    that does not survive the way is a `FailedRun` in it.
    """
    text = _traceback_of(error)
    if len(text) > TRACEBACK_CHARACTERS_MAX:
        half = TRACEBACK_CHARACTERS_MAX // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    inner, line = _travelling(error)
    return pickle.dumps((inner, text, line), PROTOCOL)


def _traceback_of(error: BaseException) -> str:
    if isinstance(error, FailedCell) and isinstance(error.__cause__, RemoteTraceback):
        return error.__cause__.text  # that of the cell; around it is only our code
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        return f"{type(error).__name__}: (its traceback cannot be shown)\n"


def load_failure(body: bytes) -> BaseException:
    """The exception as it was raised, caused by its remote traceback; a `FailedRun` if it cannot be had."""
    try:
        inner, text, line = pickle.loads(body)
    except Exception as error:
        return ResultCorrupt(f"a failure is recorded but cannot be read: {line_of(error)}")
    failure = _arrived(inner, line)
    # not an assignment: a frozen dataclass refuses it
    object.__setattr__(failure, "__cause__", RemoteTraceback(text))
    return failure


def _travelling(error: BaseException) -> tuple[bytes, str]:
    """The exception alone, if it comes out of its pickle as what it was; and its line, else with why."""
    line, name = line_of(error), type(error).__name__
    why = "it would be of another class"
    speaks = _speaks(error)
    for form in (_lasting, _blanked) if isinstance(error, exceptions.GROUP) else (_whole, _lasting, _blanked):
        try:
            body = _body(form(error))
            found = pickle.loads(body)
            if type(found).__name__ == name:
                if _speaks(found) or not speaks:
                    return body, line
                why = "its message needs what cannot be pickled"
        except Exception as reason:
            why = line_of(reason)
            if not exceptions.is_reduced_by_default(error):
                break
            why += "; give it a __reduce__"
    return b"", f"{line} ({name} could not be rebuilt: {why})"


def _arrived(inner: bytes, line: str) -> BaseException:
    if not inner:
        return FailedRun(line)
    try:
        found = pickle.loads(inner)
    except Exception as reason:
        # its class is not here, or is another one
        return FailedRun(f"{line} ({line.partition(':')[0]} could not be rebuilt here: {line_of(reason)})")
    return found if isinstance(found, BaseException) else FailedRun(line)


def _body(value: Any) -> bytes:
    body = dumps(value)
    if len(body) > VALUE_BYTES_MAX // 2:
        raise ValueError(f"it has {len(body):,} bytes")
    return body


# -- what is pickled of it ----------------------------------------------------------------------------


class _Reduced:
    """Unpickled it is what its reduction makes."""

    def __init__(self, *reduction: Any) -> None:
        self._reduction = reduction

    def __reduce__(self) -> Any:
        return self._reduction


def _whole(error: BaseException) -> Any:
    return error


def _blanked(error: BaseException) -> Any:
    """Like `_lasting`, with None for the attributes that cannot travel: its message may ask for one."""
    return _lasting(error, blanks=True)


def _lasting(error: BaseException, blanks: bool = False) -> Any:
    """What stands for the exception in a pickle: without the attributes that cannot travel."""
    if not exceptions.is_reduced_by_default(error):
        return error
    args = exceptions.args_of(error)
    if isinstance(error, exceptions.GROUP):
        message, members = args
        args = message, [_Reduced(_arrived, _travelling(member)) for member in members]
    elif exceptions.makes_itself(type(error)):
        # they are only what the class was called with: an attribute has it, too, if it matters
        args = tuple(arg if _lasts(arg) else safe_repr(arg) for arg in args)
    state = [_lasting_part(part, blanks) for part in exceptions.state_of(error)]
    return _Reduced(*exceptions.reduction(error, args, state))


def _lasting_part(part: dict[str, Any], blanks: bool) -> dict[str, Any]:
    kept = {name: it if _lasts(it) else None for name, it in part.items()}
    return {name: it for name, it in kept.items() if blanks or it is not None or part[name] is None}


def _speaks(error: BaseException) -> bool:
    """Whether it can say what it is."""
    try:
        str(error)
    except Exception:
        return False
    return True


def _lasts(value: Any) -> bool:
    try:
        pickle.loads(_body(value))
    except Exception:
        return False
    return True
