"""What code that travelled finds as `__main__`."""

from __future__ import annotations

import functools
import pickle
import sys
from typing import Any

import pytest

from nbtasks import pickling
from nbtasks.pickling.mains import main_of, standing_in

NOTEBOOK = """
import functools
import pickle
VERSION = {version}

class Net:
    class Part:
        pass
    version = VERSION

class Other:
    pass

def double(x):
    return 2 * x

def quadruple(x):
    return double(double(x))

def copied():
    return pickle.loads(pickle.dumps(Net())).version

def helped():
    return copied()

def part():
    return type(pickle.loads(pickle.dumps(Net.Part()))) is Net.Part

def again(value):
    return pickle.loads(pickle.dumps(value))

def quiet(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

cached = functools.lru_cache(copied)
partly = functools.partial(again, double)
wrapped = quiet(copied)
"""


def notebook(version: int = 1) -> dict[str, Any]:
    """The names of one whose cells were executed; what is defined there is of `__main__`."""
    names: dict[str, Any] = {"__name__": "__main__", "__file__": "/script.py"}
    exec(NOTEBOOK.format(version=version), names)
    return names


def called(function: Any, *values: Any) -> Any:
    """What the function gives where it and its arguments came by value."""
    there = pickling.load_function(pickling.dump_function(function)[0])
    values, _ = pickling.load_arguments(pickling.dump_arguments(values, {})[0])
    main = main_of(there)
    main.brought += values
    with standing_in(main):
        return there(*values)


@pytest.mark.parametrize("name", ["copied", "helped", "cached", "wrapped"])
def test_what_the_code_names_can_be_pickled_by_its_name(name: str) -> None:
    assert called(notebook()[name]) == 1


def test_a_class_within_a_class_is_found_as_well() -> None:
    assert called(notebook()["part"]) is True


def test_the_class_of_an_argument_can_be_pickled_though_the_code_does_not_name_it() -> None:
    names = notebook()

    back = called(names["again"], [names["Other"]()])

    assert type(back[0]).__name__ == "Other"


def test_of_a_class_that_was_changed_the_newest_is_found() -> None:
    for version in (1, 2):
        names = notebook(version)
        assert called(names["again"], names["Net"]()).version == version


@pytest.mark.parametrize("name", ["double", "quadruple"])
def test_a_function_among_the_arguments_can_be_pickled(name: str) -> None:
    names = notebook()

    assert called(names["again"], names[name])(3) in (6, 12)


def test_a_partial_call_has_the_names_of_its_function() -> None:
    names = notebook()

    assert called(names["partly"])(4) == 8


def test_what_the_code_does_not_name_is_not_there_and_the_error_says_what_is() -> None:
    names = notebook()
    with standing_in(main_of(names["copied"])):
        body = pickle.dumps(names["Net"]())
    there = pickling.load_function(pickling.dump_function(names["double"])[0])

    with standing_in(main_of(there)), pytest.raises(AttributeError, match="what the code of the run names"):
        pickle.loads(body.replace(b"Net", b"Nut"))


def test_a_function_of_a_module_finds_an_empty_main() -> None:
    main = main_of(functools.reduce)

    assert vars(main) == {}
    assert main.__name__ == "__main__"


def test_a_process_that_is_spawned_finds_no_script_to_execute() -> None:
    main = main_of(notebook()["double"])

    assert getattr(main, "__file__", None) is None
    assert main.__spec__ is None


def test_main_is_put_back_whatever_happens() -> None:
    before = sys.modules["__main__"]

    with pytest.raises(ZeroDivisionError), standing_in(main_of(notebook()["double"])):
        raise ZeroDivisionError

    assert sys.modules["__main__"] is before
