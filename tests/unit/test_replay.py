"""What is to be seen after the outputs of a run: as in a notebook, from any beginning, in bounded memory."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm.std import tqdm

from nbtasks.run.replay import Replay, replayed
from nbtasks.run.screen import Screen

pytestmark = pytest.mark.feature("N4")


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def shown(text: str, display: str = "", update: bool = False) -> dict[str, Any]:
    kind = "update_display_data" if update else "display_data"
    output: dict[str, Any] = {"output_type": kind, "data": {"text/plain": text}, "metadata": {}}
    return {**output, "transient": {"display_id": display}} if display else output


def clear(wait: bool = False) -> dict[str, Any]:
    return {"output_type": "clear_output", "wait": wait}


def screen(*texts: str) -> str:
    made = Screen()
    for text in texts:
        made.write(text)
    return made.text


# -- text of a stream -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("one\ntwo\n", "one\ntwo\n"),
        ("10%\r20%\r", "20%"),
        ("long line\rshort\n", "shortline\n"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("ab\b\bc", "cb"),
        ("\b\rx", "x"),
        ("one\ntwo\x1b[A\r1", "1ne\ntwo"),
        ("gone\x1b[2K\rhere", "here"),
        ("keep this\r\x1b[5Cx", "keep xhis"),
        ("keep this\x1b[4D\x1b[K", "keep "),
        ("\x1b[?25lhidden cursor\x1b[?25h", "hidden cursor"),
        ("a\x1b]0;title\x07b", "ab"),
        ("\x1b[999999999999Aup", "up"),
        ("\x1b", ""),
    ],
)
def test_control_characters_are_carried_out(written: str, seen: str) -> None:
    assert screen(written) == seen
    assert screen(*written) == seen


def test_colours_are_kept_and_each_row_closes_its_own() -> None:
    assert screen("\x1b[31mred\x1b[0m plain\n") == "\x1b[31mred\x1b[0m plain\n"
    assert screen("\x1b[1;31mone\ntwo\x1b[m.") == "\x1b[1;31mone\x1b[0m\n\x1b[1;31mtwo\x1b[m."


def test_what_is_overwritten_takes_its_colour_along() -> None:
    assert screen("\x1b[31mabc\x1b[0m\r\x1b[32mX") == "\x1b[32mX\x1b[0m\x1b[31mbc\x1b[0m"


def test_the_row_after_an_endless_one_is_begun_when_it_would_be_overwritten() -> None:
    made = Screen()

    made.write("x" * 1_000_000)
    for number in range(1000):
        made.write(f"\r{number}")

    assert made.rows == ["x" * 1_000_000, "999"]


def test_a_colour_that_comes_in_two_pieces_is_one() -> None:
    assert screen("\x1b[3", "1mred", "\x1b", "[0m") == screen("\x1b[31mred\x1b[0m")


@given(st.text(alphabet="ab\n\r\b\x1b[]0132mKABCDG;é", max_size=60), st.integers(0, 60))
def test_it_does_not_matter_where_a_text_is_torn_apart(text: str, at: int) -> None:
    whole, torn = Screen(), Screen()

    whole.write(text)
    torn.write(text[:at])
    torn.write(text[at:])

    assert [_plain(row) for row in whole.rows] == [_plain(row) for row in torn.rows]


def _plain(row: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", row)


@pytest.mark.parametrize(
    ("leave", "left"),
    [(False, ["outer: 100%"]), (True, ["inner: 100%", "inner: 100%", "outer: 100%"])],
)
def test_of_bars_within_a_bar_as_many_lines_are_left_as_in_a_terminal(leave: bool, left: list[str]) -> None:
    file = io.StringIO()
    options: dict[str, Any] = {"file": file, "ascii": True, "mininterval": 0, "ncols": 40}
    with tqdm(total=2, desc="outer", **options) as outer:
        for _ in range(2):
            with tqdm(total=3, desc="inner", leave=leave, **options) as inner:
                for _ in range(3):
                    inner.update()
            outer.update()

    lines = [line for line in screen(file.getvalue()).splitlines() if line.strip()]

    assert [line.split("|")[0] for line in lines] == left


# -- outputs --------------------------------------------------------------------------------------------


def test_what_one_stream_wrote_in_pieces_is_one_output() -> None:
    replay = replayed([stream("a"), stream("b\n"), stream("!", "stderr"), stream("c")])

    assert replay.outputs == [stream("ab\n"), stream("!", "stderr"), stream("c")]
    assert replay.text == "ab\n!c"


def test_cleared_output_is_gone_at_once_or_when_something_new_comes() -> None:
    replay = replayed([stream("a"), clear(), stream("b"), clear(wait=True)])

    assert replay.outputs == [stream("b")]

    replay.add(stream("c"))
    assert replay.outputs == [stream("c")]


def test_an_update_does_not_count_as_something_new() -> None:
    replay = replayed([shown("1", "d"), clear(wait=True), shown("2", "d", update=True)])

    assert replay.outputs == [shown("2", "d")]


def test_a_display_is_updated_wherever_it_was_shown() -> None:
    replay = replayed([shown("1", "d"), stream("x"), shown("1", "e"), shown("2", "d"), stream("y")])

    replay.add(shown("3", "d", update=True))
    replay.add(shown("9", "unknown", update=True))

    assert replay.outputs == [shown("3", "d"), stream("x"), shown("1", "e"), shown("3", "d"), stream("y")]


def test_the_outputs_given_are_left_as_they_are() -> None:
    first = shown("1", "d")

    replayed([first, shown("2", "d", update=True)])

    assert first == shown("1", "d")


def test_everything_else_is_passed_on_unchanged() -> None:
    error = {"output_type": "error", "ename": "E", "evalue": "e", "traceback": ["\x1b[31mE\x1b[0m: e"]}
    result = {"output_type": "execute_result", "data": {"image/png": "x"}, "metadata": {"a": 1}}

    assert replayed([result, error]).outputs == [result, error]


def test_as_text_a_display_begins_on_a_line_of_its_own() -> None:
    assert replayed([stream("50%"), shown("<Figure>"), stream("end")]).text == "50%\n<Figure>\nend"


# -- bounds ---------------------------------------------------------------------------------------------


def test_of_much_output_only_the_end_is_kept() -> None:
    replay = Replay(tail_bytes=1000)
    whole = [stream(f"line {number} é\n", ("stdout", "stderr")[number % 7 == 0]) for number in range(2000)]

    for output in whole:
        replay.add(output)

    text = replay.text
    assert 1000 <= len(text.encode()) <= 2000
    assert "".join(output["text"] for output in whole).endswith(text)
    assert text.startswith("line ")


def test_one_endless_line_is_bounded_too() -> None:
    replay = Replay(tail_bytes=1000)

    for number in range(1000):
        replay.add(stream(f"\x1b[31m{number:05d}\x1b[0m"))

    assert replay.text.endswith("00998\x1b[0m\x1b[31m00999\x1b[0m")
    assert len(replay.text.encode()) <= 2000


def test_large_displays_leave_when_newer_output_fills_the_bound() -> None:
    replay = Replay(tail_bytes=100)

    replay.add(shown("x" * 5000))
    kept = replay.outputs
    replay.add(stream("y" * 5000))

    assert kept == [shown("x" * 5000)]
    assert [output["output_type"] for output in replay.outputs] == ["stream"]


def test_a_bar_goes_on_after_what_was_above_it_is_forgotten() -> None:
    replay = Replay(tail_bytes=100)

    replay.add(stream("above\n" * 1000))
    for percent in range(100):
        replay.add(stream(f"\r{percent:3d}%"))

    assert replay.text.endswith("above\n 99%")


@pytest.mark.parametrize(
    ("lines", "size", "tail"),
    [
        (1, 99, "five\n"),
        (2, 99, "four\nfive\n"),
        (99, 99, "one\ntwo\nthree\nfour\nfive\n"),
        (9, 6, "\nfive\n"),
    ],
)
def test_the_tail_is_the_last_lines_of_all_outputs(lines: int, size: int, tail: str) -> None:
    replay = replayed([stream("one\ntwo\n"), shown("three"), stream("four\n", "stderr"), stream("five\n")])

    assert replay.text_tail(lines, size) == tail


def test_the_tail_of_nothing_is_empty() -> None:
    assert Replay().text_tail(10, 100) == ""
