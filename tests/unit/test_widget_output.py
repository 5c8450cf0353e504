"""What widgets show of a run's output, result and place, and what their buttons are answered."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from nbtasks.core.messages import Board, BoardRow
from nbtasks.core.payload import Payload
from nbtasks.jupyter.widgets import faces
from nbtasks.live import feed, payloads
from nbtasks.live.board_card import BoardCard
from nbtasks.live.cards import Card
from nbtasks.live.run_card import RunCard
from nbtasks.live.writer import TICK_S
from nbtasks.pickling import Offered, dumps, preview
from nbtasks.run import Run
from nbtasks.run.replay import replayed
from tests.system.waiting import until
from tests.unit.pages import OTHER, RUN, Page, Teller, changed, printed
from tests.unit.test_widgets import HandWriter, handle

EVIL = "</style></script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"
PNG = b"\x89PNG\r\n\x1a\n and what follows"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page().take_over(monkeypatch)


@pytest.fixture
def writer() -> HandWriter:
    return HandWriter()


@pytest.fixture
def client() -> Teller:
    return Teller()


@pytest.fixture
def card(page: Page, writer: HandWriter, client: Teller) -> Iterator[RunCard]:
    card = RunCard(client, writer, faces.face, handle(client=client))  # type: ignore[arg-type]
    yield card
    card.close()


@pytest.fixture
def board(page: Page, writer: HandWriter, client: Teller) -> Iterator[BoardCard]:
    card = BoardCard(client, writer, faces.face)  # type: ignore[arg-type]
    rows = tuple(BoardRow(run, "train", "Running", "", 1.0, 2.0, 2.0) for run in (RUN, OTHER))
    client.told[0].say(Board("boot", 1, {"RUNNING": 2}, (), rows, (), 1))
    yield card
    card.close()


def turn(writer: HandWriter) -> None:
    writer.now_s += 1
    writer.turn()


def shown(output: dict[str, Any]) -> bytes:
    return json.dumps([{"output_type": "display_data", "metadata": {}, **output}]).encode()


def answers(card: Card) -> list[tuple[str, str]]:
    return [(answer["status"], answer["text"]) for answer in card._answers]


# -- output -------------------------------------------------------------------------------------------


@pytest.mark.feature("N5")
def test_output_is_sent_when_there_is_more_and_only_then(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    client.chunks = [printed("one\n")]
    client.told[0].say(changed("Running", 2, chunks=1))
    turn(writer)
    client.told[0].say(changed("Running", 3, chunks=1))
    turn(writer)
    client.chunks.append(printed("two\n"))
    client.told[0].say(changed("Running", 3, chunks=2))
    turn(writer)

    assert [tail["text"] for tail in page.told(card.model_id, "tail")] == ["one\n", "one\ntwo\n"]
    assert len(page.updates(card.model_id)) == 3
    assert client.asked == [0, 1]


def test_the_last_words_are_shown_and_then_nothing_is_held(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    client.chunks = [printed("last words\n")]
    client.told[0].say(changed("Completed", 3, chunks=1))
    turn(writer)

    assert card.face.tail["text"] == "last words\n"
    assert card._followed.feed._replay is None
    assert not card.is_watching


@pytest.mark.parametrize("letter", ["x", "ж", "\x1b", "\x00", "😀", '"'])
def test_an_update_is_bounded_whatever_is_printed(
    page: Page, writer: HandWriter, client: Teller, card: RunCard, letter: str
) -> None:
    client.chunks = [printed(letter * 50_000 + "\n" + 300 * f"{letter * 90}\n")]
    client.told[0].say(changed("Running", 2, message=letter * 120, chunks=1))
    turn(writer)

    assert max(page.sizes()) <= payloads.BYTES_MAX
    assert card.face.tail["text"].count("\n") <= feed.TAIL_LINES
    assert card.face.tail["before"] == feed.CUT


def test_an_update_costs_the_same_after_much_output(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    for number in range(300):
        client.chunks = [*client.chunks, printed("a line of text\n" * 2000)]
        client.told[0].say(changed("Running", 2, chunks=number + 1))
        turn(writer)

    kept = card._followed.feed._replay
    assert kept is not None
    assert len(kept.text) <= 2 * feed.KEPT_BYTES
    assert client.asked == list(range(300))


def test_a_figure_travels_as_bytes_and_once(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    png = base64.b64encode(PNG).decode()
    client.chunks = [shown({"data": {"image/png": png, "text/plain": "<Figure size 640x480>"}})]
    for steps in (2, 3, 4):
        client.told[0].say(changed("Running", steps, chunks=1))
        turn(writer)

    assert page.buffers == [PNG]
    assert card.face.picture == {"mime": "image/png", "data": PNG, "alt": "<Figure size 640x480>"}
    assert max(page.sizes()) <= payloads.BYTES_MAX


def test_figures_that_come_in_a_storm_are_sent_once_a_second_and_the_last_one_at_the_end(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    for tenth in range(30):
        png = base64.b64encode(b"%d" % tenth).decode()
        client.chunks = [*client.chunks, shown({"data": {"image/png": png}})]
        client.told[0].say(changed("Running", 2, chunks=tenth + 1))
        writer.now_s = 10 + tenth / 10
        writer.turn()
    client.told[0].say(changed("Completed", 3, chunks=30))
    writer.now_s += TICK_S
    writer.turn()

    assert len(page.buffers) == 4
    assert page.buffers[-1] == b"29"


def test_the_text_of_a_figure_is_not_repeated_where_the_figure_is_shown(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    figures = [{"image/png": base64.b64encode(PNG).decode(), "text/plain": f"<Figure {n}>"} for n in (1, 2)]
    client.chunks = [printed("before\n"), *(shown({"data": data}) for data in figures), printed("after\n")]
    client.told[0].say(changed("Completed", 3, chunks=4))
    turn(writer)

    assert card.face.picture["alt"] == "<Figure 2>"
    assert card.face.tail["text"] == "before\n<Figure 1>\nafter\n"


def test_the_value_of_a_cell_is_not_repeated_where_it_is_shown_as_what_the_run_returned(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    client.result = pickle.dumps([1, 2])
    values = [
        {"output_type": kind, "data": {"text/plain": "[1, 2]"}} for kind in ("display_data", "execute_result")
    ]
    client.chunks = [json.dumps(values).encode()]
    client.told[0].say(changed("Running", 2, chunks=1))
    turn(writer)
    running = card.face.tail["text"]
    client.told[0].say(changed("Completed", 3, chunks=1))
    turn(writer)

    assert running == "[1, 2]\n[1, 2]\n"
    assert (card.face.value["result"], card.face.tail["text"]) == ("[1, 2]", "[1, 2]\n")


@pytest.mark.parametrize(
    ("data", "picture"),
    [
        ({"text/html": "<b>no</b>"}, {}),
        ({"image/gif": "R0lGOD"}, {}),
        ({"image/png": "not base64!"}, {}),
        (
            {"image/svg+xml": ["<svg>", "</svg>"]},
            {"mime": "image/svg+xml", "data": b"<svg></svg>", "alt": ""},
        ),
    ],
)
def test_only_pictures_of_known_kinds_are_shown(data: dict[str, Any], picture: dict[str, Any]) -> None:
    output = feed.pictured([{"output_type": "display_data", "data": data}])

    assert (feed.picture(output) if output else {}) == picture


def test_of_a_figure_that_is_too_large_it_is_said_that_it_is_there() -> None:
    large = base64.b64encode(b"x" * (feed.PICTURE_BYTES_MAX + 1)).decode()

    told = feed.picture({"output_type": "display_data", "data": {"image/png": large}})

    assert set(told) == {"note"}


def test_markup_of_a_run_is_text_to_a_page(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    error = {"output_type": "error", "ename": EVIL, "evalue": EVIL, "traceback": [EVIL]}
    rich = {"output_type": "display_data", "data": {"text/html": EVIL, "text/plain": EVIL}}
    client.chunks = [printed(EVIL), json.dumps([error, rich]).encode()]
    client.told[0].say(changed("Failed", 3, message=EVIL, chunks=2))
    turn(writer)

    assert card.face.tail["text"].count(EVIL) == 3
    assert card.face.tail["note"] == feed.RICH
    assert card.face.picture == {}


def test_a_broker_that_is_gone_is_not_asked_for_output(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    client.told[0].say(changed("Running", 2, chunks=1))
    client.told[0].say(None)
    turn(writer)

    assert client.asked == []


def test_output_that_cannot_be_read_is_said(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    client.is_gone = True
    client.told[0].say(changed("Completed", 3, chunks=1))
    turn(writer)

    assert "cannot be read" in card.face.value["note"]
    assert not card.is_watching


def test_the_tail_has_the_end_of_all_streams() -> None:
    outputs = [{"output_type": "stream", "name": name, "text": f"{name}\n"} for name in ("stdout", "stderr")]

    assert feed.tail(replayed(outputs))["text"] == "stdout\nstderr\n"


# -- the result ---------------------------------------------------------------------------------------


class Loud:
    def __reduce__(self) -> Any:
        return pytest.fail, ("code of a result was executed",)


@pytest.mark.feature("N5")
def test_a_plain_result_is_shown_when_the_run_is_over(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    client.result = pickle.dumps({"auc": 0.93, "n": [1, 2]})
    client.told[0].say(changed("Completed", 3))
    turn(writer)

    assert card.face.value["result"] == "{'auc': 0.93, 'n': [1, 2]}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), ("a", "'a'"), (None, ""), ((1j, {2}), "(1j, {2})"), (b"x", "b'x'"), (ValueError("x"), "")],
)
def test_a_preview_is_of_plain_values_alone(value: Any, text: str) -> None:
    assert preview(Payload([dumps(value)])) == text


def test_a_preview_of_a_cell_is_that_of_its_last_expression() -> None:
    assert preview(Payload([dumps(Offered(42, {"df": [1]}))])) == "42"


def test_a_preview_runs_no_code_and_reads_nothing_large() -> None:
    assert preview(Payload([pickle.dumps([Loud()])])) == ""
    assert preview(Payload([pickle.dumps("x" * 2**20)])) == ""
    assert preview(Payload([pickle.dumps(1)], [memoryview(b"out of band")])) == ""
    assert preview(Payload([b"no pickle"])) == ""
    assert len(preview(Payload([pickle.dumps([["x" * 900] * 50] * 50)]))) <= 300


# -- buttons ------------------------------------------------------------------------------------------


def click(card: Card, **content: Any) -> None:
    card.face._handle_custom_msg({"token": "t1", **content}, [])  # type: ignore[union-attr]


def test_a_button_is_told_that_it_was_heard_and_that_it_is_done(
    page: Page, writer: HandWriter, client: Teller, card: RunCard
) -> None:
    client.may_answer.clear()
    click(card, do="cancel")
    heard = answers(card)
    client.may_answer.set()

    assert heard == [("heard", "")]
    until(lambda: answers(card) == [("done", "")], "it is done")
    turn(writer)
    assert card.face.value["answers"] == [{"token": "t1", "status": "done", "text": ""}]


def test_a_refusal_is_told_with_its_reason(client: Teller, card: RunCard) -> None:
    client.is_gone = True

    click(card, do="cancel")

    until(lambda: answers(card) == [("refused", "it was stopped")], "it is refused")


def test_whoever_asks_for_the_same_meanwhile_gets_the_same_answer(client: Teller, card: RunCard) -> None:
    client.may_answer.clear()
    click(card, do="cancel")
    click(card, do="cancel", token="t2")
    click(card, do="cancel", token="t2")
    client.may_answer.set()

    until(lambda: answers(card) == [("done", ""), ("done", "")], "both are answered")
    assert client.cancelled == [RUN]


def test_a_click_on_what_is_not_true_any_more_is_refused_at_once(client: Teller, card: RunCard) -> None:
    click(card, do="rerun")

    assert answers(card) == [("refused", "It is Pending now.")]


def test_answers_do_not_pile_up(client: Teller, card: RunCard) -> None:
    for number in range(100):
        click(card, do="rerun", token=f"t{number}" * 100)

    assert len(card._answers) == 8
    assert all(len(answer["token"]) <= 40 for answer in card._answers)


@pytest.mark.feature("R5")
def test_a_widget_tells_where_its_run_is(
    page: Page, writer: HandWriter, client: Teller, card: RunCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "stack", lambda run: f"{run._run} is here\n")
    client.told[0].say(changed("Running", 2))
    click(card, do="stack")

    until(lambda: answers(card) == [("done", "")], "it is answered")
    turn(writer)
    asked = card.face.stack["text"]
    client.told[0].say(changed("Completed", 3))
    turn(writer)

    assert asked == f"{RUN} is here\n"
    assert card.face.stack == {}


@pytest.mark.feature("R5")
def test_a_card_follows_the_run_that_its_button_calls_again(
    page: Page, writer: HandWriter, client: Teller, card: RunCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "rerun", lambda run: handle(OTHER, client))
    client.chunks = [printed("of the first\n")]
    client.told[0].say(changed("Failed", 3, chunks=1))
    turn(writer)
    client.chunks = [printed("of the second\n")]

    click(card, do="rerun")
    until(lambda: [status for status, _ in answers(card)] == ["done"], "it is called")
    client.told[0].say(changed("Crashed", 9))  # late news of the former run
    client.told[1].say(changed("Running", 2, run=OTHER, chunks=1))
    turn(writer)

    value = card.face.value
    assert (value["id"], value["state"], card.face.tail["text"]) == (OTHER, "Running", "of the second\n")
    assert (value["former"]["id"], value["former"]["state"], value["former"]["count"]) == (RUN, "Failed", 1)
    assert OTHER in answers(card)[0][1]
    assert card.is_watching


# -- what is unfolded on the board --------------------------------------------------------------------


@pytest.mark.feature("N6")
def test_a_run_on_the_board_is_unfolded_and_folded_again(
    page: Page, writer: HandWriter, client: Teller, board: BoardCard
) -> None:
    figure = {"image/png": base64.b64encode(PNG).decode(), "text/plain": "<Figure>"}  # is not shown there
    client.chunks = [printed("hello\n"), shown({"data": figure})]
    board.face._handle_custom_msg({"do": "unfold", "run": RUN}, [])
    turn(writer)
    detail = board.face.detail
    board.face._handle_custom_msg({"do": "unfold", "run": ""}, [])
    turn(writer)

    assert (detail["id"], detail["call"], detail["tail"]["text"]) == (RUN, "train(x=1)", "hello\n<Figure>\n")
    assert board.face.detail == {}
    assert [told.is_open for told in client.told] == [True, False]


@pytest.mark.feature("N6")
def test_one_run_at_a_time_is_looked_at_closely(
    page: Page, writer: HandWriter, client: Teller, board: BoardCard
) -> None:
    for run in (RUN, OTHER):
        board.face._handle_custom_msg({"do": "unfold", "run": run}, [])
        turn(writer)
    asked = len(client.asked)
    client.told[0].say(Board("boot", 2, {"RUNNING": 2}, (), (), (), 1))
    turn(writer)

    assert [told.name for told in client.told if told.is_open] == ["", OTHER]
    assert len(client.asked) == asked  # the board's own news ask nothing


def test_what_is_not_on_the_board_is_not_unfolded(
    page: Page, writer: HandWriter, client: Teller, board: BoardCard
) -> None:
    board.face._handle_custom_msg({"do": "unfold", "run": EVIL}, [])
    turn(writer)

    assert board.face.detail == {}
    assert len(client.told) == 1
