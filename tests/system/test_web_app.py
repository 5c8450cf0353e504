"""The example with a web server: its `test` script, and the commands that its compose.yaml gives to services.

There is no Docker here. A service is a process in the folder of the example, with the command and the
environment that compose.yaml has; only the volume is another folder, and the port one that is free.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import yaml

import nbtasks
from nbtasks import task
from tests.homes import fresh_home, processes_naming
from tests.system.waiting import HANG_S, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "web_app"
SERVICES = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())["services"]
NUMBERS = "processes"  # the service that only holds the numbers of the others' processes
VOLUME = "/data"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
LOG = re.compile("^== .*$", flags=re.MULTILINE)  # what the script prints above a log


class Answer(NamedTuple):
    status: int
    body: Any


class Services:
    """Those of compose.yaml; what they have in `VOLUME` is in `base`, and beside it their logs."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def _in_base(self, text: str) -> str:
        return text.replace(VOLUME, str(self._base / "v"))

    def environment(self, name: str) -> dict[str, str]:
        variables = {word: self._in_base(text) for word, text in SERVICES[name]["environment"].items()}
        if "UVICORN_PORT" in variables:
            variables |= {"UVICORN_HOST": "127.0.0.1", "UVICORN_PORT": "0"}
        return {"PATH": PATH, **variables}

    def start(self, name: str) -> None:
        command = shlex.split(self._in_base(SERVICES[name]["command"]))
        with (self._base / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, cwd=EXAMPLE, env=self.environment(name), stdout=log, stderr=log
            )

    def wait_healthy(self, name: str) -> None:
        kind, *command = SERVICES[name]["healthcheck"]["test"]
        assert kind == "CMD"
        environment = self.environment(name)
        until(
            lambda: subprocess.run(command, env=environment, capture_output=True).returncode == 0,
            f"{name} is healthy",
        )

    def stop(self, name: str) -> int:
        """The exit status after what `docker compose stop` does."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(HANG_S)

    def end(self) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return (self._base / f"{name}.log").read_text()

    @property
    def url(self) -> str:
        def listens() -> re.Match[str] | None:
            assert self._running["api"].poll() is None, self.log("api")
            return re.search(r"running on (http:\S+)", self.log("api"))

        return until(listens, "the server listens")[1]

    def ask(self, path: str, body: Any = None) -> Answer:
        """What the server answers, to a POST if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=HANG_S) as answer:
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error))

    def ended(self, run: str) -> Any:
        """What the server tells of a run once it has ended."""

        def told() -> Any:
            answer = self.ask(f"/runs/{run}")
            assert answer.status == 200, answer
            return answer.body if answer.body["type"] in FINAL else None

        return until(told, f"run {run} has ended", pause_s=0.05)


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with fresh_home() as home:
        yield home.parent


@pytest.fixture(scope="module")
def alone(base: Path) -> Iterator[tuple[Services, Answer]]:
    """The services, of which only the server is up, and how that answers then."""
    services = Services(base)
    try:
        services.start("api")
        yield services, services.ask("/", {"value": 1})
    finally:
        services.end()


@pytest.fixture(scope="module")
def services(alone: tuple[Services, Answer]) -> Services:
    """All of them; the server was there first."""
    services, _ = alone
    services.start("broker")
    services.wait_healthy("broker")
    services.start("worker")
    return services


def script(place: Path, path: str = PATH) -> subprocess.CompletedProcess[str]:
    """The script, with its temporary files in `place`; it must have taken everything away."""
    environment = {**os.environ, "PATH": path, "TMPDIR": str(place)}
    done = subprocess.run([EXAMPLE / "test"], env=environment, capture_output=True, text=True, timeout=HANG_S)
    assert not processes_naming(str(place))
    assert not list(place.iterdir())
    return done


@pytest.mark.skipif(shutil.which("curl") is None, reason="the script needs curl")
@pytest.mark.feature("S4")
def test_the_script_ends_well_and_prints_both_logs(home: Path, tmp_path: Path) -> None:
    done = script(tmp_path)

    assert done.returncode == 0, (done.stdout, done.stderr)
    said, web, worker = LOG.split(done.stdout)
    assert '"type":"COMPLETED","state":"Completed","result":7.0' in said
    assert '"POST / HTTP/1.1" 202 Accepted' in web
    assert "Task run 'some_work' - working on 49" in worker


def test_the_script_fails_at_once_with_a_server_that_does_not_start(
    home: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = tmp_path_factory.mktemp("bin") / "uvicorn"
    server.write_text("#!/bin/sh\necho no port >&2; exit 3\n")
    server.chmod(0o755)

    done = script(tmp_path, f"{server.parent}{os.pathsep}{PATH}")

    assert done.returncode == 1
    assert "no port" in LOG.split(done.stdout)[1]


def test_without_a_broker_the_server_says_so_and_starts_none(alone: tuple[Services, Answer]) -> None:
    services, answer = alone

    home = services.environment("api")["NBTASKS_HOME"]
    assert answer == (503, {"detail": f"no broker runs for {home}; start it by: nbtasks broker start"})


@pytest.mark.parametrize("path", ["/", "/job"])
def test_a_job_is_submitted_and_its_result_is_told(services: Services, path: str) -> None:
    status, body = services.ask(path, {"value": 16})

    run = body["id"]
    assert (status, body["message"]) == (202, f"submitted task run UUID('{run}')")
    assert services.ended(run) == {"id": run, "type": "COMPLETED", "state": "Completed", "result": 4.0}


def test_why_a_job_failed_is_told(services: Services) -> None:
    run = services.ask("/", {"value": -4}).body["id"]

    message = "ValueError: -4 has no square root"
    assert services.ended(run) == {"id": run, "type": "FAILED", "state": "Failed", "message": message}


@pytest.mark.parametrize("body", [{"value": "many"}, {"value": 1.5}, {}, [1]])
def test_what_is_no_job_is_refused(services: Services, body: Any) -> None:
    assert services.ask("/", body).status == 422


def test_only_runs_of_the_task_are_told_of(services: Services) -> None:
    with nbtasks.connect(services.environment("api")["NBTASKS_HOME"], start=False):
        other = task(print).delay("secret")

    assert [services.ask(f"/runs/{run}").status for run in (other.id, uuid4(), "x")] == [404, 404, 422]


def test_every_service_ends_well_when_it_is_told_to(services: Services) -> None:
    # last, because nothing goes on without them
    ended = {name: services.stop(name) for name in reversed(SERVICES) if name != NUMBERS}

    assert ended.pop("api") in (0, -signal.SIGTERM)  # by the version of uvicorn
    assert ended == {"worker": 0, "broker": 0}


def test_the_services_share_what_belongs_to_a_home() -> None:
    def shared(name: str) -> tuple[Any, ...]:
        service = SERVICES[name]
        ours = {word: text for word, text in service["environment"].items() if word.startswith("NBTASKS_")}
        return service["pid"], service["hostname"], service["volumes"], service["build"], ours

    assert shared("api") == shared("worker") == shared("broker")
    assert SERVICES["api"]["pid"] == f"service:{NUMBERS}"
