"""What is drawn of runs and brokers, from plain rows."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from nbtasks import cli, views
from nbtasks.core.states import State, StateType
from nbtasks.errors import UnknownRun

ID = "01990000-0000-7000-8000-0000000000ab"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
START_S = START.timestamp()


def completed(**changes: object) -> views.Row:
    row = views.Row(
        ID, "fit", "COMPLETED", "Completed", at=START_S + 2, attempts=1, start=START_S, end=START_S + 2, pid=7
    )
    return row._replace(**changes)


def test_a_row_is_read_from_what_a_run_offers() -> None:
    attempt = SimpleNamespace(worker="w-1", pid=7, start=START, end=None)
    state = SimpleNamespace(type=StateType.RUNNING, name="Running", message=None, timestamp=START)
    run = SimpleNamespace(
        id=ID,
        name="fit",
        tags={"b", "a"},
        parameters={"depth": "3"},
        state=state,
        attempts=[attempt],
        progress=None,
    )

    row = views.row(run)

    assert row == views.Row(
        ID, "fit", "RUNNING", "Running", "", START_S, ("a", "b"), (("depth", "3"),), 1, START_S, 0.0, "w-1", 7
    )


def test_every_state_type_has_a_shape_and_a_colour_and_no_shape_says_two_things() -> None:
    types = {kind.value for kind in StateType}

    assert set(views.SHAPES) == set(views.COLOURS) == types
    assert len(set(views.SHAPES.values())) == len(types)


def test_what_users_and_code_write_is_escaped_in_html() -> None:
    evil = "<script>alert('x')</script>"
    row = completed(
        id=evil, name=evil, state=evil, message=evil, tags=(evil,), parameters=((evil, evil),), worker=evil
    )

    for html in (views.run_html(row, START_S), views.runs_html([row], START_S)):
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_html_says_the_state_by_word_and_shape() -> None:
    html = views.run_html(completed(state="Crashed", type="CRASHED"), START_S)

    assert "‼ Crashed" in re.sub(r"<[^>]*>", "", html)


def test_html_sets_no_background_and_no_text_colour_but_that_of_a_state() -> None:
    html = views.runs_html([completed(), completed(state="Failed", type="FAILED")], START_S)

    assert set(re.findall(r"(?<![-\w])color:([^;\"]*)", html)) <= set(views.COLOURS.values())
    assert set(re.findall(r"background:([^;\"]*)", html)) <= {"none"}  # of whatever page it comes on


def test_the_text_of_a_run_is_the_same_at_each_execution() -> None:
    first = completed()
    again = completed(id="x" * 36, at=1.0, start=1.0, end=9.0, pid=8, worker="w-2")

    assert views.run_text(first) == views.run_text(again) == "Run 'fit': Completed"
    assert views.runs_text([first]) == views.runs_text([again])


@pytest.mark.parametrize(("kind", "state"), [("PENDING", "Pending"), ("RUNNING", "Running")])
def test_the_text_of_a_run_leaves_out_a_state_that_may_change(kind: str, state: str) -> None:
    assert views.run_text(completed(type=kind, state=state)) == "Run 'fit'"


def test_a_table_of_runs_is_cut_and_says_so() -> None:
    rows = [completed()] * (views.ROWS_MAX + 3)

    assert views.runs_text(rows).endswith("… and 3 more")
    assert views.runs_html(rows, START_S).count("<tr>") == views.ROWS_MAX + 1
    assert "… and 3 more" in views.runs_html(rows, START_S)


def test_a_summary_counts_in_the_order_of_a_life() -> None:
    states = [State.FAILED, State.COMPLETED, State.PENDING, State.COMPLETED]
    rows = [completed(state=state.value) for state in states]

    assert views.summary(rows) == "4 runs: 1 Pending, 2 Completed, 1 Failed"
    assert views.summary([]) == "0 runs"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0031, "3 ms"), (1.24, "1.2 s"), (245, "4 min 05 s"), (7620, "2 h 07 min")],
)
def test_a_time_is_written_so_that_two_digits_tell(seconds: float | None, text: str) -> None:
    assert views.duration(seconds) == text


def test_a_run_took_until_it_ended_or_until_now() -> None:
    assert views.took_s(completed(), START_S + 100) == 2
    assert views.took_s(completed(type="RUNNING", end=0.0), START_S + 100) == 100
    assert views.took_s(completed(start=0.0), START_S + 100) is None


@pytest.mark.parametrize("text", [ID[-4:], ID[:13], ID[-4:].upper(), ID.replace("-", "")])
def test_a_run_is_found_by_an_end_of_its_id(text: str) -> None:
    assert views.match_id(text, [ID, "x" * 36]) == ID


def test_a_part_of_an_id_that_names_two_runs_or_none_is_refused() -> None:
    other = ID[:-2] + "cd"

    with pytest.raises(UnknownRun, match="2 runs"):
        views.match_id(ID[:8], [ID, other])
    with pytest.raises(UnknownRun, match="no recent run"):
        views.match_id("ffff", [ID, other])
    with pytest.raises(UnknownRun, match="no recent run"):
        views.match_id(ID[:3], [ID])


def test_a_status_says_broker_workers_and_what_waits() -> None:
    worker = SimpleNamespace(pid=9, state="busy", busy_since=START, current_run=ID, memory_bytes=91_000_000)
    status = SimpleNamespace(
        broker_pid=7,
        counts={"PENDING": 2, "RUNNING": 1, "FAILED": 0},
        pools=[SimpleNamespace(pid=8, least=0, most=4, workers=1, serves=None)],
        workers=[worker],
        queues={"fit": (2, 3.0)},
        damaged=("/h/journal.db.damaged-1",),
    )

    assert views.status_text(status, "/h", START_S + 1.5).splitlines() == [
        "broker  pid 7, home /h",
        "runs    2 pending, 1 running",
        "pool    pid 8, 1 of 0..4 workers, any task",
        f"worker  pid 9, busy for 1.5 s with run {ID}, 91.0 MB",
        "queue   fit: 2 waiting, the oldest for 3.0 s",
        "damaged /h/journal.db.damaged-1: set aside, the runs in it are not listed",
    ]


def test_a_bar_is_empty_at_first_and_full_at_the_end() -> None:
    assert views.bar_text(0, 2, 4) == "░░░░ 0 of 2 runs"
    assert views.bar_text(1, 2, 4) == "██░░ 1 of 2 runs"
    assert views.bar_text(2, 2, 4) == "████ 2 of 2 runs"


def test_a_record_is_json_with_null_for_what_did_not_happen() -> None:
    record = views.record(completed(start=0.0, end=0.0, worker="", pid=0))

    assert (record["start"], record["end"], record["worker"], record["pid"]) == (None, None, None, None)
    assert record["id"] == ID


def test_in_a_pipe_a_run_is_one_line_however_long_its_message_is(capsys: pytest.CaptureFixture[str]) -> None:
    long, parameters = "word " * 400 + "end", (("x", "'" + "y " * 200 + "'"),)
    rows = [completed(message=long, parameters=parameters), completed(message="short")]

    cli.print_table(rows)

    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == list(views.COLUMNS)
    assert first.startswith(f"{ID}  ✓ Completed")
    assert first.endswith(long)
    assert second.endswith("  short")
