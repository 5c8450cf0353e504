"""What a notebook defines and cloudpickle alone would not carry."""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any

import IPython
import pytest

from nbtasks import pickling
from tests.shells import fresh_shell

SLOTS = """
import abc
from collections import namedtuple
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

class Plain:
    __slots__ = ("x", "__p")
    def __init__(self, x):
        self.x, self.__p = x, x + 1
    def p(self):
        return self.__p

class One:
    __slots__ = "x"
    def __init__(self, x):
        self.x = x

class Heir(Plain):
    __slots__ = ("y", "__p")
    def __init__(self, x):
        super().__init__(x)
        self.y = self.__p = x

class Empty(Plain):
    __slots__ = ()

class Open(Plain):
    def __init__(self, x):
        super().__init__(x)
        self.free = x

class Both:
    __slots__ = {"x": "described", "__dict__": "open", "__weakref__": "seen"}
    def __init__(self, x):
        self.x = self.free = x

class Abstract(abc.ABC):
    __slots__ = ("x",)
    @abc.abstractmethod
    def get(self): ...

class Concrete(Abstract):
    __slots__ = ("y",)
    def __init__(self, x):
        self.x = self.y = x
    def get(self):
        return self.x

class Meta(type):
    def __new__(mcs, name, bases, namespace, **more):
        return super().__new__(mcs, name, bases, namespace)

class Made(metaclass=Meta):
    __slots__ = ("x",)
    def __init__(self, x):
        self.x = x

class Of(Generic[T]):
    __slots__ = ("x",)
    def __init__(self, x: T):
        self.x = x

@dataclass(slots=True)
class Data:
    x: int
    y: int = 2

@dataclass(frozen=True, slots=True)
class FrozenData:
    x: int

class Pair(NamedTuple):
    x: int

class Point(namedtuple("Point", "x")):
    __slots__ = ()
"""
SLOTTED = ["Plain", "One", "Heir", "Empty", "Open", "Both", "Concrete", "Made", "Of"]
SLOTTED += ["Data", "FrozenData", "Pair", "Point"]
THERE = """
import pickle, sys
from nbtasks import pickling
make = pickle.loads(sys.stdin.buffer.read())
made = make()
sys.stdout.buffer.write(pickling.dumps(made))
"""


def notebook(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec", dont_inherit=True), names)
    return names


def made_there(make: Any) -> Any:
    """What a function of a notebook gives in another process."""
    done = subprocess.run(
        [sys.executable, "-c", THERE], input=pickling.dumps(make), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def test_an_instance_of_a_class_with_slots_comes_back() -> None:
    names = notebook(SLOTS + f"def make():\n    return [c(1) for c in ({', '.join(SLOTTED)})]\n")

    found = made_there(names["make"])

    assert [type(it) for it in found] == [names[name] for name in SLOTTED]
    assert [it.x for it in found] == [1] * len(SLOTTED)
    plain, heir, both = found[0], found[2], found[5]
    assert (plain.p(), heir.p(), heir.y, heir._Heir__p) == (2, 2, 1, 1)
    assert (both.free, found[6].y) == (1, 1)


def test_slots_of_an_exception_without_an_init_of_its_own_come_back() -> None:
    names = notebook(
        "class E(Exception):\n    __slots__ = ('x',)\n"
        "def make():\n    error = E('a')\n    error.x = 1\n    return error\n"
    )

    found = made_there(names["make"])

    assert (type(found), found.args, found.x) == (names["E"], ("a",), 1)


def test_a_class_whose_metaclass_makes_the_slots_itself_travels_as_before() -> None:
    names = notebook(
        "import msgspec\nclass S(msgspec.Struct):\n    x: int\ndef make():\n    return isinstance(1, S)\n"
    )

    assert made_there(names["make"]) is False


NAMED = """
import functools
import typing
from collections.abc import Callable

@functools.cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

@functools.lru_cache(maxsize=3, typed=True)
def load(x: int = 2):
    return [x]
load.mark = "m"

class Has:
    @functools.lru_cache
    def method(self):
        return 4

def locally(k):
    @functools.cache
    def inner(x):
        return k + x
    return inner

inner = locally(3)

@functools.singledispatch
def kind_of(x):
    return "object"

@kind_of.register
def _(x: int):
    return "int, not " + kind_of("")

@kind_of.register(Has)
def of_has(x):
    return "Has"

UserId = typing.NewType("UserId", int)
P = typing.ParamSpec("P")

def keeps(function: Callable[P, UserId]) -> Callable[P, UserId]:
    return function
"""


def test_a_cached_function_of_a_notebook_travels() -> None:
    names = notebook(
        NAMED + "def make():\n    return (fib(30), load() is load(), load.cache_parameters(), load.mark,"
        " load.__name__, Has().method(), inner(1), fib.cache_info().currsize)\n"
    )

    found = made_there(names["make"])

    assert found == (832040, True, {"maxsize": 3, "typed": True}, "m", "load", 4, 4, 31)


def test_a_cached_function_of_a_notebook_is_a_task() -> None:
    names = notebook(NAMED)

    found = pickling.load_function(pickling.dump_function(names["load"])[0])

    assert found is not names["load"]
    assert found(3) == [3]


@pytest.mark.parametrize("wrap", [lambda f: f, functools.cache])
def test_a_cached_function_of_a_module_travels_by_reference(
    wrap: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("tests_cached")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec("import functools\n@functools.lru_cache\ndef load(): return 1", vars(module))
    function, module.load = module.load, wrap(module.load)

    assert pickle.loads(pickling.dumps(function)) is function


def test_a_function_of_a_notebook_that_dispatches_by_type_travels() -> None:
    names = notebook(NAMED + "def make():\n    return [kind_of(x) for x in (1, '', Has())]\n")

    assert made_there(names["make"]) == ["int, not object", "object", "Has"]


def test_new_types_and_parameters_of_a_notebook_travel() -> None:
    names = notebook(NAMED + "def make():\n    return UserId(3), UserId, keeps.__annotations__['return']\n")

    number, new_type, annotation = made_there(names["make"])

    assert number == 3
    assert (new_type.__name__, new_type.__supertype__, new_type.__module__) == ("UserId", int, "__main__")
    assert annotation.__args__[0].__name__ == "P"


def test_a_class_of_a_notebook_with_a_cached_property_travels() -> None:
    names = notebook(
        "import functools\nclass Has:\n    @functools.cached_property\n    def x(self):\n        'doc'\n"
        "        return [super().__hash__() and 4]\ndef make():\n    has = Has()\n"
        "    return has.x is has.x, Has.x.__doc__, has\n"
    )

    same, doc, found = made_there(names["make"])

    assert (same, doc, found.x) == (True, "doc", [4])
    assert pickle.loads(pickling.dumps(functools.cached_property(len))).func is len


class Stream:
    """Like the one of a kernel."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


@pytest.mark.parametrize("name", ["stdout", "stderr", "__stdout__", "__stderr__"])
def test_an_output_stream_is_that_of_the_worker_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, Stream())
    names = notebook(f"import sys\ndef make(file=sys.{name}):\n    return file is sys.{name}\n")

    assert made_there(names["make"]) is True


def test_a_text_in_memory_travels_though_output_goes_to_it() -> None:
    with contextlib.redirect_stdout(io.StringIO()) as text:
        print("one")
        found = pickle.loads(pickling.dumps(text))

    assert found.getvalue() == "one\n"


def test_a_class_with_slots_is_there_as_it_is_here() -> None:
    names = notebook(
        SLOTS
        + "def make():\n    kinds = (Plain, One, Heir, Empty, Open, Both, Concrete, Made, Data, Of)\n"
        + "    return [(hasattr(k(1), '__dict__'), vars(k).get('__slots__')) for k in kinds]\n"
    )

    assert made_there(names["make"]) == names["make"]()


def test_get_ipython_is_that_of_the_shell_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_shell(tmp_path) as shell:
        monkeypatch.setattr(IPython, "get_ipython", shell.get_ipython)
        names = notebook("def make():\n    return get_ipython()\n")
        names["get_ipython"] = shell.get_ipython

        assert made_there(names["make"]) is None  # there is no shell


def test_other_methods_named_get_ipython_travel_as_they_are() -> None:
    names = notebook(
        "class Has:\n    def get_ipython(self):\n        return 3\n"
        "get_ipython = Has().get_ipython\ndef make():\n    return get_ipython()\n"
    )

    assert made_there(names["make"]) == 3
