"""A front end that only keeps what it is sent, and a client that tells what a test says."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any

import comm
from comm.base_comm import BaseComm

from nbtasks.core.messages import Board, Moment, RunChanged, RunFilter, RunInfo, Spec
from nbtasks.core.payload import Payload
from nbtasks.errors import BrokerUnavailable

RUN = "01990000-0000-7000-8000-0000000000ab"
OTHER = "01990000-0000-7000-8000-0000000000cd"


class Page:
    """Every message of every comm, in order."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, dict[str, Any]]] = []  # comm, kind, content
        self.buffers: list[bytes] = []
        self.threads: set[str] = set()  # names of those that sent updates

    def take_over(self, patch: Any) -> Page:
        page = self

        class PageComm(BaseComm):
            def publish_msg(
                self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
            ) -> None:
                page.sent.append((self.comm_id, msg_type, data or {}))
                page.buffers += [bytes(buffer) for buffer in buffers or ()]
                if msg_type == "comm_msg":
                    page.threads.add(threading.current_thread().name)

        patch.setattr(comm, "create_comm", PageComm)
        return self

    def updates(self, model_id: str) -> list[dict[str, Any]]:
        """The values that a model was given after it was opened."""
        return [
            data["state"]["value"]
            for comm_id, kind, data in self.sent
            if comm_id == model_id and kind == "comm_msg" and "value" in data.get("state", {})
        ]

    def told(self, model_id: str, trait: str) -> list[Any]:
        """What one trait of a model was given after it was opened."""
        states = [
            data.get("state", {})
            for comm_id, kind, data in self.sent
            if kind == "comm_msg" and comm_id == model_id
        ]
        return [state[trait] for state in states if trait in state]

    def opened(self) -> list[str]:
        return [comm_id for comm_id, kind, _ in self.sent if kind == "comm_open"]

    def closed(self) -> list[str]:
        return [comm_id for comm_id, kind, _ in self.sent if kind == "comm_close"]

    def sizes(self) -> list[int]:
        # as a kernel's session writes it
        return [
            len(json.dumps(data, ensure_ascii=False).encode())
            for _, kind, data in self.sent
            if kind == "comm_msg"
        ]


class Told:
    """An observation that a test speaks through."""

    def __init__(self, name: str, look: Callable[[Any], object]) -> None:
        self.name, self._look, self.is_open = name, look, True

    def close(self) -> None:
        self.is_open = False

    def say(self, seen: RunChanged | Board | None) -> None:
        if self.is_open:
            self._look(seen)


class Teller:
    """As much of `nbtasks.client.Client` as cards use."""

    def __init__(self, state: str = "Pending") -> None:
        self.state = state
        self.told: list[Told] = []
        self.cancelled: list[str] = []
        self.filters: list[RunFilter] = []
        self.rows: list[RunInfo] = []
        self.chunks: list[bytes] = []  # of output
        self.asked: list[int] = []  # behind which chunk
        self.result = pickle.dumps(None)
        self.is_gone = False
        self.may_answer = threading.Event()
        self.may_answer.set()

    def observe_run(self, run: str, look: Callable[[Any], object]) -> Told:
        self.told.append(Told(run, look))
        return self.told[-1]

    def observe_board(self, look: Callable[[Any], object]) -> Told:
        return self.observe_run("", look)

    def info(self, run: str) -> RunInfo:
        return info(run, self.state)

    def infos(self, wanted: RunFilter) -> list[RunInfo]:
        self.filters.append(wanted)
        return self.rows

    def output(self, run: str, after: int = 0) -> list[bytes]:
        if self.is_gone:
            raise BrokerUnavailable("it was stopped")
        self.asked.append(after)
        return self.chunks[after:]

    def value(self, run: str) -> bytes:
        return self.result

    def unpack(self, body: bytes) -> Payload:
        return Payload([body])

    def cancel(self, runs: Sequence[str]) -> None:
        self.may_answer.wait(30)
        if self.is_gone:
            raise BrokerUnavailable("it was stopped")
        self.cancelled += runs


def info(run: str = RUN, state: str = "Pending", name: str = "train") -> RunInfo:
    spec = Spec("m:train", name, "3.11", "")
    return RunInfo(run, spec, 1.0, '{"x": "1"}', "", state, "", 1.0, (Moment(state, 1.0),), ())


def changed(state: str, steps: int, message: str = "", run: str = RUN, chunks: int = 0) -> RunChanged:
    return RunChanged(run, steps, state, message, 1.0, 2.0, 2.0, 3.0, "w-1", 7, 1, chunks=chunks)


def printed(*texts: str) -> bytes:
    """One chunk of output."""
    return json.dumps([{"output_type": "stream", "name": "stdout", "text": text} for text in texts]).encode()
