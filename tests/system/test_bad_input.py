"""What bad input gets: a clear error, and nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import task
from nbtasks.core import codec
from nbtasks.core.messages import HelloClient, NewRun, Spec, Submit
from nbtasks.wire import connection, ids, lock
from nbtasks.wire.peer_sockets import PeerSockets
from tests.system import tasks
from tests.system.waiting import until

double = task(tasks.double)


def nbtasks_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nbtasks.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.feature("D8")
def test_an_argument_that_cannot_be_pickled_is_named_and_no_run_exists(client: Any) -> None:
    with pytest.raises(nbtasks.NotPicklable, match="x"):
        double.delay(threading.Lock())

    assert nbtasks.runs() == []


def test_a_task_above_64_mib_with_all_that_it_uses_is_named_with_its_size(client: Any) -> None:
    large = bytes(75_000_000)

    @task
    def uses() -> int:
        return len(large)

    with pytest.raises(nbtasks.ValueTooLarge, match=r"uses.*71\.5 MiB"):
        uses.delay()

    assert nbtasks.runs() == []


def test_without_a_broker_and_without_leave_to_start_one_it_is_unavailable_at_once(home: Path) -> None:
    began = time.monotonic()

    with pytest.raises(nbtasks.BrokerUnavailable), nbtasks.connect(home, start=False) as client:
        client.status()

    assert time.monotonic() - began < 60  # a hang limit; what is promised is 3 s


def test_a_stale_connection_file_leads_to_a_new_broker_that_has_the_runs(client: Any, home: Path) -> None:
    run_id = double.delay(4).id
    pid = client.status().broker_pid
    client.close()
    os.kill(pid, signal.SIGKILL)
    until(lambda: connection.read(home) is None, "the file is known to be stale")

    with nbtasks.connect(home) as second:
        second.start_workers(1)

        assert nbtasks.get_run(run_id).result(timeout=60) == 8


def test_a_second_broker_start_says_pid_and_home(client: Any, home: Path) -> None:
    done = nbtasks_command("broker", "start")

    assert done.returncode == 0, done.stderr
    assert str(client.status().broker_pid) in done.stdout
    assert str(home) in done.stdout.replace("\n", "")


def test_a_broker_on_a_locked_home_exits_with_73_and_the_owner(client: Any, home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbtasks.broker", "--home", str(home)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 73
    assert str(client.status().broker_pid) in done.stderr


def test_a_run_of_another_python_waits_and_says_for_what(client: Any, workers: Any, home: Path) -> None:
    peer_id, run_id = ids.peer_id("c"), ids.run_id()
    found = connection.read(home)
    assert found is not None
    sockets = PeerSockets(found, peer_id, codec.for_client)
    hello = HelloClient(nbtasks.__version__, "3.99", os.getpid(), "here")
    spec = Spec("m:f", "f", "3.99", "digest")
    submit = Submit("batch", spec, b"code", (NewRun(run_id, b"args"),))
    try:

        def accepted() -> bool:
            sockets.send([hello, submit])
            sockets.poll(0.1)
            return any(type(message).__name__ == "Accepted" for message in sockets.receive())

        until(accepted, "the run is recorded")
        until(lambda: any(w.state == "idle" for w in client.status().workers), "a worker is there")

        assert nbtasks.get_run(run_id).state.message == "waiting for a worker with Python 3.99"
    finally:
        sockets.close()


def test_os_exit_crashes_the_run_with_its_status_and_harms_no_neighbour(client: Any, workers: Any) -> None:
    leaving = task(tasks.leave).delay(7)
    neighbours = double.map(range(20), deferred=True)

    with pytest.raises(nbtasks.CrashedRun, match="exit status 7"):
        leaving.result(timeout=60)

    assert leaving.state.name == "Crashed"
    assert neighbours.result(timeout=60) == [2 * i for i in range(20)]


def test_of_100_mb_of_output_10_are_kept_and_the_cut_is_marked(client: Any, workers: Any) -> None:
    run = task(tasks.flood).delay(100)

    assert run.result(timeout=120) == 100
    text = "".join(output.get("text", "") for output in run.output)
    assert 9_500_000 < len(text) < 10_100_000
    assert "cut" in text
    assert text.startswith("xxx")
    assert text.endswith("xxx\n")


def test_a_result_that_cannot_be_pickled_fails_the_run_and_says_so(client: Any, workers: Any) -> None:
    with pytest.raises(nbtasks.NotPicklable, match="lock"):
        task(tasks.held_lock).delay().result(timeout=60)


def test_a_garbage_frame_changes_nothing_and_is_logged(client: Any, home: Path) -> None:
    run = double.delay(3)
    found = connection.read(home)
    assert found is not None
    sockets = PeerSockets(found, ids.peer_id("c"), codec.for_client)
    before = client.status()
    log = home / "logs" / "broker.log"

    def logged() -> bool:
        for frame in (b"", b"\x00" * 100, b"not a frame", json.dumps(["x"]).encode(), os.urandom(1000)):
            sockets._dealer.send(frame)
        return "frame" in log.read_text()

    try:
        until(logged, "the broker's log says that a frame was dropped")
    finally:
        sockets.close()

    after = client.status()
    assert after.broker_pid == before.broker_pid
    assert after.counts == before.counts
    client.start_workers(1)
    assert run.result(timeout=60) == 6


def test_a_wrong_key_is_refused_and_says_so(client: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zmq

    real = connection.read
    public, secret = zmq.curve_keypair()

    def with_wrong_key(path: Any) -> Any:
        found = real(path)
        if found is None:
            return None
        import msgspec

        return msgspec.structs.replace(found, public_key=public.decode(), secret_key=secret.decode())

    monkeypatch.setattr(connection, "read", with_wrong_key)

    with pytest.raises(nbtasks.BrokerUnavailable, match="key"), nbtasks.connect(home, start=False) as other:
        other.status()


def test_a_connection_file_without_a_key_is_named(client: Any, home: Path) -> None:
    client.status()
    owner = lock.owner(home)
    assert owner is not None
    path = Path(owner.runtime) / connection.FILE_NAME
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "secret_key": ""}))

    with pytest.raises(nbtasks.BrokerUnavailable, match="key"), nbtasks.connect(home, start=False) as other:
        other.status()

    path.write_text(json.dumps(known))


@pytest.mark.parametrize("given", [{"priority": 2**63}, {"retries": 2**63}, {"priority": -(2**63) - 1}])
def test_a_number_that_does_not_fit_is_named_and_no_run_exists(client: Any, given: dict[str, int]) -> None:
    [word] = given
    with pytest.raises(ValueError, match=rf"{word}.*64 bits"):
        double.apply_async((1,), **given)
    with pytest.raises(ValueError, match=r"slots.*64 bits"):
        nbtasks.limit("gpu", 2**63)

    assert nbtasks.runs() == []


def test_what_cannot_be_said_is_an_error_of_that_call_alone(client: Any) -> None:
    double.delay(1)

    with pytest.raises(OverflowError):
        client.prune(bytes_max=2**70)

    assert double.delay(2).state.name == "Pending"
    assert len(nbtasks.runs()) == 2


@task
def says_what_is_no_unicode(how: str) -> object:
    name = "caf\udce9.csv"
    if how == "progress":
        nbtasks.progress(1, 2, name)
    if how == "message":
        return nbtasks.states.Failed(message=f"cannot read {name}")
    if how == "exit":
        sys.exit(name)
    return name


@pytest.mark.parametrize(
    ("how", "state"), [("progress", "Completed"), ("message", "Failed"), ("exit", "Crashed")]
)
def test_text_that_is_no_unicode_is_spelled_out(client: Any, how: str, state: str) -> None:
    client.start_workers(1)
    run = says_what_is_no_unicode.delay(how)

    found = run.wait(timeout=60)

    assert found.name == state
    assert "exit status" not in found.message, "its worker lives"
    assert double.delay(2).result(timeout=60) == 4
