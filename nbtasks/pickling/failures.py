"""Exceptions on their way back, each with the text of its traceback."""

from __future__ import annotations

import pickle
import traceback

from nbtasks.core.codec import VALUE_BYTES_MAX
from nbtasks.errors import FailedRun, ResultCorrupt
from nbtasks.pickling.blame import line_of
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
    """Pickle an exception with the text of its traceback; if it does not survive the way, the text alone."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        text = f"{type(error).__name__}: (its traceback cannot be shown)\n"
    if len(text) > TRACEBACK_CHARACTERS_MAX:
        half = TRACEBACK_CHARACTERS_MAX // 2
        text = f"{text[:half]}\n…\n{text[-half:]}"
    return pickle.dumps((_travelling(error), text, line_of(error)), PROTOCOL)


def _travelling(error: BaseException) -> bytes:
    """The exception alone, if it comes out of its pickle as what it was; else nothing."""
    try:
        body = dumps(error)
        if len(body) <= VALUE_BYTES_MAX // 2 and type(pickle.loads(body)).__name__ == type(error).__name__:
            return body
    except Exception:
        return b""
    return b""


def load_failure(body: bytes) -> BaseException:
    """The exception as it was raised, caused by its remote traceback; a `FailedRun` if it cannot be had."""
    try:
        inner, text, line = pickle.loads(body)
    except Exception as error:
        return ResultCorrupt(f"a failure is recorded but cannot be read: {line_of(error)}")
    failure: BaseException = FailedRun(line)
    try:
        found = pickle.loads(inner) if inner else None
    except Exception:
        found = None  # its class is not here, or is another one
    if isinstance(found, BaseException):
        failure = found
    failure.__cause__ = RemoteTraceback(text)
    return failure
