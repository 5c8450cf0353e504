"""Tasks: their definition, options and identity, plain calls, and what is submitted."""

from __future__ import annotations

import asyncio
import builtins
import functools
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

import nbtasks
from nbtasks import Task, context, pickling, task
from nbtasks.tasks import identity, loglines, options
from nbtasks.tasks.words import Words
from tests.unit.submitters import MemorySubmitter

HERE = __name__


async def nothing() -> None:
    pass


@task(retries=2, tags=["math"])
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    And say so.
    """
    return a + b


@pytest.fixture
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


def spec_of(there: MemorySubmitter, run: Any) -> Any:
    return there.recorded[str(run.id)][0]


# -- definition ---------------------------------------------------------------------------------------


@pytest.mark.feature("T1")
def test_a_decorator_may_be_bare_called_or_a_function() -> None:
    def f() -> int:
        return 7

    for made in (task(f), task()(f), task(name="f")(f), task(f, name="f"), Task(f)):
        assert made() == 7
        assert made.name == "f"
        assert made.fn is f


@pytest.mark.feature("T1")
@pytest.mark.parametrize("thing", [3, "f", None, add])
def test_what_cannot_be_called_or_is_a_task_already_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError):
        Task(thing)


@pytest.mark.feature("T2")
def test_name_key_and_description_come_from_the_function() -> None:
    assert add.name == "add"
    assert add.key == f"{HERE}:add"
    assert add.description.startswith("Add two numbers.")
    assert add.tags == {"math"}
    assert add.__name__ == "add"
    assert len(add.version) == 12


@pytest.mark.feature("T6")
@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("word", ["wait_for", "return_state", "deferred"])
def test_a_parameter_named_like_a_keyword_of_ours_is_refused_at_definition(word: str, kind: str) -> None:
    for parameters in (word, f"*, {word}=1", f"{word}, /"):
        namespace: dict[str, Any] = {}
        exec(f"{kind} f({parameters}): pass", namespace)

        with pytest.raises(TypeError, match=word):
            task(namespace["f"])


@pytest.mark.feature("T6")
def test_every_keyword_that_a_call_takes_beside_the_parameters_is_reserved() -> None:
    for call in (Task.__call__, Task.delay, Task.submit, Task.map):
        parameters = inspect.signature(call).parameters.values()
        ours = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}

        assert ours <= set(options.RESERVED), call


@pytest.mark.feature("T8")
@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"retries": "3"}, TypeError), ({"retries": True}, TypeError), ({"retries": -1}, ValueError),
        ({"retry_delay_seconds": ["1"]}, TypeError), ({"retry_delay_seconds": -1}, ValueError),
        ({"retry_delay_seconds": float("nan")}, ValueError), ({"timeout_seconds": 0}, ValueError),
        ({"timeout_seconds": "1"}, TypeError), ({"crash_retries": 1.5}, TypeError),
        ({"grace_s": -1}, ValueError), ({"log_prints": 1}, TypeError), ({"tags": "gpu"}, TypeError),
        ({"tags": [1]}, TypeError), ({"name": ""}, ValueError), ({"name": 3}, TypeError),
        ({"color": "red"}, TypeError), ({"retry_delay_seconds": "1"}, TypeError),
        ({"retry_delay_seconds": []}, ValueError), ({"retry_delay_seconds": [1] * 51}, ValueError),
        ({"retries": 1, "retry_delay_seconds": lambda retries: [1] * 51}, ValueError),
        ({"retry_jitter_factor": -0.1}, ValueError), ({"retry_jitter_factor": "1"}, TypeError),
        ({"retry_condition_fn": 3}, TypeError), ({"task_run_name": 3}, TypeError),
        ({"priority": 1.5}, TypeError), ({"eta": 3}, TypeError), ({"eta": datetime(2030, 1, 1)}, ValueError),
        ({"countdown": -1}, ValueError), ({"expires": 0}, ValueError), ({"expires": "1"}, TypeError),
        ({"idempotency_key": 3}, TypeError), ({"description": 3}, TypeError), ({"version": 3}, TypeError),
    ],
)  # fmt: skip
def test_a_bad_option_is_refused_at_definition_and_in_with_options(
    given: dict[str, Any], error: type
) -> None:
    with pytest.raises(error, match=list(given)[-1] if "tags" not in given else "tag"):
        task(**given)(lambda: None)
    with pytest.raises(error):
        task(**given)(nothing)
    with pytest.raises(error):
        add.with_options(**given)


@pytest.mark.feature("T5")
def test_help_and_completion_know_every_option_and_say_what_it_is() -> None:
    shown = inspect.signature(Task.with_options).parameters
    # a paragraph of the docstring begins with the names of one or more options
    told = {word.strip() for line in (Words.__doc__ or "").splitlines() for word in line.split(",")}

    assert set(Words.__annotations__) == set(shown) - {"self"}
    assert set(Words.__annotations__) <= told


def test_with_options_copies_everything_and_aliases_nothing() -> None:
    other = add.with_options(name="sum", retries=0, tags=["a"])

    assert (other.name, other.retries, other.tags, other.key) == ("sum", 0, {"a"}, add.key)
    assert (add.name, add.retries, add.tags) == ("add", 2, {"math"})
    assert other.description == add.description
    assert other(1, 2) == 3


def test_a_timeout_can_be_taken_away_again() -> None:
    assert add.with_options(timeout_seconds=3).with_options(timeout_seconds=None).timeout_seconds is None


@pytest.mark.feature("T3")
def test_the_key_of_a_script_is_its_stem_and_of_a_notebook_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    def f() -> None: ...

    f.__module__, f.__qualname__ = "__main__", "f"
    main = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert identity.key_of(f) == "notebook:f"
    main.__file__ = "/some/where/tasks.py"
    assert identity.key_of(f) == "tasks:f"


# -- plain calls --------------------------------------------------------------------------------------


@pytest.mark.feature("T4")
def test_a_call_runs_here_and_submits_nothing(there: MemorySubmitter) -> None:
    assert add(1, b=2) == 3
    assert add.fn(1) == 2
    assert not there.recorded


def test_a_call_tries_again_and_waits_between() -> None:
    seen: list[int] = []

    @task(retries=2, retry_delay_seconds=0.01)
    def flaky() -> str:
        run = nbtasks.current_run()
        assert run is not None
        seen.append(run.attempt)
        if len(seen) < 3:
            raise ValueError("not yet")
        return "done"

    assert flaky() == "done"
    assert seen == [1, 2, 3]


def test_a_call_raises_its_last_failure() -> None:
    @task(retries=1)
    def fails() -> None:
        raise ValueError("always")

    with pytest.raises(ValueError, match="always"):
        fails()


def test_a_call_that_takes_too_long_is_interrupted() -> None:
    @task(timeout_seconds=0.05)
    def slow() -> None:
        threading.Event().wait(60)

    began = time.monotonic()
    with pytest.raises(nbtasks.TimedOut, match=r"0\.05 s"):
        slow()
    assert time.monotonic() - began < 30


def test_an_async_call_is_awaited_and_interrupted() -> None:
    @task(timeout_seconds=0.05)
    async def slow(s: float) -> float:
        await asyncio.sleep(s)
        return s

    assert asyncio.run(slow(0.0)) == 0.0
    with pytest.raises(nbtasks.TimedOut):
        asyncio.run(slow(60))


def test_a_timeout_error_of_the_users_own_stays_one() -> None:
    @task(timeout_seconds=30)
    async def fails() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        asyncio.run(fails())
    assert not isinstance(caught.value, nbtasks.TimedOut)


@pytest.mark.feature("T1")
def test_generators_methods_and_callable_objects_are_called() -> None:
    class Model:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @task
        def times(self, x: int) -> int:
            return self.factor * x

        def __call__(self, x: int) -> int:
            return self.factor + x

    @task
    def count(n: int) -> Iterator[int]:
        yield from range(n)

    assert list(count(3)) == [0, 1, 2]
    assert Model(3).times(2) == 6
    assert task(Model(3))(2) == 5
    assert task(functools.partial(max, 3), name="most")(2) == 3


@pytest.mark.feature("T14")
def test_prints_of_a_call_are_logged_and_other_files_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    @task(log_prints=True)
    def talks() -> None:
        print("to", "all", sep="-")
        print("aside", file=sys.stderr)

    talks()
    print("after")

    out, err = capsys.readouterr()
    assert out == "after\n"
    assert "| INFO    | Task run 'talks' - to-all\n" in err
    assert "aside\n" in err
    assert builtins.print.__module__ == "builtins"


def test_inside_a_call_the_run_is_known() -> None:
    @task(tags=["a"])
    def who(x: int, y: int = 2) -> Any:
        return nbtasks.current_run()

    with nbtasks.tags("b"):
        run = who(1)

    assert (run.name, run.attempt, run.tags, dict(run.parameters)) == ("who", 1, {"a", "b"}, {"x": 1, "y": 2})
    assert nbtasks.current_run() is None


# -- submitting ---------------------------------------------------------------------------------------


def test_delay_records_a_run_and_says_so(there: MemorySubmitter, capsys: pytest.CaptureFixture[str]) -> None:
    run = add.delay(1)

    assert run.state.name == "Pending"
    assert run.parameters == {"a": "1", "b": "1"}
    assert run.result() == 2
    assert capsys.readouterr().err.endswith(" | INFO    | nbtasks.tasks - Created task run 'add'.\n")


def test_where_runs_show_themselves_their_making_is_logged_and_not_written(
    there: MemorySubmitter, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    logger = loglines.logger_of("nbtasks")
    logger.addHandler(caplog.handler)
    take_back = loglines.leave_to_displays()
    try:
        add.delay(1)
        add.map([1, 2], deferred=True)
        loglines.uncached("add", "nothing else is held back")
    finally:
        take_back()
        take_back()
        logger.removeHandler(caplog.handler)
    add.delay(1)

    said = [line.rpartition(" - ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == ["Task 'add': nothing else is held back", "Created task run 'add'."]
    assert caplog.messages[:2] == ["Created task run 'add'.", "Created 2 task runs 'add'."]


@pytest.mark.feature("D1")
@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"a": 1}), ((1,), {"c": 1})])
def test_what_does_not_fit_is_a_type_error_and_no_run_exists(
    there: MemorySubmitter, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r"add\(\)"):
        add.delay(*args, **kwargs)

    assert not there.recorded


@pytest.mark.feature("D1")
def test_positional_keyword_and_variadic_arguments_arrive_the_same(there: MemorySubmitter) -> None:
    @task
    def everything(a: int, /, b: int, *rest: int, c: int = 3, **more: int) -> Any:
        return a, b, rest, c, more

    assert everything.delay(1, 2, 8, 9, c=4, d=5).result() == (1, 2, (8, 9), 4, {"d": 5})
    assert everything.delay(1, b=2).result() == (1, 2, (), 3, {})


@pytest.mark.feature("T2", "T5")
def test_options_and_ambient_tags_travel_with_the_run(there: MemorySubmitter) -> None:
    chosen = add.with_options(
        name="sum", tags=["a"], retries=5, retry_delay_seconds=1, timeout_seconds=9, crash_retries=2,
        grace_s=0, log_prints=True, version="v1",
    )  # fmt: skip

    with nbtasks.tags("b"):
        spec = spec_of(there, chosen.delay(1))

    assert (spec.name, spec.key, spec.version, spec.tags) == ("sum", add.key, "v1", ("a", "b"))
    assert (spec.retries, spec.retry_delay_s, spec.timeout_s, spec.crash_retries) == (5, 1.0, 9.0, 2)
    assert (spec.grace_s, spec.log_prints) == (0.0, True)
    assert spec.python == f"{sys.version_info[0]}.{sys.version_info[1]}"


def test_directory_and_paths_of_the_submitter_travel_without_the_environment(
    there: MemorySubmitter, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("relative")

    spec = spec_of(there, add.delay(1))

    assert spec.cwd == str(tmp_path)
    assert spec.sys_path[0] == str(tmp_path / "relative")
    assert not [path for path in spec.sys_path if "site-packages" in path or path.endswith("lib-dynload")]


def test_a_changed_global_shows_in_the_next_delay(there: MemorySubmitter) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "factor": 2}
    exec("def times(x): return factor * x", namespace)
    times = task(namespace["times"])

    first = times.delay(10)
    namespace["factor"] = 3
    second = times.delay(10)

    assert [first.result(), second.result()] == [20, 30]


def test_a_method_is_delayed_with_its_object(there: MemorySubmitter) -> None:
    class Model:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @task
        def times(self, x: int) -> int:
            return self.factor * x

    assert Model(3).times.delay(2).result() == 6


class Shop:
    @task
    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    @task
    @staticmethod
    async def halve(x: int) -> int:
        return x // 2

    patient = double.with_options(retries=1)


def test_a_static_method_gets_no_object_through_a_class_and_an_instance(there: MemorySubmitter) -> None:
    for owner in (Shop, Shop()):
        assert owner.double(3) == 6
        assert owner.double.delay(3).result() == 6
        assert owner.double.submit(3).result() == 6
        assert owner.patient(3) == 6
        assert asyncio.run(owner.halve(4)) == 2

    assert Shop.double.key == f"{HERE}:Shop.double"


def test_a_static_method_stays_one_where_its_class_travels() -> None:
    class Local:
        @task
        @staticmethod
        def double(x: int) -> int:
            return 2 * x

    def through_an_object(x: int) -> int:
        return Local().double(x)

    body, _ = pickling.dump_function(through_an_object)

    assert pickling.load_function(body)(3) == 6


@pytest.mark.feature("D1")
def test_delay_works_inside_a_running_event_loop_and_for_async_tasks(there: MemorySubmitter) -> None:
    @task
    async def double(x: int) -> int:
        return 2 * x

    async def main() -> None:
        double.delay(2)

    asyncio.run(main())
    assert len(there.recorded) == 1


@pytest.mark.feature("D9")
def test_the_parent_is_recorded_only_of_runs_that_are(there: MemorySubmitter) -> None:
    parent = context.RunContext("01990000-0000-7000-8000-0000000000ab", "p", 1)
    with context.running(parent):
        child = add.delay(1)

    @task
    def local() -> Any:
        return add.delay(1)

    assert there.recorded[str(child.id)][3] == str(parent.id)
    assert there.recorded[str(local().id)][3] == ""


def test_a_task_of_a_module_travels_by_reference_and_its_function_too() -> None:
    assert pickling.load_result(pickling.dumps(add)) is add
    code, _ = pickling.dump_function(add.fn)
    assert pickling.load_function(code) is add.fn


def test_a_recursive_task_of_a_notebook_travels_with_itself() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "task": task}
    exec("@task\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)", namespace)

    code, _ = pickling.dump_function(namespace["fib"].fn)

    assert pickling.load_function(code)(6) == 8


# -- serving ------------------------------------------------------------------------------------------


def test_serve_hands_over_keys_names_and_code(there: MemorySubmitter) -> None:
    other = task(lambda: None, name="other", key="m:other")

    nbtasks.serve(add, other, limit=3)
    add.serve()

    [(served, limit), (one, no_limit)] = there.served
    assert ([s.key for s in served], limit) == ([add.key, "m:other"], 3)
    assert (one[0].name, no_limit) == ("add", None)
    assert pickling.load_function(one[0].code) is add.fn


@pytest.mark.parametrize(
    ("tasks", "limit", "error"),
    [((), None, TypeError), ((len,), None, TypeError), ((add,), 0, ValueError), ((add,), "2", TypeError)],
)
def test_serve_refuses_what_is_no_task_or_no_limit(
    there: MemorySubmitter, tasks: Any, limit: Any, error: type
) -> None:
    with pytest.raises(error):
        nbtasks.serve(*tasks, limit=limit)


def test_nbtasks_imports_no_name_before_it_is_used() -> None:
    late = {"nbtasks.client", "nbtasks.tasks", "zmq"}
    code = f"import sys, nbtasks; print([m for m in sys.modules if m in {late}])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
    assert set(nbtasks.__all__) <= set(dir(nbtasks))
    assert all(getattr(nbtasks, name) is not None for name in nbtasks.__all__)


# -- the long form ------------------------------------------------------------------------------------


@pytest.mark.feature("D3")
def test_apply_async_gives_arguments_and_options_of_one_run(there: MemorySubmitter) -> None:
    run = add.apply_async((1,), {"b": 2}, tags=["once"], retries=7, crash_retries=1, name="other")

    spec = spec_of(there, run)
    assert (spec.key, spec.name, spec.tags, spec.retries, spec.crash_retries) == (
        add.key, "other", ("once",), 7, 1,
    )  # fmt: skip
    assert run.result() == 3
    assert add.apply_async([4]).result() == 5
    assert add.retries == 2


@pytest.mark.feature("D3")
@pytest.mark.parametrize("word", ["key", "nonsense"])
def test_apply_async_refuses_an_option_that_there_is_not(there: MemorySubmitter, word: str) -> None:
    with pytest.raises(TypeError, match=rf"add.apply_async\(\) has no option '{word}'"):
        add.apply_async((1,), {}, **{word: 1})
    assert not there.recorded


@pytest.mark.parametrize(
    ("args", "kwargs"), [("ab", None), (3, None), ((1,), [2]), ((), {}), ((1, 2, 3), {})]
)
def test_apply_async_refuses_arguments_that_do_not_fit(
    there: MemorySubmitter, args: Any, kwargs: Any
) -> None:
    with pytest.raises(TypeError):
        add.apply_async(args, kwargs)
    assert not there.recorded
