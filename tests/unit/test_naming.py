"""What a run is called: templates and functions, checked where they are given, asked once per run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import nbtasks
from nbtasks import context, task
from nbtasks.tasks import naming
from tests.unit.submitters import MemorySubmitter


def fetch(url: str, times: int = 2) -> str:
    run = nbtasks.current_run()
    assert run is not None
    return run.name


async def fetch_async(url: str, times: int = 2) -> str:
    return fetch(url, times)


BOTH = pytest.mark.parametrize("function", [fetch, fetch_async])


@pytest.fixture
def there() -> Iterator[MemorySubmitter]:
    submitter = MemorySubmitter()
    with context.use(submitter):
        yield submitter


def value_of(made: Any) -> Any:
    return asyncio.run(made) if asyncio.iscoroutine(made) else made


@pytest.mark.feature("T7")
@BOTH
def test_a_template_names_a_run_by_its_parameters_and_their_defaults(
    there: MemorySubmitter, function: Any
) -> None:
    named = task(function, task_run_name="fetch {url} x{times:03d}")

    delayed = named.delay("a")
    mapped = named.map(["a", "b"], times=3, deferred=True)
    submitted = named.submit("c")

    assert delayed.name == "fetch a x002"
    assert nbtasks.get_run(delayed.id).name == "fetch a x002"
    assert [run.name for run in mapped] == ["fetch a x003", "fetch b x003"]
    assert (submitted.name, submitted.result(timeout=60)) == ("fetch c x002", "fetch c x002")
    assert value_of(named("d")) == "fetch d x002"


@pytest.mark.feature("T7")
@BOTH
def test_a_function_names_a_run_by_what_it_takes_of_the_parameters(function: Any) -> None:
    def of_all(parameters: dict[str, Any]) -> str:
        return f"all {sorted(parameters)}"

    for given, name in [
        (lambda: "none", "none"),
        (lambda times: f"times {times}", "times 2"),
        (lambda *, url, other=1: f"{url} {other}", "a 1"),
        (of_all, "all ['times', 'url']"),
    ]:
        assert value_of(task(function, task_run_name=given)("a")) == name


@pytest.mark.feature("T7")
def test_the_name_is_made_once_per_run_and_not_per_attempt() -> None:
    asked: list[str] = []

    def name(url: str) -> str:
        asked.append(url)
        return f"{url} {len(asked)}"

    names: list[str] = []

    @task(retries=2, task_run_name=name)
    def fails(url: str) -> None:
        run = nbtasks.current_run()
        assert run is not None
        names.append(run.name)
        raise ValueError("again")

    with pytest.raises(ValueError, match="again"):
        fails("a")

    assert asked == ["a"]
    assert names == ["a 1"] * 3


@pytest.mark.feature("T7")
@BOTH
def test_what_is_not_a_string_is_no_name(there: MemorySubmitter, function: Any) -> None:
    async def later() -> str:
        return "later"

    for given in (lambda: 3, lambda: None, later):
        named = task(function, task_run_name=given)  # type: ignore[arg-type]
        for call in (named, named.delay, named.submit):
            with pytest.raises(TypeError, match="must give a string"):
                call("a")
        with pytest.raises(TypeError, match="must give a string"):
            named.map(["a"], deferred=True)
    with pytest.raises(TypeError, match="task_run_name"):
        task(function, task_run_name=3)  # type: ignore[arg-type]
    assert not there.recorded


@pytest.mark.feature("T7")
@pytest.mark.parametrize("template", ["{nothing}", "{}", "{0}", "{url:{nothing}}", "{url"])
def test_a_template_that_could_name_no_run_is_refused_at_definition(template: str) -> None:
    with pytest.raises(ValueError, match="task_run_name"):
        task(fetch, task_run_name=template)
    with pytest.raises(ValueError, match="task_run_name"):
        task(fetch).with_options(task_run_name=template)


@pytest.mark.feature("T7")
def test_a_function_that_wants_what_the_task_has_not_is_refused_at_definition() -> None:
    with pytest.raises(TypeError, match="wants nothing"):
        task(fetch, task_run_name=lambda nothing: "name")  # type: ignore[misc]


def test_none_takes_the_own_names_away_and_long_ones_are_cut() -> None:
    named = task(fetch, task_run_name="{url}")

    assert named.with_options(task_run_name=None)("a") == "fetch"
    assert len(named("a" * 1000)) == naming.NAME_CHARACTERS_MAX
