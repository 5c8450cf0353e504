"""What a live board costs the notebook that shows it: `make bench-board`.

A kernel displays the board of a broker that holds 100,000 queued runs while two workers end runs as
fast as they are told to. A timer of 10 ms on the kernel's main thread says how late it is called;
first with no board, then with one. The page is this process: it counts what it is sent.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import threading
import time
from typing import Any

from jupyter_client.manager import start_new_kernel

import nbtasks
from nbtasks.jupyter.widgets import VIEW
from tests.homes import environment, fresh_home
from tests.system.waiting import until

LATE_P99_MS = 50.0  # what a user would not feel
SHARE_OUT_S = 60.0
TIMER = """
import asyncio, json, time

async def _late(seconds, pause_s=0.010):
    late, due = [], time.perf_counter() + pause_s
    ends = due + seconds
    while due < ends:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        now = time.perf_counter()
        late.append(now - due)
        due = max(due + pause_s, now)
    return sorted(late)

_found = await _late({seconds})
print(json.dumps([1000 * _found[int(len(_found) * q)] for q in (0.5, 0.99)] + [1000 * _found[-1]]))
"""


def nap(pause_s: float) -> None:
    time.sleep(pause_s)


class Kernel:
    """A kernel, and a thread that takes what it publishes."""

    def __init__(self) -> None:
        self._manager, self._client = start_new_kernel(kernel_name="python3")
        self.updates: list[tuple[float, int, dict[str, Any]]] = []  # when, bytes, the value
        self._texts: dict[str, str] = {}
        self._views: dict[str, str] = {}
        self._idle: set[str] = set()
        self.model = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._over.is_set():
            try:
                message = self._client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            content, parent = message["content"], message["parent_header"].get("msg_id", "")
            if message["msg_type"] == "comm_msg" and content["comm_id"] == self.model:
                value = content["data"].get("state", {}).get("value")
                if value is not None:
                    size = len(json.dumps(content, ensure_ascii=False).encode())
                    self.updates.append((time.monotonic(), size, value))
            elif message["msg_type"] == "stream":
                self._texts[parent] = self._texts.get(parent, "") + content["text"]
            elif message["msg_type"] == "execute_result":
                self._views[parent] = content["data"].get(VIEW, {}).get("model_id", "")
            elif message["msg_type"] == "error":
                self._texts[parent] = "\n".join(content["traceback"])
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                self._idle.add(parent)

    def run(self, source: str) -> str:
        """What a cell printed."""
        parent = self._client.execute(source)
        until(lambda: parent in self._idle, f"the cell ended: {source[:60]}", 300)
        self.model = self._views.get(parent, "") or self.model
        return self._texts.get(parent, "")

    def lateness_ms(self, seconds: float) -> list[float]:
        """Median, 99th percentile and maximum."""
        found: list[float] = json.loads(self.run(TIMER.format(seconds=seconds)))
        return found

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def measure(runs: int, seconds: float, pause_s: float) -> None:
    with fresh_home() as home, environment({"NBTASKS_WIDGETS": "1"}), nbtasks.connect(home) as client:
        task = nbtasks.task(log_prints=False)(nap)
        began = time.monotonic()
        queued = task.map([pause_s] * runs, deferred=True)
        print(f"{runs:,} runs queued in {time.monotonic() - began:.1f} s", flush=True)
        kernel = Kernel()
        try:
            kernel.run("%load_ext nbtasks")
            pool = client.start_workers(2)
            until(lambda: client.board().counts.get("COMPLETED", 0) > 100, "runs end")
            report("without a board", kernel.lateness_ms(seconds), *changes(client, kernel, 0, 0.0))
            kernel.run("%nbtasks board")
            before, at = client.board().counts.get("COMPLETED", 0), time.monotonic()
            kernel.updates.clear()
            late = kernel.lateness_ms(seconds)
            report("with a board", late, *changes(client, kernel, before, at))
            client.resize(pool.name, 0, 0, client.drain_s)
            until(lambda: not client.status().workers, "the workers left", SHARE_OUT_S)
            compare(client, kernel)
            print(f"target: p99 <= {LATE_P99_MS:g} ms: {'met' if late[1] <= LATE_P99_MS else 'missed'}")
        finally:
            kernel.close()
        assert len(queued) == runs


def changes(client: Any, kernel: Kernel, before: int, at: float) -> tuple[float, float, float]:
    """Changes of runs per second (a start and an end each), updates per second, bytes per update."""
    if not at:
        return 0.0, 0.0, 0.0
    took_s = time.monotonic() - at
    ended = client.board().counts.get("COMPLETED", 0) - before
    sizes = [size for _, size, _ in kernel.updates]
    return 2 * ended / took_s, len(sizes) / took_s, sum(sizes) / max(1, len(sizes))


def report(name: str, late: list[float], events: float, updates: float, size: float) -> None:
    print(
        f"{name:>16}: late by p50 {late[0]:.2f} ms, p99 {late[1]:.2f} ms, at most {late[2]:.2f} ms",
        flush=True,
    )
    if updates:
        print(f"{'':>16}  {events:,.0f} changes/s, {updates:.1f} updates/s of {size:,.0f} bytes", flush=True)


def compare(client: Any, kernel: Kernel) -> None:
    """Whether the page ends up with what the broker counts."""

    def shown() -> dict[str, int]:
        return {part["type"]: part["count"] for part in kernel.updates[-1][2]["parts"]}

    truth = client.board().counts
    try:
        until(lambda: shown() == truth, "the page has the counts", 30)
    except AssertionError:
        print(f"counts: WRONG: {shown()} instead of {truth}")
    else:
        print(f"counts at the end: right, {truth}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--nap-ms", type=float, default=1.0, help="so long a run lasts")
    options = parser.parse_args()
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    measure(options.runs, options.seconds, options.nap_ms / 1000)
