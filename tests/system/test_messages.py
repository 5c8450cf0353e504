"""What a user reads in a notebook when the broker was stopped or the home is broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.kernels import Kernel, kernel

TASK = "from nbtasks import task\n\n@task\ndef f(x):\n    return x\n\nimport nbtasks"


@pytest.fixture
def notebook(home: Path) -> Iterator[Kernel]:
    with kernel() as made:
        made.run(f"%load_ext nbtasks\n{TASK}")
        yield made


def refused(notebook: Kernel, code: str) -> str:
    """The one line that a magic says instead of a traceback."""
    cell = notebook.send(code).end()
    [text] = [output["text"] for output in cell.outputs if output.get("name") == "stderr"]
    return str(text).strip()


def raised(notebook: Kernel, code: str) -> str:
    """All that is shown of an exception."""
    return notebook.send(code).end().error[2]


def test_a_stopped_broker_is_said_in_one_line_each_time(notebook: Kernel, home: Path) -> None:
    notebook.run("%nbtasks start -w 0\nrun = f.delay(1)\n%nbtasks stop")

    said = [
        raised(notebook, code) for code in ("run.result()", "await run", "nbtasks.wait([run])", "run.state")
    ]

    assert set(said) == {
        f"BrokerUnavailable: the broker of {home} was stopped; "
        "%nbtasks start or nbtasks broker start starts it again, with its runs"
    }
    notebook.run("%nbtasks start -w 1")
    assert notebook.run("print(run.result(60))") == "1\n"


def test_an_error_that_is_raised_again_has_no_older_traceback(notebook: Kernel) -> None:
    notebook.run("%nbtasks start -w 0\nrun = f.delay(1)\n%nbtasks stop")
    depth = """
import traceback
try:
    run.result()
except nbtasks.BrokerUnavailable as error:
    print(len(traceback.extract_tb(error.__traceback__)))
"""

    assert len({notebook.run(depth) for _ in range(3)}) == 1


def test_a_home_that_others_may_enter_says_what_to_do(notebook: Kernel, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "something").touch()
    home.chmod(0o755)

    by_magic, by_call = refused(notebook, "%nbtasks start"), raised(notebook, "f.delay(1)")
    home.chmod(0o700)

    what = f"{home} can be entered by others (mode 0755); if nobody tampered with it, run: chmod 700 {home}"
    assert by_magic == f"UsageError: no broker can be started for {home}: {what}"
    assert by_call == f"BrokerUnavailable: no broker can be started for {home}: {what}"


def test_a_home_that_is_a_file_is_refused_in_one_line(notebook: Kernel, home: Path) -> None:
    home.touch(mode=0o600)

    by_magic, by_call = refused(notebook, "%nbtasks start"), raised(notebook, "f.delay(1)")
    home.unlink()

    what = f"no broker can be started for {home}: {home} must be a directory, not a symbolic link or a file"
    assert (by_magic, by_call) == (f"UsageError: {what}", f"BrokerUnavailable: {what}")


def test_a_setting_that_is_wrong_is_said_once(notebook: Kernel, home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "settings.toml").write_text('queue_limit = "many"\n')

    said = refused(notebook, "%nbtasks start")
    (home / "settings.toml").unlink()

    assert said.startswith("UsageError: ")
    assert said.count("queue_limit = 'many'") == 1


def test_a_damaged_journal_is_set_aside_and_said_so(notebook: Kernel, home: Path) -> None:
    notebook.run("%nbtasks start -w 0\n%nbtasks stop")
    (home / "journal.db").write_bytes(b"no journal" * 1000)

    started, status = notebook.run("%nbtasks start -w 0"), notebook.run("%nbtasks status")

    [aside] = home.glob("journal.db.damaged-*[0-9]")
    line = f"damaged {aside}: set aside, the runs in it are not listed\n"
    assert line in started
    assert line in status


def test_a_magic_without_a_verb_names_the_verbs(notebook: Kernel) -> None:
    assert refused(notebook, "%nbtasks").startswith("UsageError: %nbtasks takes a verb: start, stop, status")
    assert refused(notebook, "%nbtasks start 3") == "UsageError: %nbtasks start takes no '3'; write -w 3"
