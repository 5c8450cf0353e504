"""What travels, what does not and why, and what is shown of arguments."""

from __future__ import annotations

import linecache
import pickle
import sys
import threading
import traceback
import types
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

import nbtasks
from nbtasks import pickling
from nbtasks.cell.execution import Cell
from nbtasks.core.payload import Payload
from nbtasks.errors import NotPicklable, ResultCorrupt, ValueTooLarge
from nbtasks.tasks.identity import source_digest


class Holder:
    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)


def in_notebook(source: str, name: str, filename: str = "<cell>", **names: Any) -> Any:
    """Define a function as a notebook does: in `__main__`, from source that is in no file."""
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(source, filename, "exec"), namespace)
    return namespace[name]


# -- functions ----------------------------------------------------------------------------------------


def test_a_function_of_a_notebook_travels_with_what_it_uses() -> None:
    helper = in_notebook("def helper(x):\n    return x + 1\n", "helper", "<cell 1>")
    main = in_notebook("def main(x):\n    return helper(x) * k\n", "main", "<cell 2>", helper=helper, k=10)

    code, digest = pickling.dump_function(main)

    assert pickling.load_function(code)(1) == 20
    assert len(digest) == 32
    assert pickling.dump_function(main) == (code, digest)


def test_its_source_lines_travel_with_it_and_with_what_it_calls() -> None:
    helper = in_notebook("def helper():\n    raise ValueError('deep')  # here\n", "helper", "<cell 3>")
    main = in_notebook("def main():\n    return helper()  # there\n", "main", "<cell 4>", helper=helper)
    code, _ = pickling.dump_function(main)
    for name in ("<cell 3>", "<cell 4>"):
        del linecache.cache[name]

    with pytest.raises(ValueError, match="deep") as caught:
        pickling.load_function(code)()

    text = "".join(traceback.format_exception(caught.value))
    assert "# here" in text
    assert "# there" in text


def test_the_digest_of_its_source_is_the_same_where_it_arrives() -> None:
    function = in_notebook("def main(x):\n    return x\n", "main", "<cell 5>")
    code, _ = pickling.dump_function(function)
    there = source_digest(function)
    del linecache.cache["<cell 5>"]

    found = source_digest(pickling.load_function(code))

    assert found == there != ""


def test_a_cell_has_a_source_for_caches_like_a_function() -> None:
    first, same, other = (Cell(source, "<cell>") for source in ("x = 1", "x = 1", "x = 2"))

    assert source_digest(first)
    assert source_digest(first) == source_digest(same) != source_digest(other)


def test_a_newer_cell_under_the_same_name_replaces_the_source() -> None:
    old, _ = pickling.dump_function(in_notebook("def f():\n    return 1\n", "f", "<cell 5>"))
    new, _ = pickling.dump_function(in_notebook("def f():\n    return 2222\n", "f", "<cell 5>"))

    pickling.load_function(old)
    assert linecache.getline("<cell 5>", 2) == "    return 1\n"
    pickling.load_function(new)
    assert linecache.getline("<cell 5>", 2) == "    return 2222\n"


def test_a_function_of_a_module_travels_by_reference() -> None:
    code, _ = pickling.dump_function(traceback.format_exc)

    assert pickling.load_function(code) is traceback.format_exc
    assert len(code) < 200


def test_a_module_of_a_package_that_is_registered_by_value_travels_so_while_it_is_registered() -> None:
    by_reference, digest = pickling.dump_function(source_digest)

    cloudpickle.register_pickle_by_value(nbtasks)
    try:
        by_value, other_digest = pickling.dump_function(source_digest)
    finally:
        cloudpickle.unregister_pickle_by_value(nbtasks)

    assert len(by_value) > 2 * len(by_reference)
    assert other_digest != digest
    assert pickling.dump_function(source_digest) == (by_reference, digest)


def test_a_function_that_its_module_holds_under_another_name_now_travels_under_that() -> None:
    module = types.ModuleType("tests_renamed")
    exec("def first(): return 1\ndef other(): return 2", vars(module))
    sys.modules[module.__name__] = module
    try:
        function = module.first
        pickling.dump_function(function)

        module.second, module.first = function, module.other
        function.__qualname__ = function.__name__ = "second"

        assert pickling.load_function(pickling.dump_function(function)[0])() == 1
    finally:
        del sys.modules[module.__name__]


@pytest.mark.feature("D8")
def test_a_captured_name_that_cannot_travel_is_named() -> None:
    f = in_notebook("def f():\n    return model\n", "f", model=Holder(engine=Holder(lock=threading.Lock())))

    with pytest.raises(NotPicklable, match=r"the name 'model'\.engine\.lock is a _thread\.lock"):
        pickling.dump_function(f)


@pytest.mark.feature("D8")
def test_a_closure_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()

    def f() -> Any:
        return lock

    with pytest.raises(NotPicklable, match=r"the name 'lock' is a _thread\.lock"):
        pickling.dump_function(f)


CLASS = """
import functools
class CP:
    def first(self):
        return super().__init__()
    table = {"a": [lock]}
class Heir(CP):
    pass
class Uses:
    def first(self):
        return super().__init__()
    @functools.cached_property
    def second(self):
        return lock
"""


@pytest.mark.feature("D8")
def test_what_cannot_travel_in_a_class_is_named() -> None:
    cp = in_notebook(CLASS, "CP", lock=threading.Lock())
    heir = in_notebook(CLASS, "Heir", lock=threading.Lock())
    uses = in_notebook(CLASS, "Uses", lock=threading.Lock())
    f = in_notebook("def f():\n    return CP()\n", "f", CP=cp)

    with pytest.raises(NotPicklable, match=r"because the name 'CP'\.table\['a'\]\[0\] is a _thread\.lock"):
        pickling.dump_function(f)
    with pytest.raises(NotPicklable, match=r"because the class CP\.table\['a'\]\[0\] is a _thread\.lock"):
        pickling.dump_arguments((cp(),), {}, ["x"])
    with pytest.raises(NotPicklable, match=r"because the class CP\.table\['a'\]\[0\] \(of \[1\]\) is a"):
        pickling.dump_arguments(([1, cp()],), {}, ["x"])
    with pytest.raises(NotPicklable, match=r"because the class CP\.table"):
        pickling.dump_arguments((heir,), {}, ["x"])
    with pytest.raises(NotPicklable, match=r"because the name 'lock' \(of \.second\) is a _thread\.lock"):
        pickling.dump_arguments((uses,), {}, ["x"])


# -- arguments and results ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (threading.Lock(), "argument x cannot be pickled"),
        ({"a": [0, threading.Lock()]}, r"x\['a'\]\[1\] is a _thread\.lock"),
        (Holder(inner=Holder(lock=threading.Lock())), r"x\.inner\.lock is a _thread\.lock"),
        ((i for i in ()), "argument x cannot be pickled.*generator"),
    ],
)
@pytest.mark.feature("D8")
def test_an_argument_that_cannot_travel_is_named_with_the_way_to_it(value: Any, words: str) -> None:
    with pytest.raises(NotPicklable, match=words):
        pickling.dump_arguments((1, value), {}, ["y", "x"])
    with pytest.raises(NotPicklable, match=words):
        pickling.dump_arguments((1,), {"x": value}, ["y"])


def test_looking_for_the_culprit_ends_in_a_circle() -> None:
    circle: list[Any] = [threading.Lock()]
    circle.append(circle)

    with pytest.raises(NotPicklable, match=r"x\[0\] is a _thread\.lock"):
        pickling.dump_arguments((circle,), {}, ["x"])


@pytest.mark.parametrize(
    "args", [(), (1, "a", None, 2.5, b"x"), ([1, (2, {"k": [True]})],), ({1, 2}, Holder), (lambda: 3,)]
)
def test_arguments_arrive_as_they_were(args: tuple[Any, ...]) -> None:
    body, _ = pickling.dump_arguments(args, {"key": args}, [])

    positional, named = pickling.load_arguments(body)

    if args and callable(args[0]):
        assert positional[0]() == named["key"][0]() == 3
    else:
        assert (positional, named) == (args, {"key": args})


def test_a_task_that_is_too_large_with_what_it_uses_is_named_with_its_size() -> None:
    large = bytes(75_000_000)

    def uses() -> int:
        return len(large)

    with pytest.raises(ValueTooLarge, match=r"uses.* is 71\.5 MiB pickled.*pass large values as arguments"):
        pickling.dump_function(uses)


def copy_of(payload: Payload) -> Payload:
    """As a worker finds it: one pickle, and buffers of its own."""
    return Payload([b"".join(payload.stream)], [memoryview(bytearray(buffer)) for buffer in payload.buffers])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(100_000.0),
        np.arange(100_000).reshape(100, 1000)[:, ::2],
        np.asfortranarray(np.arange(100_000.0).reshape(100, 1000)),
        np.zeros(0),
        np.array([{"an": "object"}] * 10, dtype=object),
        np.arange(3),
    ],
)
def test_an_array_arrives_as_it_was_and_can_be_changed(array: Any) -> None:
    found = pickling.load_result(copy_of(pickling.dump_result([array, "and more"])))

    assert (found[0] == array).all()
    assert found[0].dtype == array.dtype
    assert found[0].flags.writeable


def test_a_table_arrives_as_it_was() -> None:
    table = pd.DataFrame({"a": np.arange(50_000.0), "b": np.arange(50_000), "c": ["text"] * 50_000})

    found = pickling.load_result(copy_of(pickling.dump_result(table)))

    pd.testing.assert_frame_equal(found, table)
    found.loc[0, "a"] = 7.0


def test_large_parts_are_not_copied_when_they_are_pickled() -> None:
    large, array = bytes(200_000), np.arange(100_000.0)

    payload, _ = pickling.dump_arguments((large, array), {}, ["x", "y"])

    assert any(piece is large for piece in payload.stream)
    assert [np.shares_memory(np.frombuffer(buffer), array) for buffer in payload.buffers] == [True]
    assert payload.size < len(large) + array.nbytes + 2000


def test_what_is_small_is_one_pickle() -> None:
    payload, _ = pickling.dump_arguments((np.arange(4000.0), b"x" * 20_000), {}, ["x", "y"])

    assert not payload.buffers
    assert pickling.load_arguments(b"".join(payload.stream))[0][1] == b"x" * 20_000


def test_what_offers_its_memory_by_itself_stays_outside() -> None:
    found = pickling.load_result(copy_of(payload := pickling.dump_result(Tensor(b"\x01" * 100_000))))

    assert len(payload.buffers) == 1
    assert bytes(found.memory) == b"\x01" * 100_000


class Tensor:
    """Like one of a library whose objects own memory."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Tensor, (pickle.PickleBuffer(self.memory),)


def test_a_result_that_cannot_travel_is_named_by_its_type() -> None:
    with pytest.raises(NotPicklable, match=r"the result, a _thread\.lock, cannot be pickled"):
        pickling.dump_result(threading.Lock())


def test_a_damaged_result_is_an_error_of_ours() -> None:
    with pytest.raises(ResultCorrupt):
        pickling.load_result(b"\x80\x05garbage")


# -- what is shown ------------------------------------------------------------------------------------


class Rude:
    def __repr__(self) -> str:
        raise AssertionError("no code of the user's is called")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"), (True, "True"), (None, "None"), (2.5, "2.5"), ("a'b", '"a\'b"'), (b"x", "b'x'"),
        ([1, 2], "<list of 2>"), ({"a": 1}, "<dict of 1>"), (set(), "<set of 0>"),
        (Rude(), f"<{Rude.__module__}.Rude>"), (len, "<builtin_function_or_method>"),
    ],
)  # fmt: skip
def test_plain_values_are_shown_and_others_described(value: Any, text: str) -> None:
    assert pickling.safe_repr(value) == text


def test_a_number_too_long_to_write_is_described() -> None:
    assert pickling.safe_repr(10**10_000) == "<int of 33,220 bits>"


@pytest.mark.parametrize("value", ["x" * 10**7, "\x00" * 10**6, b"\xff" * 10**6, "é" * 190, "'" * 200])
def test_what_is_shown_has_at_most_200_characters(value: Any) -> None:
    assert len(pickling.safe_repr(value)) <= 200
