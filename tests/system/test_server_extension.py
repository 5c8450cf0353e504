"""The extension of a real Jupyter server: found once it is installed, and behind the server's own token."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError
from zipfile import ZipFile

import hatchling.build
import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import websocket_connect

import nbtasks
from nbtasks.core.version import VERSION
from tests.homes import fresh_home
from tests.system.tasks import double
from tests.system.waiting import HANG_S, until

ROOT = Path(__file__).parents[2]
BASE = "/user/ann/"  # as behind a hub
UNKNOWN = "00000000-0000-7000-8000-000000000000"


class Server(NamedTuple):
    url: str
    token: str
    log: Path

    def ask(self, path: str, token: str | None = None) -> tuple[int, str]:
        headers = {"Authorization": f"token {self.token if token is None else token}"}
        try:
            request = urllib.request.Request(self.url + path, headers=headers)
            with urllib.request.urlopen(request, timeout=HANG_S) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base, token = tmp_path_factory.mktemp("server"), secrets.token_hex(8)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = {
        name: str(base / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
    known = {**places, "JUPYTER_CONFIG_PATH": str(ROOT / "jupyter-config"), "HOME": str(base)}
    options = {
        "ServerApp.port": port,
        "ServerApp.base_url": BASE,
        "ServerApp.allow_root": True,
        "ServerApp.open_browser": False,
        "ServerApp.allow_unauthenticated_access": False,  # a handler without a guard would be refused
        "IdentityProvider.token": token,
    }
    command = [
        sys.executable,
        "-m",
        "jupyter_server",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    server = Server(f"http://127.0.0.1:{port}{BASE}", token, base / "log")
    with fresh_home(), server.log.open("wb") as log:
        process = subprocess.Popen(command, env={**os.environ, **known}, stdout=log, stderr=log, cwd=base)
        try:
            until(lambda: answers(server, process), "the server answers")
            yield server
        finally:
            process.terminate()
            process.wait(HANG_S)


def answers(server: Server, process: Any) -> bool:
    assert process.poll() is None, server.log.read_text()
    try:
        return server.ask("api/status")[0] == 200
    except OSError:
        return False


PATHS = [
    "nbtasks",
    "nbtasks/",
    f"nbtasks/runs/task-run/{UNKNOWN}",
    "nbtasks/static/page.js",
    "nbtasks/api/status",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_route_needs_the_token(server: Server, path: str) -> None:
    status, text = server.ask(path, token="wrong")

    assert status == 403 or 'name="password"' in text  # Jupyter's own page of login
    assert "makeRoot" not in text
    assert "<main" not in text


def test_a_stranger_gets_no_websocket(server: Server) -> None:
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(connected(server, "wrong"))


async def connected(server: Server, token: str) -> dict[str, Any]:
    """The first message of the board."""
    url = f"{server.url.replace('http', 'ws')}nbtasks/api/live?token={token}"
    connection = await websocket_connect(url)
    try:
        await connection.write_message(json.dumps({"do": "show", "card": 1, "kind": "board"}))
        text = await asyncio.wait_for(connection.read_message(), HANG_S)
        return json.loads(text)  # type: ignore[no-any-return]
    finally:
        connection.close()


def test_the_page_names_its_files_below_the_base_of_the_server(server: Server) -> None:
    status, text = server.ask("nbtasks")

    assert (status, f'src="{BASE}nbtasks/static/page.js"' in text) == (200, True)
    assert "makeRoot" in server.ask("nbtasks/static/page.js")[1]


def test_a_server_without_a_broker_says_so_and_starts_none(server: Server) -> None:
    status, text = server.ask("nbtasks/api/runs")

    assert (status, "no broker runs" in json.loads(text)["message"]) == (503, True)
    assert "problem" in asyncio.run(connected(server, server.token))


@pytest.mark.feature("S1")
def test_the_runs_of_the_home_are_told(server: Server) -> None:
    with nbtasks.connect() as client:
        client.start_workers(1)
        run = nbtasks.task(double).delay(2)
        run.wait()
        rows = json.loads(server.ask("nbtasks/api/runs")[1])
        board = asyncio.run(connected(server, server.token))
        client.stop_broker()

    assert [row["id"] for row in rows] == [str(run.id)]
    assert board["set"]["value"]["note"] == ""


def test_an_extension_that_is_loaded_costs_a_server_little(server: Server) -> None:
    heavy = {"IPython", "anywidget", "ipykernel", "ipywidgets", "numpy", "rich", "cloudpickle", "zmq.auth"}
    code = (
        "import json, sys, jupyter_server.serverapp; before = set(sys.modules); import nbtasks.web.jupyter;"
    )
    code += "print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(json.loads(done.stdout))
    assert not (loaded | {name.partition(".")[0] for name in loaded}) & {*heavy, "nbtasks.client"}
    assert "nbtasks: the board of" in server.log.read_text()


def test_a_wheel_holds_what_jupyter_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with ZipFile(tmp_path / hatchling.build.build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
        data = f"nbtasks-{VERSION}.data/data"
        package = json.loads(wheel.read(f"{data}/share/jupyter/labextensions/nbtasks/package.json"))

    assert f"{data}/etc/jupyter/jupyter_server_config.d/nbtasks.json" in names
    loads = package["jupyterlab"]["_build"]["load"]
    assert f"{data}/share/jupyter/labextensions/nbtasks/{loads}" in names
    assert package["version"] == VERSION
    assert {"nbtasks/web/static/page.html", "nbtasks/live/static/board.js"} <= names
