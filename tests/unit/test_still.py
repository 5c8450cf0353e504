"""Runs as HTML that stays, over a client that tells what a test says."""

from __future__ import annotations

import base64
import json
import pickle
import re
from html.parser import HTMLParser

import msgspec
import pytest

from nbtasks import views
from nbtasks.jupyter import still
from nbtasks.jupyter.ansi import html_of
from nbtasks.run import Run
from tests.unit.pages import RUN, Teller, info, printed

EVIL = "</pre></style></script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&"


class Parts(HTMLParser):
    """The tags, the attributes and the text of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def run_of(client: Teller, state: str = "Completed", size: int = 1) -> Run:
    told = msgspec.structs.replace(
        info(RUN, state), output_bytes=size, message=EVIL if state == "Failed" else ""
    )
    return Run.of_info(told, client)  # type: ignore[arg-type]


def html(client: Teller, state: str = "Completed", size: int = 1) -> str:
    run = run_of(client, state, size)
    return still.run_html(run, views.row(run))


@pytest.mark.feature("N5")
def test_a_run_that_is_over_shows_its_result_and_the_end_of_its_output() -> None:
    client = Teller("Completed")
    client.result = pickle.dumps([1, 2])
    client.chunks = [printed("".join(f"line {number}\n" for number in range(1000)))]

    text = Parts(html(client)).text

    assert "✓ Completed" in text
    assert "returned [1, 2]" in text
    assert text.count("line ") == 200
    assert "line 999" in text
    assert "is left out" in text


def test_the_value_of_a_cell_is_not_repeated_below_what_the_run_returned() -> None:
    client = Teller("Completed")
    client.result = pickle.dumps([1, 2])
    value = {"output_type": "execute_result", "data": {"text/plain": "[1, 2]"}}
    client.chunks = [printed("before\n"), json.dumps([value]).encode()]

    text = Parts(html(client)).text

    assert "returned [1, 2]" in text
    assert text.count("[1, 2]") == 1
    assert "before" in text


def test_what_a_run_writes_is_never_markup() -> None:
    client = Teller("Failed")
    error = {"output_type": "error", "ename": EVIL, "evalue": EVIL, "traceback": [EVIL]}
    rich = {"output_type": "display_data", "data": {"text/html": EVIL, "text/plain": EVIL}}
    client.chunks = [printed(f"{EVIL}\n"), json.dumps([error, rich]).encode()]

    parts = Parts(html(client, "Failed"))

    assert parts.tags <= {"div", "span", "b", "pre", "code"}
    assert parts.attributes <= {"style", "dir"}
    assert parts.text.count(EVIL) == 4


def test_a_small_figure_is_kept_and_of_a_large_one_is_said_how_it_is_had() -> None:
    shown = []
    for size in (10, still.PICTURE_BYTES_MAX + 1):
        client = Teller("Completed")
        data = {"image/png": base64.b64encode(b"x" * size).decode(), "text/plain": EVIL}
        client.chunks = [json.dumps([{"output_type": "display_data", "data": data}]).encode()]
        shown.append(Parts(html(client)))

    assert ["img" in parts.tags for parts in shown] == [True, False]
    assert shown[0].attributes <= {"style", "dir", "src", "alt"}
    assert EVIL not in shown[0].text
    assert "run.show()" in shown[1].text
    assert EVIL in shown[1].text


def test_a_very_long_output_is_not_read() -> None:
    client = Teller("Completed")

    text = Parts(html(client, size=still.OUTPUT_BYTES_MAX + 1)).text

    assert client.asked == []
    assert "2.0 MB of output; run.show() shows it." in text


def test_a_run_is_shown_when_its_output_cannot_be_had() -> None:
    client = Teller("Failed")
    client.is_gone = True

    assert "✗ Failed" in Parts(html(client, "Failed")).text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain <b>", "plain &lt;b&gt;"),
        ("\x1b[1mbold\x1b[0m", '<span style="font-weight:600">bold</span>'),
        ("\x1b[1;3;4mall\x1b[22;23;24mnone", None),
        (
            "\x1b[31mred\x1b[39m plain",
            '<span style="color:color-mix(in srgb,#e0443a 56%,currentColor)">red</span> plain',
        ),
        ("\x1b[38;5;208mx", '<span style="color:color-mix(in srgb,#ff8700 56%,currentColor)">x</span>'),
        ("\x1b[38;2;1;2;3mx", '<span style="color:color-mix(in srgb,#010203 56%,currentColor)">x</span>'),
        ("\x1b[2J\x1b]0;title\x07\x1b[Hx\x00", "x"),
        ("\x1b[38m\x1b[38;5mx\x1b", None),
    ],
)
def test_colours_of_a_terminal_become_styles(text: str, told: str | None) -> None:
    html = html_of(text)

    assert told is None or html == told
    assert not re.search(r"[\x00-\x08\x1b]", html)
    assert re.sub(r"</?span[^>]*>", "", html).endswith(("none", "x", "bold", "plain", "&lt;b&gt;"))
