"""`nbtasks dashboard` as a process: who is let in, what the API and the websocket tell, and what they do."""

from __future__ import annotations

import asyncio
import http.cookiejar
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

import nbtasks
from nbtasks.web.session import Session
from nbtasks.web.source import Source
from nbtasks.wire import pages
from tests.homes import fresh_home
from tests.system.tasks import double, say_and_hold
from tests.system.waiting import HANG_S, until

COMMAND = [sys.executable, "-c", "from nbtasks.cli import main; main(prog_name='nbtasks')", "dashboard"]
UNKNOWN = "00000000-0000-7000-8000-000000000000"
PATHS = [
    "static/page.js",
    "static/widgets.css",
    "api/status",
    "api/runs",
    f"api/runs/{UNKNOWN}/output",
    "api/live",
]


class Dashboard:
    """A running dashboard of the home that `NBTASKS_HOME` names, and a browser without a screen."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.link = re.search(r"http\S+", self.line)[0]  # type: ignore[index]
        self.url = self.link.partition("?")[0]
        self.token = self.link.rpartition("=")[2]
        self.cookies = http.cookiejar.CookieJar()
        self._browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def ask(self, path: str, verb: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
        """As whoever has the token; other `headers` instead of it."""
        headers = {"Authorization": f"token {self.token}"} if headers is None else headers
        body = b"" if verb == "POST" else None
        return answer(
            urllib.request.urlopen, urllib.request.Request(self.url + path, body, headers, method=verb)
        )

    def told(self, path: str, verb: str = "GET") -> Any:
        status, text = self.ask(path, verb)
        assert status == 200, text
        return json.loads(text)

    def browse(self, path: str, verb: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
        """As a browser, with the cookies that it was given."""
        body = b"" if verb == "POST" else None
        request = urllib.request.Request(self.url + path, body, headers or {}, method=verb)
        return answer(self._browser.open, request)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=HANG_S)
        return self.process.returncode


def answer(opens: Callable[..., Any], request: urllib.request.Request) -> tuple[int, str]:
    try:
        with opens(request, timeout=HANG_S) as found:
            return found.status, found.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with fresh_home() as home:
        yield home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[nbtasks.Client]:
    with nbtasks.connect() as client:
        client.start_workers(1)
        yield client


@pytest.fixture(scope="module")
def dashboard(client: nbtasks.Client) -> Iterator[Dashboard]:
    dashboard = Dashboard()
    yield dashboard
    dashboard.end()


# -- who is let in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}])
def test_nothing_is_told_to_whoever_lacks_the_token(
    dashboard: Dashboard, path: str, headers: dict[str, str]
) -> None:
    status, _ = dashboard.ask(path, headers=headers)

    assert status == 403


def test_the_page_asks_a_stranger_for_the_token_and_has_nothing_else(
    dashboard: Dashboard, home: Path
) -> None:
    status, text = dashboard.ask(f"runs/task-run/{UNKNOWN}", headers={})

    assert status == 403
    assert 'name="token"' in text
    assert str(home) not in text
    assert "That is not the token" in dashboard.ask("?token=wrong", headers={})[1]


def test_the_link_lets_a_browser_in_and_leaves_no_token_in_its_address(dashboard: Dashboard) -> None:
    status, text = dashboard.browse(f"?token={dashboard.token}")

    assert (status, "page.js" in text, dashboard.token in text) == (200, True, False)
    assert dashboard.browse("api/status")[0] == 200
    assert {cookie.name for cookie in dashboard.cookies} == {
        f"nbtasks-{urlsplit(dashboard.url).port}",
        "_xsrf",
    }


def test_another_site_cannot_have_a_browser_cancel_a_run(dashboard: Dashboard) -> None:
    run = nbtasks.task(double).delay(1)
    dashboard.browse(f"?token={dashboard.token}")
    [xsrf] = [cookie.value for cookie in dashboard.cookies if cookie.name == "_xsrf"]

    assert dashboard.browse(f"api/runs/{run.id}/cancel", "POST")[0] == 403
    assert dashboard.browse(f"api/runs/{run.id}/cancel", "POST", {"X-XSRFToken": str(xsrf)})[0] == 200


def test_a_foreign_name_that_leads_here_is_refused(dashboard: Dashboard) -> None:
    host = {"Authorization": f"token {dashboard.token}", "Host": "evil.example"}

    assert dashboard.ask("api/status", headers=host)[0] == 403
    assert dashboard.ask("api/status", headers={**host, "Host": "localhost"})[0] == 200


# -- the API ------------------------------------------------------------------------------------------------


def test_the_api_tells_what_the_command_line_tells(dashboard: Dashboard, home: Path) -> None:
    run = nbtasks.task(double, tags={"api"}).delay(21)
    run.wait()

    assert dashboard.told("api/status")["home"] == str(home)
    [row] = dashboard.told("api/runs?tag=api&state=COMPLETED&task=double&limit=5")
    assert (row["id"], row["state"], row["parameters"]) == (str(run.id), "Completed", {"x": "21"})
    record = dashboard.told(f"api/runs/{run.id}")
    assert [state["state"] for state in record["history"]] == ["Pending", "Running", "Completed"]


@pytest.mark.feature("S1")
def test_a_run_is_cancelled_and_called_again_and_its_output_read(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    run = nbtasks.task(say_and_hold).delay("over here", str(tmp_path / "go"))
    until(lambda: "over here" in run.logs, "it speaks")

    assert dashboard.told(f"api/runs/{run.id}/cancel", "POST")["id"] == str(run.id)
    run.wait()
    assert run.state.name == "Cancelled"
    [output] = [one for one in dashboard.told(f"api/runs/{run.id}/output") if one["output_type"] == "stream"]
    assert output["text"].startswith("over here")
    (tmp_path / "go").touch()
    again = dashboard.told(f"api/runs/{run.id}/rerun", "POST")["id"]
    assert nbtasks.get_run(again).result() == {"said": "over here"}


@pytest.mark.parametrize(
    ("path", "verb", "status", "words"),
    [
        (f"api/runs/{UNKNOWN}", "GET", 404, "no run"),
        ("api/runs/nonsense", "GET", 404, "'nonsense' is not the id of a run"),
        ("api/nothing", "GET", 404, "there is no 'nothing' here"),
        ("static/nothing.js", "GET", 404, "there is no file"),
        ("static/..%2F..%2Fapi.py", "GET", 404, "there is no file"),
        (f"api/runs/{UNKNOWN}/cancel", "GET", 405, "takes POST, not GET"),
        ("api/status", "POST", 405, "takes GET, not POST"),
        ("api/runs?limit=0", "GET", 400, "limit is a number from 1"),
        ("api/runs?state=Nope", "GET", 400, "Nope"),
        ("api/runs?colour=red", "GET", 400, "not by colour"),
    ],
)
def test_a_question_that_has_no_answer_is_told_why(
    dashboard: Dashboard, path: str, verb: str, status: int, words: str
) -> None:
    found, text = dashboard.ask(path, verb)

    assert found == status
    assert words in json.loads(text)["message"]


# -- the websocket ------------------------------------------------------------------------------------------


class Talk:
    """The websocket of a page."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self._connection = connection

    async def say(self, **message: Any) -> None:
        await self._connection.write_message(json.dumps(message))

    async def heard(self, condition: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The next message of which `condition` is true."""
        while True:
            text = await asyncio.wait_for(self._connection.read_message(), HANG_S)
            assert text is not None, "the server has closed"
            if condition(message := json.loads(text)):
                return message  # type: ignore[no-any-return]


def talk(dashboard: Dashboard, what: Callable[[Talk], Awaitable[None]], token: str | None = None) -> None:
    headers = {"Authorization": f"token {token or dashboard.token}"}
    request = HTTPRequest(f"{dashboard.url.replace('http', 'ws')}api/live", headers=headers)

    async def whole() -> None:
        connection = await websocket_connect(request)
        try:
            await what(Talk(connection))
        finally:
            connection.close()

    asyncio.run(whole())


def test_a_stranger_gets_no_websocket(dashboard: Dashboard) -> None:
    async def nothing(_: Talk) -> None:
        raise AssertionError("it was let in")

    with pytest.raises(HTTPClientError, match="403"):
        talk(dashboard, nothing, token="wrong")


def test_a_run_is_watched_until_its_end_and_cancelled_by_a_click(
    dashboard: Dashboard, tmp_path: Path
) -> None:
    run = nbtasks.task(say_and_hold).delay("watched", str(tmp_path / "never"))

    async def watch(page: Talk) -> None:
        await page.say(do="show", card=7, kind="run", run=str(run.id))
        await page.heard(lambda m: "watched" in m["set"].get("tail", {}).get("text", ""))
        await page.say(do="tell", card=7, content={"do": "cancel", "token": "t"})
        ended = await page.heard(lambda m: m["set"]["value"]["state"] == "Cancelled")
        assert (ended["card"], ended["set"]["value"]["live"]) == (7, False)

    talk(dashboard, watch)
    assert run.state.name == "Cancelled"


def test_the_board_tells_of_new_runs_and_nonsense_changes_nothing(dashboard: Dashboard) -> None:
    async def watch(page: Talk) -> None:
        for nonsense in (
            {},
            {"do": "show"},
            {"do": "tell", "card": [], "content": 3},
            {"do": "hide", "card": 9},
        ):
            await page.say(**nonsense)
        await page.say(do="show", card=1, kind="sky")
        assert (await page.heard(lambda m: m["card"] == 1))["lasting"]
        await page.say(do="show", card=2, kind="run", run=UNKNOWN)
        assert "no run" in (await page.heard(lambda m: m["card"] == 2))["problem"]
        await page.say(do="show", card=3, kind="board", home="another")
        assert "not of that home" in (await page.heard(lambda m: m["card"] == 3))["problem"]
        await page.say(do="show", card=4, kind="board")
        await page.heard(lambda m: m["card"] == 4 and m["set"]["value"]["heard"])
        run = nbtasks.task(double, name="newest").delay(1)
        await page.heard(lambda m: str(run.id) in [row["id"] for row in m["set"]["value"]["rows"]])

    talk(dashboard, watch)


# -- the command --------------------------------------------------------------------------------------------


@pytest.mark.feature("S2")
def test_delay_says_where_the_page_of_the_run_is_while_there_is_one(
    dashboard: Dashboard, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_looked", {})
    run = nbtasks.task(double, name="seen").delay(1)

    line = capfd.readouterr().err.splitlines()[-1]
    assert line.endswith(f"'seen'. View it in the UI at '{dashboard.url}runs/task-run/{run.id}'")
    assert dashboard.ask(f"runs/task-run/{run.id}")[0] == 200


def test_a_second_dashboard_of_a_home_is_the_first(dashboard: Dashboard) -> None:
    second = subprocess.run(COMMAND, capture_output=True, text=True, timeout=HANG_S)

    assert (second.returncode, second.stdout) == (0, dashboard.line)


def test_a_port_that_is_taken_is_one_line_and_exit_1(dashboard: Dashboard, tmp_path: Path) -> None:
    port = str(urlsplit(dashboard.url).port)
    other = {**os.environ, "NBTASKS_HOME": str(tmp_path / "other")}

    done = subprocess.run(
        [*COMMAND, "--port", port], capture_output=True, text=True, timeout=HANG_S, env=other
    )

    assert done.returncode == 1
    assert re.fullmatch(rf"nbtasks: port {port} of 127.0.0.1 is taken; .* --port N, 0 for any\n", done.stderr)


def test_a_dashboard_needs_no_broker_goes_on_with_the_next_and_leaves_nothing() -> None:
    with fresh_home() as home:
        dashboard = Dashboard()
        assert dashboard.ask("api/status")[0] == 503

        async def watch(page: Talk) -> None:
            await page.say(do="show", card=1, kind="board")
            assert not (await page.heard(lambda m: "problem" in m))["lasting"]
            with nbtasks.connect() as client:
                await page.say(do="show", card=2, kind="board")
                await page.heard(lambda m: m["card"] == 2 and m["set"]["value"]["heard"])
                os.kill(client.status().broker_pid, signal.SIGKILL)
                await page.heard(lambda m: m["set"]["value"]["note"])
                run = nbtasks.task(double).delay(4)
                await page.heard(
                    lambda m: (
                        not m["set"]["value"]["note"]
                        and str(run.id) in [row["id"] for row in m["set"]["value"]["rows"]]
                    )
                )

        talk(dashboard, watch)
        assert dashboard.end() == 0
        assert pages.find(home) is None
        assert not (home / "dashboard.json").exists()
        again = Dashboard()
        assert again.token == dashboard.token
        assert again.end() == 0


def test_a_page_that_is_closed_while_it_asks_leaves_nobody_looking(
    client: nbtasks.Client, home: Path
) -> None:
    source = Source(home)
    session = Session(source, lambda message: None)
    session.close()

    session.hear('{"do": "show", "card": 1, "kind": "board"}')

    assert not source._client._link._looks  # type: ignore[union-attr]
    source.close()


def test_a_dashboard_ends_with_whoever_owns_it(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with fresh_home() as home:
        monkeypatch.setenv("NBTASKS_OWNER_PID", str(owner.pid))
        dashboard = Dashboard()
        try:
            owner.communicate(b"\n")
            assert dashboard.process.wait(HANG_S) == 0
            assert pages.find(home) is None
        finally:
            dashboard.process.kill()
