"""`%nbtasks` in a real IPython shell: loading, help, wrong usage, completion, display; no broker runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from nbtasks import pickling, views
from nbtasks.cell import execution
from nbtasks.core.messages import Moment, RunInfo, Spec
from nbtasks.core.payload import Payload
from nbtasks.errors import CancelledRun, Detached
from nbtasks.jupyter import display
from nbtasks.jupyter.magics import OPTIONS, VERBS, NbtasksMagics, bounds, words_of
from nbtasks.pickling import offered
from nbtasks.run import Run, RunList
from nbtasks.tasks import loglines
from tests.shells import fresh_shell

ID = "01990000-0000-7000-8000-0000000000ab"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[InteractiveShell]:
    """A shell of its own, in a home where no broker runs."""
    with fresh_shell(tmp_path) as shell:
        yield shell


@pytest.fixture
def loaded(shell: InteractiveShell) -> InteractiveShell:
    shell.run_line_magic("load_ext", "nbtasks")
    return shell


def everything_registered(shell: InteractiveShell) -> tuple[Any, ...]:
    formatters = shell.display_formatter.formatters
    # by name: IPython replaces its own lazy magics when they are first used
    return (
        sorted(shell.magics_manager.magics["line"]),
        shell.magics_manager.magics["line"].get("nbtasks"),
        shell.magics_manager.registry.get("NbtasksMagics"),
        sorted(shell.magics_manager.magics["cell"]),
        shell.magics_manager.registry.get("CellMagics"),
        {event: list(callbacks) for event, callbacks in shell.events.callbacks.items()},
        "showsyntaxerror" in vars(shell),
        list(offered.takers),
        list(execution._hosts),
        len(loglines._displays),
        list(shell.Completer.custom_matchers),
        {kind: dict(formatter.type_printers) for kind, formatter in formatters.items()},
    )


def a_run(state: str = "Completed", name: str = "fit") -> Run:
    info = RunInfo(
        run=ID,
        spec=Spec("k", name, "3.11", ""),
        submitted=1.0,
        parameters='{"depth": "3"}',
        parent="",
        state=state,
        message="",
        at=2.0,
        history=(Moment(state, 2.0),),
        attempts=(),
    )
    return Run.of_info(info, Answers(info))


class Answers:
    """As much of a client as a handle asks for its state."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info

    def info(self, run: str) -> RunInfo:
        assert run == self._info.run
        return self._info

    def value(self, run: str) -> bytes:
        return pickling.dumps(None)

    def unpack(self, body: bytes) -> Payload:
        return Payload([body])

    def output(self, run: str, after: int = 0) -> list[bytes]:
        return []


# -- loading ------------------------------------------------------------------------------------------


def test_unloading_leaves_the_shell_as_it_was(shell: InteractiveShell) -> None:
    before = everything_registered(shell)

    shell.run_line_magic("load_ext", "nbtasks")
    changed = everything_registered(shell)
    shell.run_line_magic("unload_ext", "nbtasks")

    assert changed != before
    assert everything_registered(shell) == before


def test_loading_twice_says_so_and_changes_nothing(loaded: InteractiveShell) -> None:
    before = everything_registered(loaded)

    with capture_output() as captured:
        loaded.run_line_magic("load_ext", "nbtasks")

    assert "already loaded" in captured.stdout
    assert everything_registered(loaded) == before


def test_reloading_registers_each_thing_once(loaded: InteractiveShell) -> None:
    loaded.run_line_magic("reload_ext", "nbtasks")
    loaded.run_line_magic("reload_ext", "nbtasks")

    assert len(loaded.Completer.custom_matchers) == 2
    assert "nbtasks" in loaded.magics_manager.magics["line"]
    loaded.run_line_magic("unload_ext", "nbtasks")
    assert not loaded.Completer.custom_matchers
    assert "nbtasks" not in loaded.magics_manager.magics["line"]


def test_a_magic_and_a_formatter_that_were_there_come_back(shell: InteractiveShell) -> None:
    shell.register_magic_function(lambda line: "theirs", magic_name="nbtasks")
    html = shell.display_formatter.formatters["text/html"]
    html.for_type(list, lambda items: "their list")

    shell.run_line_magic("load_ext", "nbtasks")
    while_loaded = html([1, 2])
    shell.run_line_magic("unload_ext", "nbtasks")

    assert while_loaded == "their list"
    assert shell.run_line_magic("nbtasks", "") == "theirs"
    assert html([1, 2]) == "their list"


# -- usage --------------------------------------------------------------------------------------------


def test_the_help_names_every_verb(loaded: InteractiveShell) -> None:
    text = loaded.object_inspect("%nbtasks")["docstring"]

    assert all(f"\n{verb} " in text or f" {verb} " in text for verb in VERBS)
    assert "--workers" in text


@pytest.mark.parametrize(
    "line",
    [
        "",
        "dance",
        "start two",
        "start -w two",
        "start -w -1",
        "start --env FOO",
        "start --max-runs 0",
        "stop now",
        "workers 3..1",
        "workers many",
        "workers 1 2",
        "workers --gpu",
        "runs --limit 0",
        "logs",
        "logs a b",
        "cancel",
        "attach",
        "runs -l 0",
    ],
)
def test_wrong_usage_is_a_usage_error_and_starts_nothing(
    loaded: InteractiveShell, line: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError):
        loaded.run_line_magic("nbtasks", line)

    assert not (tmp_path / "broker.lock").exists()


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("stop --dry-run", "stop has no --dry-run"),
        ("cancel q --dry-run", "cancel has no --dry-run"),
        ("cancel r --state RUNNING", "cancel has no --state"),
        ("runs -f", "runs has no --follow"),
        ("status -l 100", "status has no --limit"),
        ("workers 2 -w 3", "workers has no --workers"),
        ("prune --gpu", "prune has no --gpu"),
        ("stop --max-runs 0", "stop has no --max-runs"),
    ],
)
def test_an_option_of_another_verb_is_refused(loaded: InteractiveShell, line: str, refused: str) -> None:
    with pytest.raises(UsageError, match=f"^%nbtasks {refused}$"):
        loaded.run_line_magic("nbtasks", line)


def test_each_option_belongs_to_a_verb() -> None:
    of_verbs = {option for options in OPTIONS.values() for option in options}
    parsed = NbtasksMagics.nbtasks.parser._option_string_actions

    assert of_verbs == {option for option in parsed if option.startswith("--")} - {"--help"}


@pytest.mark.parametrize("line", ["status", "workers", "workers 2", "runs", f"logs {ID}", f"cancel {ID}"])
def test_looking_starts_no_broker_and_says_how_to(
    loaded: InteractiveShell, line: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no broker runs for home .*%nbtasks start"):
        loaded.run_line_magic("nbtasks", line)

    assert not (tmp_path / "broker.lock").exists()


def test_stopping_without_a_broker_is_no_error(loaded: InteractiveShell) -> None:
    with capture_output() as captured:
        loaded.run_line_magic("nbtasks", "stop")

    assert captured.stdout.startswith("no broker runs")


@pytest.mark.parametrize("error", [Detached, CancelledRun])
def test_who_stops_following_a_run_has_used_nothing_wrongly(
    loaded: InteractiveShell, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(run: Run, follow: bool) -> None:
        raise error("run 'fit' goes on")

    monkeypatch.setattr(Run, "show", show)
    loaded.user_ns["r"] = a_run("Running")

    with pytest.raises(error):
        loaded.run_line_magic("nbtasks", "logs r --follow")


@pytest.mark.parametrize(
    ("text", "found"), [("0", (0, 0)), ("3", (3, 3)), ("0..8", (0, 8)), ("2..2", (2, 2))]
)
def test_a_number_of_workers_is_n_or_a_range(text: str, found: tuple[int, int]) -> None:
    assert bounds(text) == found


# -- completion ---------------------------------------------------------------------------------------


def completions(shell: InteractiveShell, line: str) -> list[str]:
    shell.Completer.use_jedi = False  # it has its own results, and nothing to do with ours
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(line, len(line))]


@pytest.mark.feature("N1")
def test_a_line_may_end_in_a_comment(loaded: InteractiveShell) -> None:
    with capture_output() as captured:
        loaded.run_line_magic("nbtasks", "stop   # what waits is kept")

    assert captured.stdout.startswith("no broker runs")
    assert words_of("workers 2 --env A=#b  # c") == ["workers", "2", "--env", "A=#b"]


def test_verbs_are_completed(loaded: InteractiveShell) -> None:
    assert completions(loaded, "%nbtasks st") == ["start", "status", "stop"]
    assert set(completions(loaded, "%nbtasks ")) == set(VERBS)


def test_states_and_options_of_a_listing_are_completed(loaded: InteractiveShell) -> None:
    assert completions(loaded, "%nbtasks runs --st") == ["--state"]
    assert completions(loaded, "%nbtasks runs --state Cr") == ["Crashed"]


def test_a_verb_is_completed_with_its_own_options(loaded: InteractiveShell) -> None:
    assert completions(loaded, "%nbtasks prune --") == ["--dry-run", "--larger-than", "--older-than"]
    assert completions(loaded, "%nbtasks logs --") == ["--follow"]
    assert completions(loaded, "%nbtasks stop --dr") == []


def test_other_lines_are_completed_as_ever(loaded: InteractiveShell) -> None:
    loaded.user_ns["status_of_things"] = 1

    assert "status_of_things" in completions(loaded, "status_of")


# -- display ------------------------------------------------------------------------------------------


def html_of(shell: InteractiveShell, thing: object) -> str | None:
    return shell.display_formatter.format(thing)[0].get("text/html")


def test_a_run_shows_itself_as_html(loaded: InteractiveShell) -> None:
    html = html_of(loaded, a_run(name="<fit>"))

    assert html is not None
    words = re.sub("<[^>]*>", " ", html)
    assert "✓ Completed" in " ".join(words.split())
    assert ID in words
    assert "&lt;fit&gt;(depth=3)" in words


@pytest.mark.parametrize("kind", [RunList, list, tuple])
def test_runs_in_a_list_are_a_table(loaded: InteractiveShell, kind: type) -> None:
    html = html_of(loaded, kind([a_run(), a_run("Failed")]))

    assert html is not None
    assert "2 runs: 1 Completed, 1 Failed" in html
    assert html.count("<tr>") == 3


@pytest.mark.parametrize("thing", [[], [1, 2], [a_run(), 1], ()])
def test_other_lists_are_left_alone(loaded: InteractiveShell, thing: object) -> None:
    assert html_of(loaded, thing) is None


def test_a_long_list_asks_only_for_what_it_shows(loaded: InteractiveShell) -> None:
    silent = Run(ID, "fit", "k", (), "{}", None)  # asking it for its state would fail

    html = html_of(loaded, RunList([a_run()] * 50 + [silent] * 100))

    assert html is not None
    assert "150 runs; the first 50 runs: 50 Completed" in html
    assert "… and 100 more" in html


def test_the_text_of_runs_in_a_kernel_has_no_id_and_no_time(shell: InteractiveShell) -> None:
    shell.kernel = object()  # what tells a kernel's shell from a terminal's

    shell.run_line_magic("load_ext", "nbtasks")
    texts = [
        shell.display_formatter.format(thing)[0]["text/plain"] for thing in (a_run(), RunList([a_run()]))
    ]

    assert texts == ["Run 'fit': Completed", "RunList of 1 run of fit"]


def test_the_text_of_a_run_in_a_terminal_is_its_repr(loaded: InteractiveShell) -> None:
    run = a_run()

    assert loaded.display_formatter.format(run)[0]["text/plain"] == repr(run)


def test_a_table_of_runs_has_a_text_without_ids(loaded: InteractiveShell) -> None:
    loaded.kernel = object()
    table = display.RunTable([a_run()], loaded)

    assert repr(table) == "1 run: 1 Completed\n✓ Completed  fit"
    assert str(UUID(ID)) in table._repr_html_()


def test_a_table_of_runs_in_a_terminal_has_what_names_each(loaded: InteractiveShell) -> None:
    _, line = repr(display.RunTable([a_run("Crashed", "f" * 50)], loaded)).splitlines()

    shown = line.split()[2]
    assert line == f"‼ Crashed  {shown}  {'f' * 50}"
    assert views.match_id(shown, [ID]) == ID
    assert len(line) <= 80
