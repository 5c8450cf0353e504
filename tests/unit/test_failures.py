"""Exceptions on their way back."""

from __future__ import annotations

import builtins
import re
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import Any

import pytest

from nbtasks import pickling
from nbtasks.errors import FailedRun, NotPicklable, SubmitUnknown

Group: Any = getattr(builtins, "ExceptionGroup", None)

NOTEBOOK = """
class Theirs(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code
"""


class Two(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a = a


class Coded(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")


class Named(Exception):
    def __init__(self, *, name: str, lock: Any = None) -> None:
        super().__init__(f"no {name}")
        self.name = name
        self.lock = lock


class Bare(Exception):
    """Does not call the `__init__` of its base, so that its `args` are what it was called with."""

    def __init__(self, name: str, lock: Any) -> None:
        self.name = name
        self.lock = lock


class Slotted(Exception):
    __slots__ = ("__code",)

    def __init__(self, *, code: int) -> None:
        self.__code = code

    @property
    def code(self) -> int:
        return self.__code


class Lost(FileNotFoundError):
    def __init__(self, *, path: str) -> None:
        super().__init__(2, "not there", path)


class Made(ValueError):
    def __new__(cls, *, word: str) -> Made:
        found = super().__new__(cls, word)
        found.word = word  # type: ignore[attr-defined]
        return found

    def __init__(self, *, word: str) -> None:
        super().__init__(word)


class Restored(Exception):
    def __init__(self, *, code: int) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        self.code = state["code"] + 1


class Reduced(Exception):
    """Says how it is pickled, and is wrong."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a, b)

    def __reduce__(self) -> Any:
        return Reduced, (1,)


@dataclass(frozen=True)
class Frozen(Exception):
    code: int
    more: str = ""


def failure(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return pickling.load_failure(pickling.dump_failure(caught))


def test_an_exception_comes_back_as_it_was_with_its_remote_traceback() -> None:
    found = failure(KeyError("k"))

    assert type(found) is KeyError
    assert found.args == ("k",)
    text = "".join(traceback.format_exception(found))
    assert "raise error" in text
    assert "test_failures.py" in text


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            ValueError(threading.Lock()),
            r"ValueError could not be rebuilt: .*_thread\.lock.*; give it a __reduce__\)",
        ),
        (Reduced(1, 2), r"Reduced could not be rebuilt: TypeError: .*'b'\)"),
    ],
)
def test_an_exception_that_does_not_survive_the_way_comes_back_as_text_with_the_reason(
    error: Exception, why: str
) -> None:
    found = failure(error)

    assert isinstance(found, FailedRun)
    assert str(found).startswith(type(error).__name__)
    assert re.search(why, str(found))
    assert "raise error" in str(found.__cause__)


@pytest.mark.parametrize(
    "error",
    [
        Two(1, 2), Coded(3), Named(name="x"), Lost(path="/there"), Made(word="w"), Frozen(code=3),
        SubmitUnknown("gone", "run-1"), ImportError("no", name="there"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    ],
)  # fmt: skip
def test_an_exception_with_an_init_of_its_own_comes_back_as_it_was(error: Any) -> None:
    found = failure(error)

    assert type(found) is type(error)
    assert (found.args, str(found)) == (error.args, str(error))
    assert vars(found) == vars(error)


def test_what_an_exception_has_beside_its_dict_comes_back() -> None:
    lost: Any = failure(Lost(path="/there"))
    slotted: Any = failure(Slotted(code=3))
    absent: Any = failure(ImportError("no", name="there"))
    restored: Any = failure(Restored(code=3))

    assert (lost.errno, lost.filename) == (2, "/there")
    assert slotted.code == 3
    assert absent.name == "there"
    assert restored.code == 4


class Placed(Exception):
    """As patsy's: where it happened is told if it is known."""

    def __init__(self, origin: Any) -> None:
        super().__init__("bad formula")
        self.origin = origin

    def __str__(self) -> str:
        return "bad formula" if self.origin is None else f"bad formula at {type(self.origin).__name__}"


class Held(Placed):
    def __str__(self) -> str:
        return f"bad formula at {self.origin.name}"


def test_what_the_message_asks_for_and_cannot_travel_is_none() -> None:
    found: Any = failure(Placed(threading.Lock()))

    assert isinstance(found, Placed)
    assert (found.origin, str(found)) == (None, "bad formula")


def test_an_exception_whose_message_cannot_do_without_what_is_left_out_comes_as_text() -> None:
    error = Held(threading.current_thread())

    found: Any = failure(error)

    assert isinstance(found, FailedRun)
    assert "Held: bad formula at MainThread" in str(found)
    assert "its message needs what cannot be pickled" in str(found)


def test_what_an_exception_holds_and_cannot_travel_is_left_out() -> None:
    found: Any = failure(Named(name="x", lock=threading.Lock()))

    assert type(found) is Named
    assert vars(found) == {"name": "x"}
    assert str(found) == "no x"


def test_an_argument_that_cannot_travel_is_described_if_the_class_has_it_as_an_attribute() -> None:
    found: Any = failure(Bare("x", threading.Lock()))

    assert type(found) is Bare
    assert found.args == ("x", "<_thread.lock>")
    assert vars(found) == {"name": "x"}


def test_an_exception_of_a_notebook_and_a_local_one_come_back_as_their_classes() -> None:
    class Local(Exception):
        def __init__(self, *, code: int) -> None:
            self.code = code

    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(NOTEBOOK, namespace)

    for cls in (Local, namespace["Theirs"]):
        found = failure(cls(code=3))
        assert type(found) is cls
        assert found.code == 3


def test_an_exception_that_refers_to_itself_comes_back() -> None:
    error = Named(name="x")
    error.lock = [error, Named(name="y")]

    found: Any = failure(error)

    assert found.lock[0] is found
    assert found.lock[1].name == "y"


def test_an_exception_with_an_init_of_its_own_travels_as_a_value_with_all_it_has() -> None:
    found = pickling.load_result(pickling.dump_result([Two(1, 2)]))[0]

    assert (type(found), found.args, found.a) == (Two, ("1 and 2",), 1)
    with pytest.raises(NotPicklable, match=r"\[0\]\.lock is a _thread\.lock"):
        pickling.dump_result([Named(name="x", lock=threading.Lock())])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups are of Python 3.11")
def test_the_notes_of_an_exception_come_back() -> None:
    error = Named(name="x", lock=threading.Lock())
    error.add_note("a note")

    assert failure(error).__notes__ == ["a note"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes and groups are of Python 3.11")
def test_a_group_keeps_its_members_and_one_that_cannot_travel_is_a_failed_run_in_it() -> None:
    class Own(Group):
        def __new__(cls, members: Any, code: int) -> Own:
            found = super().__new__(cls, "own", members)
            found.code = code
            return found

    inner = Group("inner", [Reduced(1, 2), KeyError("k")])
    error = Group("outer", [Named(name="x", lock=threading.Lock()), inner, Own([Two(1, 2)], 7)])
    error.add_note("a note")

    found: Any = failure(error)

    named, within, own = found.exceptions
    assert (type(found), found.message, found.__notes__) == (Group, "outer", ["a note"])
    assert (type(named), named.name) == (Named, "x")
    assert [type(member) for member in within.exceptions] == [FailedRun, KeyError]
    assert "Reduced could not be rebuilt" in str(within.exceptions[0])
    assert (type(own), own.code, own.exceptions[0].args) == (Own, 7, ("1 and 2",))


def test_an_exception_whose_class_is_not_here_comes_back_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("elsewhere")
    exec("class Theirs(Exception): pass", vars(module))
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    body = pickling.dump_failure(module.Theirs("x"))
    monkeypatch.delitem(sys.modules, "elsewhere")

    found = pickling.load_failure(body)

    assert isinstance(found, FailedRun)
    assert str(found) == (
        "Theirs: x (Theirs could not be rebuilt here: ModuleNotFoundError: No module named 'elsewhere')"
    )


def test_an_exception_that_cannot_even_be_shown_is_a_failure_all_the_same() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise RuntimeError

        def __reduce__(self) -> Any:
            raise RuntimeError

    assert isinstance(failure(Rude()), FailedRun)


def test_a_traceback_without_end_is_cut() -> None:
    found = failure(ValueError("x" * 1_000_000))

    assert len(str(found.__cause__)) < 300_000
