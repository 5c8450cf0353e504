"""The widgets before a page that only keeps what it is sent: what, how often, and what is left of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtasks.context import Fate
from nbtasks.core.messages import Board, BoardRow, BoardWorker, Ended, TaskCounts
from nbtasks.jupyter import widgets
from nbtasks.jupyter.widgets import faces
from nbtasks.jupyter.widgets.deck import Deck
from nbtasks.live import payloads, scripts
from nbtasks.live.board_card import BoardCard
from nbtasks.live.cards import GONE, Card, ListCard
from nbtasks.live.find import find
from nbtasks.live.run_card import RunCard
from nbtasks.live.writer import CARDS_PER_TICK_MAX, TICK_S, Writer
from nbtasks.run import Run, RunList
from tests.system.waiting import until
from tests.unit.pages import OTHER, RUN, Page, Teller, changed, info

STATIC = Path(scripts.__file__).parent / "static"
EVIL = "<img src=x onerror=alert(1)>'\"&</script>"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page().take_over(monkeypatch)


class HandWriter(Writer):
    """Writes when the test says so, at the time that the test says."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(clock=lambda: self.now_s)

    def _start(self) -> None:
        return


@pytest.fixture
def writer() -> HandWriter:
    return HandWriter()


@pytest.fixture
def cards() -> Iterator[list[Card]]:
    """Cards that are closed after the test."""
    made: list[Card] = []
    yield made
    for card in made:
        card.close()


def handle(run: str = RUN, client: Any = None) -> Run:
    return Run(run, "train", "m:train", (), '{"x": "1"}', client or Teller(), Fate(run))


def end(run: Run, state: str = "Completed") -> None:
    assert run._fate is not None
    for callback in run._fate.settle(Ended(1, 1, run._run, state, "", 3.0)):
        callback()


def board(number: int = 1, rows: int = 1, **counts: int) -> Board:
    table = tuple(BoardRow(f"{RUN[:-4]}{i:04x}", "train", "Running", "", 1.0, 2.0, 2.0) for i in range(rows))
    return Board("boot", number, counts, (TaskCounts("m:train", "train", counts),), table, (), 0)


# -- a run --------------------------------------------------------------------------------------------


def test_a_run_goes_from_pending_to_completed_and_then_holds_nothing(page: Page, writer: HandWriter) -> None:
    client = Teller()
    card = RunCard(client, writer, faces.face, handle(client=client))  # type: ignore[arg-type]
    first = card.face.value["state"]
    for state, steps in (("Running", 2), ("Completed", 3)):
        client.told[0].say(changed(state, steps))
        writer.now_s += 1
        writer.turn()

    assert first == "Pending"
    assert [value["state"] for value in page.updates(card.model_id)] == ["Running", "Completed"]
    assert not client.told[0].is_open
    assert not writer._marked
    assert not writer._not_before
    assert not page.closed()  # a page that is loaded again finds the model


def test_a_run_that_has_ended_is_not_watched(page: Page, writer: HandWriter) -> None:
    client = Teller("Failed")

    card = RunCard(client, writer, faces.face, handle(client=client))  # type: ignore[arg-type]

    assert client.told == []
    assert (card.face.value["live"], card.face.value["cancellable"]) == (False, False)


def test_the_button_asks_to_cancel_once_and_holds_nobody_up(
    page: Page, writer: HandWriter, cards: list[Card]
) -> None:
    client = Teller()
    client.may_answer.clear()
    cards.append(card := RunCard(client, writer, faces.face, handle(client=client)))  # type: ignore[arg-type]

    for _ in range(5):
        card.face._handle_custom_msg({"do": "cancel"}, [])
    client.may_answer.set()

    until(lambda: client.cancelled and not card._asking, "the run is cancelled")
    assert client.cancelled == [RUN]


@pytest.mark.parametrize(
    "nonsense", [{}, {"do": "dance"}, {"do": "cancel", "run": OTHER}, "cancel", None, []]
)
def test_nonsense_from_a_page_changes_nothing(
    page: Page, writer: HandWriter, cards: list[Card], nonsense: Any
) -> None:
    client = Teller()
    cards.append(card := BoardCard(client, writer, faces.face))  # type: ignore[arg-type]
    client.told[0].say(board(RUNNING=1))

    card.face._handle_custom_msg(nonsense, [])

    assert client.cancelled == client.filters == []


def test_a_broker_that_is_gone_is_said(page: Page, writer: HandWriter, cards: list[Card]) -> None:
    client = Teller()
    cards.append(card := RunCard(client, writer, faces.face, handle(client=client)))  # type: ignore[arg-type]

    client.told[0].say(None)
    writer.turn()
    client.told[0].say(changed("Running", 2))
    writer.now_s += 1
    writer.turn()

    assert [value["note"] for value in page.updates(card.model_id)] == [GONE, ""]


# -- a list -------------------------------------------------------------------------------------------


def test_a_list_counts_endings_and_what_workers_do(page: Page, writer: HandWriter) -> None:
    client = Teller()
    runs = RunList([handle(RUN, client), handle(OTHER, client)])
    card = ListCard(client, writer, faces.face, runs)  # type: ignore[arg-type]
    busy = Board(
        "boot", 1, {}, (), (), (BoardWorker("w", 7, "busy", RUN), BoardWorker("v", 8, "busy", "x")), 2
    )
    client.told[0].say(busy)
    writer.turn()
    for run, state in zip(runs, ("Completed", "Crashed"), strict=True):
        end(run, state)
        writer.now_s += 1
        writer.turn()

    counts = [
        {part["word"]: part["count"] for part in value["parts"]} for value in page.updates(card.model_id)
    ]
    assert counts == [
        {"running": 1, "pending": 1},
        {"completed": 1, "running": 1},
        {"completed": 1, "crashed": 1},
    ]
    assert not client.told[0].is_open
    assert not card.face.value["live"]


def test_closing_a_list_leaves_no_callback_on_its_runs(page: Page, writer: HandWriter) -> None:
    client = Teller()
    run = handle(client=client)
    card = ListCard(client, writer, faces.face, RunList([run, run]))  # type: ignore[arg-type]
    total = card.face.value["total"]

    card.close()

    assert total == 1
    assert run._fate is not None
    assert not run._fate._callbacks


# -- the board ----------------------------------------------------------------------------------------


def test_a_storm_of_events_is_four_updates_a_second(
    page: Page, writer: HandWriter, cards: list[Card]
) -> None:
    client = Teller()
    cards.append(card := BoardCard(client, writer, faces.face))  # type: ignore[arg-type]
    for thousandth in range(2000):
        writer.now_s = thousandth / 1000
        client.told[0].say(board(thousandth, COMPLETED=thousandth + 1))
        writer.turn()
    writer.now_s = 3.0
    writer.turn()

    updates = page.updates(card.model_id)
    assert len(updates) == 2 / TICK_S + 1
    assert updates[-1]["parts"][0]["count"] == 2000


def test_an_update_has_a_bounded_size_whatever_users_write(
    page: Page, writer: HandWriter, cards: list[Card]
) -> None:
    client = Teller()
    cards.append(card := BoardCard(client, writer, faces.face))  # type: ignore[arg-type]
    long = "ж" * 1000
    rows = tuple(BoardRow(f"{RUN[:-4]}{i:04x}", long, "Failed", long, 1.0, 2.0) for i in range(50))
    tasks = tuple(TaskCounts(f"{long}{i}", long, {"FAILED": 10**9, "PENDING": 10**9}) for i in range(31))
    client.told[0].say(Board("boot", 1, {"FAILED": 10**9}, tasks, rows, (), 10**6))
    writer.turn()

    [value] = page.updates(card.model_id)
    assert len(value["tasks"]) == payloads.TASKS_MAX + 1
    assert payloads.size(value) <= payloads.BYTES_MAX
    assert value["rows"]


def test_a_filter_looks_in_the_journal_and_comes_back_with_what_it_is_for(
    page: Page, writer: HandWriter, cards: list[Card]
) -> None:
    client = Teller()
    client.rows = [info(OTHER, "Failed"), info(RUN, "Completed")]
    cards.append(card := BoardCard(client, writer, faces.face))  # type: ignore[arg-type]

    card.face._handle_custom_msg({"do": "filter", "text": "failed train"}, [])
    writer.turn()

    assert [row["id"] for row in card.face.value["rows"]] == [OTHER]
    assert card.face.value["filter"] == "failed train"
    assert {"Failed", "TimedOut", "UpstreamFailed"} == set(client.filters[0].states)


def test_find_takes_a_whole_id() -> None:
    [row] = find(Teller("Running"), RUN.upper(), None)  # type: ignore[arg-type]

    assert (row.run, row.state) == (RUN, "Running")


# -- the writer ---------------------------------------------------------------------------------------


class Counted:
    def __init__(self) -> None:
        self.written = 0

    def write(self) -> None:
        self.written += 1


def test_a_card_that_is_marked_often_is_written_once_a_tick(writer: HandWriter) -> None:
    card = Counted()
    for hundredth in range(100):
        writer.now_s = hundredth / 100
        writer.mark(card)
        writer.turn()

    assert card.written == 4


def test_many_cards_take_turns(writer: HandWriter) -> None:
    crowd = [Counted() for _ in range(3 * CARDS_PER_TICK_MAX)]
    for card in crowd:
        writer.mark(card)
    written = []
    for tick in range(3):
        writer.now_s = 1 + tick * TICK_S
        writer.turn()
        written.append(sum(card.written for card in crowd))

    assert written == [CARDS_PER_TICK_MAX, 2 * CARDS_PER_TICK_MAX, 3 * CARDS_PER_TICK_MAX]
    assert {card.written for card in crowd} == {1}


def test_a_card_that_cannot_be_written_does_not_stop_the_others(writer: HandWriter) -> None:
    class Broken(Counted):
        def write(self) -> None:
            raise OSError("the kernel ends")

    card = Counted()
    writer.mark(Broken())
    writer.mark(card)
    writer.turn()

    assert card.written == 1


def test_the_thread_writes_and_ends_when_there_is_nothing_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbtasks.live.writer.LINGER_S", 0.01)
    writer, card = Writer(), Counted()

    writer.mark(card)

    until(lambda: card.written, "it is written")
    until(lambda: not writer.is_working, "the thread ended")
    writer.mark(card)
    until(lambda: card.written == 2, "it is written again")
    until(lambda: not writer.is_working, "the thread ended again")


# -- the deck -----------------------------------------------------------------------------------------


@pytest.fixture
def deck() -> Iterator[Deck]:
    deck = Deck()
    yield deck
    deck.close_all()


def test_a_run_that_is_displayed_twice_is_one_model(page: Page, deck: Deck) -> None:
    client = Teller()

    one, two = (deck.card("run", client, handle(client=client)) for _ in range(2))  # type: ignore[arg-type]

    assert one is two
    assert len(client.told) == 1


def test_nothing_is_left_after_all_are_closed(page: Page, deck: Deck) -> None:
    client = Teller()
    run, runs = handle(client=client), RunList([handle(OTHER, client)])
    for kind, subject in (("run", run), ("list", runs), ("board", None)):
        assert deck.card(kind, client, subject)  # type: ignore[arg-type]

    deck.close_all()

    assert sorted(page.opened()) == sorted(page.closed())
    assert not any(told.is_open for told in client.told)
    assert deck.cards == []
    until(lambda: not deck.writer.is_working, "its thread ended")


def test_beyond_so_many_live_ones_the_others_stay_text(
    page: Page, deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbtasks.jupyter.widgets.deck.WATCHING_MAX", 1)
    client = Teller()

    shown = [deck.card("run", client, handle(run, client)) for run in (RUN, OTHER)]  # type: ignore[arg-type]

    assert shown[0] is not None
    assert shown[1] is None


def test_the_oldest_model_is_closed_for_a_new_one(
    page: Page, deck: Deck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbtasks.jupyter.widgets.deck.CARDS_MAX", 1)
    client = Teller("Completed")

    old, new = (deck.card("run", client, handle(run, client)) for run in (RUN, OTHER))  # type: ignore[arg-type]

    assert old is not None
    assert old.is_closed
    assert deck.cards == [new]


# -- what a page is given -----------------------------------------------------------------------------


def test_data_gets_into_a_page_as_text_only() -> None:
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|\.on\w+\s*=|"
        r"setAttribute\(\s*[\"'](?:on|href|src|style)"
    )
    for path in STATIC.glob("*.js"):
        assert not forbidden.findall(path.read_text()), path.name


def test_data_is_sent_as_it_is_and_never_as_markup(page: Page, writer: HandWriter, cards: list[Card]) -> None:
    client = Teller()
    cards.append(card := RunCard(client, writer, faces.face, handle(client=client)))  # type: ignore[arg-type]

    client.told[0].say(changed("Failed", 2, message=EVIL))
    writer.turn()

    assert page.updates(card.model_id)[0]["message"] == EVIL
    plain = {**card.face.value, "answers": 0, "former": 0}
    assert all(isinstance(value, (str, int, float, bool)) for value in plain.values())


@pytest.mark.parametrize(("name", "said"), [("run", "run"), ("bar", "list"), ("board", "board")])
def test_a_page_can_be_asked_which_widget_is_which_and_how_it_is(name: str, said: str) -> None:
    text = scripts.module(name)

    assert f'makeRoot(el, "{said}", ' in text
    assert re.search(r"dataset\.state =|dataset, \{ run: \w+\.id, state: ", text)


@pytest.mark.parametrize("name", ["run", "bar", "board"])
def test_a_module_is_one_text_that_needs_no_other(name: str) -> None:
    text = scripts.module(name)

    assert text.count("export default") == 1
    assert not re.search(r"^\s*import\b|https?://", text, re.MULTILINE)


def test_each_state_has_a_shape_of_its_own_and_a_word() -> None:
    shapes = {kind: payloads.look(kind)["shape"] for kind in payloads._ORDER}

    assert len(set(shapes.values())) == len(shapes) == 8


def test_a_model_says_the_same_at_each_execution(page: Page, writer: HandWriter, cards: list[Card]) -> None:
    client = Teller()
    cards.append(card := RunCard(client, writer, faces.face, handle(client=client)))  # type: ignore[arg-type]

    assert repr(card.face) == "<nbtasks RunFace>"


# -- when there is no page ----------------------------------------------------------------------------


class Shell:
    kernel = object()


@pytest.mark.parametrize(
    ("variables", "is_live"),
    [
        ({}, False),
        ({"JPY_SESSION_NAME": "a.ipynb"}, True),
        ({"VSCODE_PID": "7"}, True),
        ({"NBTASKS_WIDGETS": "1"}, True),
        ({"NBTASKS_WIDGETS": "0", "JPY_SESSION_NAME": "a.ipynb"}, False),
    ],
)
def test_widgets_are_for_kernels_that_somebody_looks_at(variables: dict[str, str], is_live: bool) -> None:
    assert widgets.is_live(Shell(), variables) is is_live  # type: ignore[arg-type]
    assert not widgets.is_live(None, variables)


def test_displaying_in_a_plain_shell_imports_no_widgets() -> None:
    code = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
from nbtasks.run import Run, RunList
from tests.unit.pages import Teller
shell = InteractiveShell()
shell.run_line_magic("load_ext", "nbtasks")
client = Teller("Completed")
client.watch = None
run = Run({RUN!r}, "train", "m:train", (), "{{}}", client)
run._info = client.info({RUN!r})
for thing in (run, RunList([run])):
    data, _ = shell.display_formatter.format(thing)
    assert set(data) == {{"text/plain", "text/html"}}, data
assert not {{"ipywidgets", "anywidget"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
