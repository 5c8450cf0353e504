"""A prompt in a worker: its kernel executes what is typed, also while it executes a run.

During a run the main thread is taken, so code goes to a subshell: a thread of the same process, with the
same names. `frames()` gives the frames of the run, so that its variables can be looked at.
"""

from __future__ import annotations

import codeop
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from nbtasks.errors import NbtasksError

ANSWER_S = 10.0  # for the kernel to make a subshell
TURN_S = 0.5  # between two looks whether the worker still lives
BANNER = (
    "worker pid {pid}; frames() gives the frames of its run, frames()[-1].f_locals its names; Ctrl-D ends"
)


class Console:
    """A subshell of one worker.

    Parameters
    ----------
    connection_file
        That of the worker's kernel.
    is_alive
        Whether its process lives.

    Raises
    ------
    NbtasksError
        The worker's kernel is not there, or gives no subshell.
    """

    def __init__(self, connection_file: Path, is_alive: Callable[[], bool]) -> None:
        self._is_alive = is_alive
        self._client = BlockingKernelClient(connection_file=str(connection_file))
        try:
            self._client.load_connection_file()
        except OSError:
            raise NbtasksError(f"there is no kernel at {connection_file}: the worker has ended") from None
        self._client.start_channels(hb=False, stdin=False)
        self._subshell = self._made_subshell()

    def _made_subshell(self) -> str:
        client = self._client
        message = client.session.msg("create_subshell_request")
        client.control_channel.send(message)
        ends_at = time.monotonic() + ANSWER_S
        while time.monotonic() < ends_at and self._is_alive():
            try:
                reply = client.get_control_msg(timeout=TURN_S)
            except Empty:
                continue
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return str(reply["content"]["subshell_id"])
        self._client.stop_channels()
        raise NbtasksError(f"the worker's kernel has not answered within {ANSWER_S:g} s")

    def execute(self, code: str) -> Iterator[tuple[str, str]]:
        """Execute code in the worker; gives (stream or "error", text) as they come."""
        client = self._client
        content = {
            "code": code, "silent": False, "store_history": False, "user_expressions": {},
            "allow_stdin": False, "stop_on_error": False,
        }  # fmt: skip
        message = client.session.msg("execute_request", content)
        message["header"]["subshell_id"] = self._subshell
        client.shell_channel.send(message)
        while True:
            try:
                heard = client.get_iopub_msg(timeout=TURN_S)
            except Empty:
                if not self._is_alive():
                    raise NbtasksError("the worker has ended") from None
                continue
            if heard["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                continue
            if heard["msg_type"] == "status" and heard["content"]["execution_state"] == "idle":
                return
            if said := _text_of(heard["msg_type"], heard["content"]):
                yield said

    def close(self) -> None:
        message = self._client.session.msg("delete_subshell_request", {"subshell_id": self._subshell})
        self._client.control_channel.send(message)
        self._client.stop_channels()


def say(console: Console, code: str) -> bool:
    """Execute code, and write what it gives; False if it raised."""
    is_good = True
    for name, text in console.execute(code):
        stream = sys.stdout if name == "stdout" else sys.stderr
        stream.write(text)
        stream.flush()
        is_good = is_good and name != "error"
    return is_good


def talk(console: Console, pid: int) -> None:
    """Read code from the terminal until its end."""
    print(BANNER.format(pid=pid))
    lines: list[str] = []
    while True:
        try:
            lines.append(input("... " if lines else ">>> "))
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\nKeyboardInterrupt")
            lines.clear()
            continue
        code = "\n".join(lines)
        if _is_complete(code):
            lines.clear()
            try:
                say(console, code)
            except KeyboardInterrupt:
                print("\nit goes on in the worker: a subshell cannot be interrupted")


def _is_complete(code: str) -> bool:
    try:
        return codeop.compile_command(code, symbol="single") is not None
    except (SyntaxError, ValueError, OverflowError):
        return True  # a magic, or an error that the worker shows


def _text_of(kind: str, content: dict[str, Any]) -> tuple[str, str] | None:
    if kind == "stream":
        return content["name"], content["text"]
    if kind == "error":
        return "error", "\n".join(content["traceback"]) + "\n"
    if kind in ("execute_result", "display_data"):
        text = content["data"].get("text/plain", "")
        return ("stdout", f"{text}\n") if text else None
    return None
