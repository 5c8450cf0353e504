"""What a notebook defines and cloudpickle alone would not carry."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

from nbtasks import pickling

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
    exec(source, names)
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


def test_a_class_with_slots_is_there_as_it_is_here() -> None:
    names = notebook(
        SLOTS
        + "def make():\n    kinds = (Plain, One, Heir, Empty, Open, Both, Concrete, Made, Data, Of)\n"
        + "    return [(hasattr(k(1), '__dict__'), vars(k).get('__slots__')) for k in kinds]\n"
    )

    assert made_there(names["make"]) == names["make"]()
