"""The modules of the widgets alone in a page: what is drawn of what a kernel sends, and what is sent back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from nbtasks.core.messages import Board, BoardRow, BoardWorker, RunChanged, TaskCounts
from nbtasks.live import payloads, scripts
from tests.browser.launching import context_of

EVIL = "</style></script><script>window.evil=1</script><img src=x onerror=window.evil=1>'\"&"
RUN = "01990000-0000-7000-8000-0000000000ab"
# A model as anywidget gives it, and a module loaded from its text.
PAGE = """<!doctype html><meta charset="utf-8"><style>body { margin: 0 }</style><div id="place"></div>
<script type="module">
window.sent = [];
const heard = new Map();
const state = JSON.parse(document.getElementById("state").textContent);
window.set = (trait, value) => {
  state[trait] = value;
  (heard.get(`change:${trait}`) || []).forEach((f) => f());
};
const model = {
  get: (trait) => state[trait],
  on: (event, f) => heard.set(event, [...(heard.get(event) || []), f]),
  off: () => {},
  send: (message) => window.sent.push(message),
};
// As ipywidgets says that a kernel restarts, and as a model is whose kernel has ended.
window.cut = () => heard.get("comm_live_update").forEach((f) => f());
window.end = () => {
  model.send = () => {
    throw new Error("Cannot send");
  };
};
const text = JSON.parse(document.getElementById("module").textContent);
const module = await import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
module.default.render({ model, el: document.getElementById("place") });
window.isDrawn = true;
</script>"""


Draw = Callable[..., Page]


@pytest.fixture
def draw(browser: Browser) -> Iterator[Draw]:
    """Draws a widget in a page of so many pixels; nothing may have complained at the end."""
    contexts, complaints = [], []

    def draw_(kind: str, state: dict[str, Any], width: int = 900) -> Page:
        contexts.append(context_of(browser, width))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        style = f"<style>{scripts.STYLE}</style>"
        page.set_content(style + embedded("state", state) + embedded("module", scripts.module(kind)) + PAGE)
        page.wait_for_function("window.isDrawn")
        return page

    yield draw_
    for context in contexts:
        context.close()
    assert complaints == []


def embedded(name: str, data: Any) -> str:
    text = json.dumps(data).replace("</", "<\\/")
    return f'<script type="application/json" id="{name}">{text}</script>'


def run(state: str = "Running", name: str = "train", message: str = "", **more: Any) -> dict[str, Any]:
    seen = RunChanged(RUN, 2, state, message, 1.0, 2.0, 2.0, 3.0, "w-1", 7, 1)
    return {**payloads.run(seen, name, f"{name}(x=1)", 4.0), "answers": [], **more}


def board(name: str = "train", message: str = "") -> dict[str, Any]:
    states = ("Running", "Pending", "Failed", "Completed", "AwaitingConcurrencySlot")
    rows = tuple(
        BoardRow(f"{RUN[:-1]}{i}", name, state, message, 1.0, 2.0, 2.0) for i, state in enumerate(states)
    )
    counts = {"COMPLETED": 100_000, "FAILED": 1, "RUNNING": 1, "PENDING": 34_567}
    worker = BoardWorker("w", 7, "busy", rows[0].run)
    told = Board("boot", 1, counts, (TaskCounts("m:train", name, counts),), rows, (worker,), 1)
    return {**payloads.board(told, 4.0), "answers": []}


@pytest.mark.feature("N5", "N6")
def test_nothing_that_a_run_writes_becomes_markup(draw: Draw) -> None:
    tail = {"text": f"\x1b[31m{EVIL}\x1b[0m", "before": EVIL, "note": EVIL}
    former = {"id": EVIL, "state": EVIL, "count": 2, **payloads.look("FAILED")}
    value = run("Failed", EVIL, EVIL, result=EVIL, former=former, note=EVIL, progress=EVIL)
    stack, picture = {"text": EVIL, "at": 1.0}, {"mime": "text/html", "data": EVIL, "alt": EVIL}
    bar = payloads.runs(EVIL, {"COMPLETED": 1}, 1, 3, (1.0, 0.0), 4.0, EVIL)
    pages = [
        draw("run", {"value": value, "tail": tail, "stack": stack, "picture": picture}),
        draw("bar", {"value": {**bar, "answers": []}}),
        draw("board", {"value": board(EVIL, EVIL), "detail": {}}),
    ]

    for page in pages:
        place = page.locator("#place")
        assert "<script>" in place.inner_text()
        assert place.locator("script, style, img:not(.nbt-picture)").count() == 0
        assert page.evaluate("window.evil") is None


@pytest.mark.feature("N5")
def test_a_button_says_that_the_kernel_is_busy_and_then_why_it_refused(draw: Draw) -> None:
    page = draw("run", {"value": run()})
    button, answer = page.locator("[data-do=cancel]"), page.locator(".nbt-answer")

    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(answer).to_contain_text("The kernel is busy")
    [asked] = page.evaluate("window.sent")
    refused = [{"token": asked["token"], "status": "refused", "text": EVIL}]
    page.evaluate("value => set('value', value)", run(answers=refused))

    assert asked["do"] == "cancel"
    expect(answer).to_have_text(EVIL)
    expect(button).to_have_text("Cancel")
    expect(button).to_be_focused()


@pytest.mark.feature("N4", "N5", "N6")
@pytest.mark.parametrize("kind", ["run", "bar", "board"])
def test_a_widget_whose_kernel_restarts_says_so_and_offers_nothing(draw: Draw, kind: str) -> None:
    bar = {**payloads.runs("train", {"COMPLETED": 1}, 1, 3, (1.0, 0.0), 4.0), "answers": []}
    page = draw(kind, {"value": {"run": run(), "bar": bar, "board": board()}[kind], "detail": {}})
    expect(page.get_by_role("button", name="Cancel").first).to_be_visible()

    page.evaluate("cut()")

    expect(page.locator(".nbt-lost")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


@pytest.mark.feature("N5", "N6")
@pytest.mark.parametrize("kind", ["run", "board"])
def test_a_click_that_reaches_no_kernel_says_that_it_is_gone(draw: Draw, kind: str) -> None:
    page = draw(kind, {"value": {"run": run(), "board": board()}[kind], "detail": {}})
    page.evaluate("end()")

    page.locator("[data-do=cancel]").first.click()

    expect(page.locator(".nbt-lost")).to_be_visible()
    page.wait_for_timeout(2000)  # a kernel that is busy has been told of by then
    expect(page.locator(".nbt-answer")).to_have_text("")


@pytest.mark.feature("N5")
def test_whoever_pressed_a_button_that_goes_stays_in_the_widget(draw: Draw) -> None:
    page = draw("run", {"value": run()})
    page.locator("[data-do=cancel]").focus()

    page.evaluate("value => set('value', value)", run("Cancelled"))

    expect(page.locator("[data-nbtasks=run]")).to_be_focused()
    expect(page.locator("[data-nbtasks=run]")).to_have_attribute("data-state", "CANCELLED")
    expect(page.locator("[data-do=rerun]")).to_be_visible()


@pytest.mark.feature("N6")
def test_a_run_on_the_board_is_unfolded_by_a_key(draw: Draw) -> None:
    page = draw("board", {"value": board(), "detail": {}})
    row = page.locator("tr[data-state=FAILED]").first

    row.locator(".nbt-fold").focus()
    page.keyboard.press("Space")
    [asked] = page.evaluate("window.sent")
    detail = {"id": asked["run"], "call": "train(x=1)", "message": "", "attempts": [], "note": ""}
    page.evaluate("detail => set('detail', detail)", {**detail, "tail": {"text": "last words"}})

    assert asked["do"] == "unfold"
    expect(row.locator(".nbt-fold")).to_have_attribute("aria-expanded", "true")
    expect(page.locator(".nbt-detail")).to_contain_text("last words")


@pytest.mark.feature("N5", "N6")
@pytest.mark.parametrize("width", [300, 900])
@pytest.mark.parametrize("name", ["f", "n" * 200, "تدريب"])
def test_widgets_fit_into_their_place(draw: Draw, width: int, name: str) -> None:
    long = f"{name} " * 20
    bar = {**payloads.runs(name, {"FAILED": 1}, 0, 100_000, (1.0, 0.0), 4.0), "answers": []}
    pages = [
        draw("run", {"value": run("Running", name, long), "tail": {"text": long * 20}}, width),
        draw("bar", {"value": bar}, width),
        draw("board", {"value": board(name, long), "detail": {}}, width),
    ]

    for page in pages:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.feature("N6")
@pytest.mark.parametrize("width", [300, 600, 900])
def test_an_error_can_be_read_on_the_board(draw: Draw, width: int) -> None:
    error = "ValueError: epochs must be at least 1, got 0"
    page = draw("board", {"value": board("train", error), "detail": {}}, width)
    shown = page.locator("tr[data-state=FAILED] .nbt-words").first

    expect(shown).to_be_visible()
    expect(shown).to_have_text(error)
    assert shown.evaluate(
        "(box) => box.scrollHeight <= box.clientHeight + 1 && box.scrollWidth <= box.clientWidth"
    )
