"""When the names of `-o` are assigned, and when they are left alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nbtasks import pickling
from nbtasks.context import Fate
from nbtasks.core.messages import Ended
from nbtasks.core.payload import Payload
from nbtasks.jupyter import offers
from nbtasks.pickling import Offered
from nbtasks.run import Run
from nbtasks.wire import ids
from tests.shells import fresh_shell
from tests.system.waiting import until

pytestmark = pytest.mark.feature("N3")


class Unpacks:
    """As much of a client as a handle needs that knows how its run ended."""

    def keep(self, fate: Fate) -> None: ...

    def unpack(self, body: bytes) -> Payload:
        return Payload([body])


class Fetches(Unpacks):
    """One that has to ask for a value, and gets no answer until the gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def value(self, run: str) -> bytes:
        assert self.gate.wait(60)
        [body] = pickling.dump(Offered(None, {"df": 5})).stream
        return bytes(body)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[InteractiveShell]:
    with fresh_shell(tmp_path) as shell:
        shell.run_line_magic("load_ext", "nbtasks")
        yield shell


def submitted(shell: InteractiveShell, *names: str, name: str = "load", client: Unpacks | None = None) -> Run:
    run_id = ids.run_id()
    run = Run(run_id, name, f"cell:{name}", (), "{}", client or Unpacks(), Fate(run_id))
    offers.of(shell).add(run, names)
    return run


def end(run: Run, state: str = "Completed", **names: Any) -> None:
    [body] = pickling.dump(Offered(None, names)).stream
    settle(run, Ended(1, 1, run._run, state, "", 1.0, body))


def settle(run: Run, ended: Ended) -> None:
    for call in run._settled.settle(ended):
        call()


def cell(shell: InteractiveShell, source: str = "pass") -> str:
    """Executes a cell; returns what was said on stderr."""
    with capture_output() as captured:
        shell.run_cell(source)
    return str(captured.stderr)


def test_names_are_assigned_although_the_thread_that_heard_of_the_end_has_not_said_so(
    shell: InteractiveShell,
) -> None:
    run = submitted(shell, "df")
    [body] = pickling.dump(Offered(None, {"df": 5})).stream
    run._settled.settle(
        Ended(1, 1, run._run, "Completed", "", 1.0, bytes(body))
    )  # whom to call, it has yet to call

    cell(shell)

    assert shell.user_ns["df"] == 5


def test_a_name_is_assigned_before_the_next_cell(shell: InteractiveShell) -> None:
    run = submitted(shell, "df")

    cell(shell)
    before = "df" in shell.user_ns
    end(run, df=5)
    said = cell(shell, "copy = df")

    assert not before
    assert shell.user_ns["copy"] == 5
    assert said == ""


def test_a_name_that_was_bound_anew_is_left_alone_and_that_is_said_once(shell: InteractiveShell) -> None:
    shell.user_ns["df"] = "old"
    run = submitted(shell, "df", "other")
    cell(shell, "df = 'mine'")
    end(run, df=5, other=6)

    said, again = cell(shell), cell(shell)

    assert (shell.user_ns["df"], shell.user_ns["other"]) == ("mine", 6)
    assert said == "nbtasks: df of run 'load' not assigned: bound anew since\n"
    assert again == ""


def test_a_name_that_was_deleted_is_left_alone(shell: InteractiveShell) -> None:
    shell.user_ns["df"] = "old"
    run = submitted(shell, "df")
    cell(shell, "del df")
    end(run, df=5)
    cell(shell)

    assert "df" not in shell.user_ns


def test_a_value_that_was_only_changed_is_replaced(shell: InteractiveShell) -> None:
    shell.user_ns["items"] = [1]
    run = submitted(shell, "items")
    cell(shell, "items.append(2)")
    end(run, items=[3])
    cell(shell)

    assert shell.user_ns["items"] == [3]


def test_the_last_to_be_submitted_assigns_whatever_order_they_end_in(shell: InteractiveShell) -> None:
    first, second = submitted(shell, "df", name="first"), submitted(shell, "df", name="second")
    end(second, df=2)
    cell(shell)
    end(first, df=1)
    said = cell(shell)

    assert shell.user_ns["df"] == 2
    assert said == ""


def test_a_run_that_failed_assigns_nothing_and_says_so_once(shell: InteractiveShell) -> None:
    run = submitted(shell, "df")
    end(run, state="Cancelled")

    said, again = cell(shell), cell(shell)

    assert said.startswith("nbtasks: df not assigned: run 'load' is Cancelled (CancelledRun: ")
    assert again == ""
    assert offers.of(shell).pending("df") is None


def test_a_value_that_has_to_be_asked_for_keeps_no_cell_waiting(shell: InteractiveShell) -> None:
    client = Fetches()
    run = submitted(shell, "df", client=client)
    settle(run, Ended(1, 1, run._run, "Completed", "", 1.0, fetch=True))

    cell(shell)
    before = "df" in shell.user_ns
    client.gate.set()
    until(lambda: offers.of(shell)._open[run._run].is_at_hand, "fetched")
    cell(shell)

    assert not before
    assert shell.user_ns["df"] == 5


def test_asking_for_the_result_assigns(shell: InteractiveShell) -> None:
    run = submitted(shell, "df")
    end(run, df=5)

    run.result()

    assert shell.user_ns["df"] == 5


def test_a_pending_name_is_what_the_newest_run_gives_until_it_is_bound_anew(shell: InteractiveShell) -> None:
    first, second = submitted(shell, "df", "x"), submitted(shell, "df")

    pending = offers.of(shell).pending
    df, x = pending("df"), pending("x")
    shell.user_ns["df"] = "mine"

    assert df is not None
    assert x is not None
    assert (df.run, x.run) == (second, first)
    assert pending("df") is None
    assert pending("y") is None


def test_collect_assigns_and_says_what_is_not_there_yet(shell: InteractiveShell) -> None:
    run = submitted(shell, "df")
    end(run, df=5)

    with capture_output() as captured:
        shell.run_line_magic("nbtasks", "collect")
        shell.run_line_magic("nbtasks", "collect")

    assert captured.stdout == "df: assigned by run 'load'\nno names are awaited\n"
    assert shell.user_ns["df"] == 5


def test_names_of_another_kernels_run_are_assigned_when_it_is_named(shell: InteractiveShell) -> None:
    run = submitted(shell, "df")
    offers.of(shell)._open.clear()
    end(run, df=5)
    shell.user_ns["it"] = run

    with capture_output() as captured:
        shell.run_line_magic("nbtasks", "collect it")

    assert captured.stdout == "df: assigned by run 'load'\n"
    assert shell.user_ns["df"] == 5


def test_a_reload_of_the_extension_forgets_no_names(shell: InteractiveShell) -> None:
    run = submitted(shell, "df")
    shell.run_line_magic("reload_ext", "nbtasks")
    end(run, df=5)
    cell(shell)

    assert shell.user_ns["df"] == 5


def test_unloaded_it_assigns_nothing_any_more(shell: InteractiveShell) -> None:
    run = submitted(shell, "df")
    shell.run_line_magic("unload_ext", "nbtasks")
    end(run, df=5)
    cell(shell)

    assert "df" not in shell.user_ns
