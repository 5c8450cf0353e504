"""Widgets over a real broker and real workers, and in a real kernel that a tool drives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

import nbtasks
from nbtasks.core.messages import Board, RunChanged
from nbtasks.jupyter import completion, widgets
from nbtasks.jupyter.widgets import deck
from nbtasks.live import payloads
from nbtasks.live.cards import CLOSED
from tests.homes import environment
from tests.system import tasks
from tests.system.test_notebook import CELL_S, TASK, Notebook
from tests.system.waiting import until
from tests.unit.pages import Page

RUNS = 2000
BUSY = """
import time
from nbtasks.jupyter.widgets import deck
[card] = deck._deck[-1].cards
ends_at = time.monotonic() + 60
while card.face.value["state"] != "Completed":
    assert time.monotonic() < ends_at
"""


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    yield Page().take_over(monkeypatch)
    widgets.close_all()


def model_of(view: dict[str, Any]) -> str:
    return str(view[widgets.VIEW]["model_id"])


def counts(value: dict[str, Any]) -> dict[str, int]:
    return {part["word"]: part["count"] for part in value["parts"]}


def test_a_board_and_a_bar_see_2000_runs_end(page: Page, client: Any) -> None:
    double = nbtasks.task(tasks.double)
    board = model_of(widgets.view_of_board(client))
    runs = double.map(range(RUNS), deferred=True)
    bar = model_of(widgets.view_of_runs(runs))
    client.start_workers(2)

    runs.wait()

    for model in (board, bar):
        until(
            lambda model=model: counts(page.updates(model)[-1]) == {"completed": RUNS}, "the counts are right"
        )
    [row] = page.updates(board)[-1]["tasks"]
    assert (row["name"], row["total"], row["ended"]) == ("double", RUNS, RUNS)
    assert page.threads == {"nbtasks-widgets"}
    assert not next(card for card in deck._deck[-1].cards if card.model_id == bar).is_watching


def test_a_run_is_followed_while_the_main_thread_is_busy(page: Page, client: Any, tmp_path: Path) -> None:
    hold = nbtasks.task(tasks.hold)
    path, release = str(tmp_path / "noted"), str(tmp_path / "release")
    run = hold.delay(path, release)
    model = model_of(widgets.view_of_run(run))
    client.start_workers(1)

    def states() -> list[str]:
        return [value["state"] for value in page.updates(model)]

    # as a cell that computes: it waits for nothing of nbtasks, and `until` only sleeps
    until(lambda: "Running" in states(), "it is shown as running")
    Path(release).touch()
    until(lambda: states()[-1] == "Completed", "it is shown as completed")

    assert not client._link._looks
    assert client._link._machine.observed == 0


@pytest.mark.feature("N5", "R5")
def test_what_a_run_prints_is_seen_while_it_runs_and_its_button_calls_it_again(
    page: Page, client: Any, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    run = nbtasks.task(tasks.say_and_hold).delay("hello", str(release))
    model = model_of(widgets.view_of_run(run))
    [card] = deck._deck[-1].cards
    client.start_workers(1)

    def text() -> str:
        return str((page.told(model, "tail") or [{"text": ""}])[-1]["text"])

    until(lambda: text() == "hello\n", "its first words are seen while it runs")
    card.face._handle_custom_msg({"do": "stack", "token": "where"}, [])
    until(
        lambda: [told for told in page.told(model, "stack") if "say_and_hold" in told.get("text", "")],
        "where",
    )
    release.touch()
    until(lambda: page.updates(model)[-1]["result"] == "{'said': 'hello'}", "its result is seen")
    assert text() == "hello\nreleased\n"
    card.face._handle_custom_msg({"do": "rerun", "token": "again"}, [])
    until(lambda: page.updates(model)[-1]["id"] != str(run.id), "the new run is seen")
    until(lambda: page.updates(model)[-1]["state"] == "Completed", "it ends, too")

    assert page.updates(model)[-1]["former"]["id"] == str(run.id)
    assert max(page.sizes()) <= payloads.BYTES_MAX
    assert run.result() == {"said": "hello"}


@pytest.mark.feature("N6")
def test_a_run_is_unfolded_on_the_board_while_it_runs(page: Page, client: Any, tmp_path: Path) -> None:
    release = tmp_path / "release"
    run = nbtasks.task(tasks.say_and_hold).delay("hello", str(release))
    model = model_of(widgets.view_of_board(client))
    [card] = deck._deck[-1].cards
    client.start_workers(1)
    until(lambda: page.updates(model) and page.updates(model)[-1]["rows"], "the run is on the board")

    card.face._handle_custom_msg({"do": "unfold", "run": str(run.id)}, [])

    def details() -> list[Any]:
        return [told for told in page.told(model, "detail") if told.get("tail", {}).get("text") == "hello\n"]

    until(details, "its output is seen")
    assert [worker["name"] for worker in page.updates(model)[-1]["staff"]] == ["say_and_hold"]
    release.touch()
    run.wait()
    until(lambda: "released" in page.told(model, "detail")[-1]["tail"]["text"], "its last words are seen")


def test_a_cancel_by_the_button_is_shown(page: Page, client: Any) -> None:
    run = nbtasks.task(tasks.double).delay(1)
    model = model_of(widgets.view_of_run(run))
    [card] = deck._deck[-1].cards

    card.face._handle_custom_msg({"do": "cancel"}, [])

    until(lambda: page.updates(model) and page.updates(model)[-1]["state"] == "Cancelled", "it is cancelled")
    assert run.state.name == "Cancelled"


def test_the_filter_finds_a_run_that_no_event_tells_of(page: Page, client: Any) -> None:
    double = nbtasks.task(tasks.double)
    old = double.delay(1)
    double.map(range(200), deferred=True)
    model = model_of(widgets.view_of_board(client))
    [card] = deck._deck[-1].cards

    card.face._handle_custom_msg({"do": "filter", "text": str(old.id)}, [])

    def rows() -> list[str]:
        updates = page.updates(model)
        return [row["id"] for row in updates[-1]["rows"]] if updates else []

    until(lambda: rows() == [str(old.id)], "the old run is found")


def test_a_filtered_board_shows_the_last_change_too(page: Page, client: Any) -> None:
    kept, gone = (nbtasks.task(tasks.double).delay(number) for number in (1, 2))
    model = model_of(widgets.view_of_board(client))
    [card] = deck._deck[-1].cards
    card.face._handle_custom_msg({"do": "filter", "text": "pending"}, [])

    def found() -> list[str]:
        value = page.updates(model)[-1] if page.updates(model) else {}
        return [row["id"] for row in value["rows"]] if value.get("filter") == "pending" else []

    until(lambda: set(found()) == {str(kept.id), str(gone.id)}, "both are found")
    gone.cancel()  # too soon after that look for another, and nothing changes afterwards

    until(lambda: found() == [str(kept.id)], "what does not fit any more is gone")


def test_a_board_lives_through_a_restart_of_the_broker(page: Page, client: Any) -> None:
    double = nbtasks.task(tasks.double)
    double.map(range(20), deferred=True)
    model = model_of(widgets.view_of_board(client))
    until(lambda: page.updates(model) and counts(page.updates(model)[-1]) == {"pending": 20}, "20 are seen")

    client.stop_broker()
    until(lambda: page.updates(model)[-1]["note"], "it says that the broker is gone")
    double.delay(1)

    until(lambda: counts(page.updates(model)[-1]) == {"pending": 21}, "the next broker's board is seen")
    assert not page.updates(model)[-1]["note"]


def test_observers_agree_and_hear_nothing_after_they_closed(client: Any) -> None:
    seen: list[Board] = []
    changes: list[RunChanged] = []
    observation = client.observe_board(lambda board: seen.append(board))
    run = nbtasks.task(tasks.double).delay(1)
    other = client.observe_run(str(run.id), lambda changed: changes.append(changed))
    client.start_workers(1)
    run.wait()

    until(lambda: seen and seen[-1].counts == {"COMPLETED": 1}, "the board is seen")
    until(lambda: changes and changes[-1].state == "Completed", "the run is seen")
    observation.close()
    other.close()
    heard = len(seen), len(changes)
    nbtasks.task(tasks.double).delay(1).wait()

    assert (len(seen), len(changes)) == heard
    assert client.board().counts == {"COMPLETED": 2}


def test_whoever_looks_hears_of_the_broker_that_somebody_else_started(client: Any) -> None:
    seen: list[Board | None] = []
    watching = nbtasks.Client(client.home, start=False)
    watching.observe_board(seen.append)
    until(lambda: seen, "the board is seen")

    client.stop_broker()
    until(lambda: seen[-1] is None, "it says that the broker is gone")
    run = nbtasks.task(tasks.double).delay(1)

    until(lambda: seen[-1] and seen[-1].rows, "the next broker's board is seen")
    assert [row.run for row in seen[-1].rows] == [str(run.id)]  # type: ignore[union-attr]
    watching.close()


def test_whoever_looks_second_is_told_what_nothing_changes(client: Any) -> None:
    run = nbtasks.task(tasks.double).delay(1)
    boards: list[list[Board]] = [[], []]
    changes: list[list[RunChanged]] = [[], []]

    for board, change in zip(boards, changes, strict=True):
        looks = client.observe_board(board.append), client.observe_run(str(run.id), change.append)
        until(lambda board=board: board and board[-1].counts == {"PENDING": 1}, "the board is seen")
        until(lambda change=change: change and change[-1].state == "Pending", "the run is seen")

    assert all(look.is_open for look in looks)


def test_what_two_threads_tell_is_seen_in_order(client: Any) -> None:
    seen: list[int] = []
    observation = client.observe_board(lambda board: seen.append(board.number) if board else None)
    until(lambda: seen, "the first board is seen")
    older = observation._last

    observation._call(msgspec.structs.replace(older, number=99))
    observation._call(older)
    observation.close()

    assert seen[-1] == 99


def test_a_board_of_a_client_that_was_closed_is_followed_by_a_new_one(page: Page, client: Any) -> None:
    first = model_of(widgets.view_of_board(client))
    until(lambda: page.updates(first), "it is drawn")
    client.close()
    until(lambda: page.updates(first)[-1]["note"] == CLOSED, "it says that it may be old, and why")

    second = model_of(widgets.view_of_board(client))

    assert second != first
    until(lambda: page.updates(second), "the new one is drawn")
    assert not page.closed()


def test_task_names_are_completed(client: Any) -> None:
    nbtasks.task(tasks.double).delay(1)

    assert completion._offered(["runs", "--task", ""]) == ["double"]


def test_runs_of_a_former_broker_are_on_the_board_under_their_task(client: Any) -> None:
    client.start_workers(2)
    nbtasks.task(tasks.double).map(range(50), deferred=True).wait()
    client.stop_broker()
    client.open()
    seen: list[Board] = []

    observation = client.observe_board(lambda board: seen.append(board) if board else None)

    until(
        lambda: seen and [(t.name, t.counts) for t in seen[-1].tasks] == [("double", {"COMPLETED": 50})],
        "all",
    )
    assert len(seen[-1].rows) == 50
    observation.close()


# -- in a kernel --------------------------------------------------------------------------------------


@pytest.fixture
def notebook(home: Path) -> Iterator[Notebook]:
    with environment({"NBTASKS_WIDGETS": "1"}):
        notebook = Notebook()
        with notebook._client.setup_kernel():
            notebook.run("%load_ext nbtasks")
            yield notebook


def test_a_kernel_shows_a_run_a_list_and_the_board_three_ways(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 0")
    notebook.run(TASK)
    notebook.run("run = add.delay(1, 2)\nruns = add.map([1, 2], [3, 4], deferred=True)")

    shown = [notebook.shown(cell) for cell in ("run", "runs", "%nbtasks board")]

    assert [data["text/plain"] for data in shown] == [
        "Run 'add'",
        "RunList of 2 runs of add",
        "Board of 3 runs: 3 pending",
    ]
    for data in shown:
        assert set(data) == {"text/plain", "text/html", widgets.VIEW, widgets.CARD}


def test_a_widget_is_written_while_its_cell_is_busy(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 1")
    notebook.run(TASK)
    notebook.run("run = add.delay(1, 2)")
    data = notebook.shown("run")
    notebook.run(BUSY)  # for nothing but its own thread the cell would never end

    model = data[widgets.VIEW]["model_id"]  # type: ignore[index]
    until(lambda: notebook._client.widget_state[model]["value"]["state"] == "Completed", "the page has it")


def test_a_click_arrives_while_the_cell_is_busy(home: Path) -> None:
    with environment({"NBTASKS_WIDGETS": "1"}):
        manager, kernel = start_new_kernel(kernel_name="python3")
    try:
        kernel.execute_interactive(f"%load_ext nbtasks\n%nbtasks start -w 0\n{TASK}", output_hook=print)
        shown: list[Any] = []
        kernel.execute_interactive("run = add.delay(1, 2)\nrun", output_hook=shown.append)
        [data] = [m["content"]["data"] for m in shown if m["msg_type"] == "execute_result"]
        kernel.control_channel.send(kernel.session.msg("create_subshell_request"))
        subshell = kernel.control_channel.get_msg(timeout=CELL_S)["content"]["subshell_id"]

        busy = kernel.execute(BUSY.replace('"Completed"', '"Cancelled"'))
        content = {"comm_id": data[widgets.VIEW]["model_id"]}
        click = {"method": "custom", "content": {"do": "cancel"}}
        message = kernel.session.msg("comm_msg", {**content, "data": click})
        message["header"]["subshell_id"] = subshell
        kernel.shell_channel.send(message)

        replies = iter(lambda: kernel.get_shell_msg(timeout=CELL_S), None)
        reply = next(reply for reply in replies if reply["parent_header"].get("msg_id") == busy)
        assert reply["content"]["status"] == "ok"
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)


def test_unloading_closes_the_widgets(notebook: Notebook) -> None:
    notebook.run("%nbtasks start -w 0")
    notebook.run("%nbtasks board")
    notebook.run("from nbtasks.jupyter.widgets import deck; [card] = deck._deck[-1].cards")

    notebook.run("%unload_ext nbtasks")

    left = "card.is_closed, card.is_watching, deck._deck, len(card.client._link._looks)"
    assert notebook.shown(left)["text/plain"] == "(True, False, [], 0)"


def test_a_tool_that_executes_notebooks_keeps_text_and_html(home: Path) -> None:
    with environment({"NBTASKS_WIDGETS": None, "JPY_SESSION_NAME": None}):
        cell = nbformat.v4.new_code_cell("%load_ext nbtasks\n%nbtasks start -w 0\n%nbtasks board")
        book = nbformat.v4.new_notebook(cells=[cell])
        NotebookClient(book, kernel_name="python3", timeout=CELL_S).execute()

    [data] = [output.data for output in cell.outputs if output.output_type == "execute_result"]
    assert set(data) == {"text/plain", "text/html"}
