"""Python-level output of a kernel, led to the collector while a run holds the main thread.

Between runs, and for cells of an attached client that execute in a subshell meanwhile, everything is as in
any kernel. ipykernel makes these objects itself from the classes named here, so that threads of a run are
caught too, which its hooks would miss.
"""

from __future__ import annotations

import builtins
import io
import os
import threading
from typing import Any

import comm
from ipykernel.comm.comm import BaseComm
from ipykernel.displayhook import ZMQDisplayHook, ZMQShellDisplayHook
from ipykernel.iostream import OutStream
from ipykernel.jsonutil import encode_images, json_clean
from ipykernel.thread import BaseThread
from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQInteractiveShell
from IPython.core import page
from IPython.core.error import TryNext
from traitlets import Type

from nbtasks.worker.collector import Collector

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_NO_WIDGETS = "nbtasks: live widgets are not supported in tasks; their text is shown instead\n"

HELD_CHARACTERS_MAX = 8192  # of a line that a forked child has not ended

_collector: Collector | None = None
_main = threading.main_thread().ident


def install(collector: Collector) -> None:
    """Lead the output of runs to this collector."""
    global _collector
    _collector = collector
    comm.create_comm = RunComm


def _taker() -> Collector | None:
    """Who takes what the calling thread puts out; None: ipykernel."""
    if _collector is None or not _collector.is_open:
        return None
    if threading.get_ident() != _main and isinstance(threading.current_thread(), BaseThread):
        return None  # a channel or subshell of an attached client
    return _collector


def is_of_run() -> bool:
    """Whether the calling thread executes code of a run, and not that of an attached client."""
    return _taker() is not None


class RunStream(OutStream):  # type: ignore[misc]
    """sys.stdout and sys.stderr of a worker."""

    def __init__(self, session: Any, pub_thread: Any, name: str, **options: Any) -> None:
        options["watchfd"] = False  # the descriptors end in the spool
        self._held = (0, "")  # a forked child's pid, and what it has written of a line
        self.buffer = RunBytes(self)
        super().__init__(session, pub_thread, name, **options)

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        if os.getpid() != self._master_pid:
            self._write_in_child(string)
            return len(string)
        if taker := _taker():
            taker.text(self.name, string)
            return len(string)
        super().write(string)
        return len(string)

    def flush(self) -> None:
        if os.getpid() != self._master_pid:
            self._write_in_child("", is_flushed=True)
        elif _taker() is None:
            super().flush()

    def _write_in_child(self, string: str, is_flushed: bool = False) -> None:
        """A forked child has none of our threads, but it has our descriptors.

        Lines are written whole, as Python does to a terminal: print writes a line in pieces, and those of
        several children would mix.
        """
        pid = os.getpid()
        text = (self._held[1] if self._held[0] == pid else "") + string
        if not (is_flushed or "\n" in string or "\r" in string or len(text) >= HELD_CHARACTERS_MAX):
            self._held = (pid, text)
            return
        self._held = (pid, "")
        self._write_descriptor(text.encode("utf-8", "backslashreplace"))

    def write_bytes(self, body: bytes) -> None:
        """What is written to `buffer`."""
        if os.getpid() != self._master_pid:
            self._write_in_child("", is_flushed=True)
            self._write_descriptor(body)
        elif taker := _taker():
            taker.raw(self.name, body)
        else:
            super().write(body.decode("utf-8", "replace"))

    def _write_descriptor(self, body: bytes) -> None:
        while body:
            body = body[os.write(self.fileno(), body) :]

    def fileno(self) -> int:
        return 1 if self.name == "stdout" else 2

    def close(self) -> None:
        """Do nothing: a run that closes its stdout must not close that of the next one."""


class RunBytes(io.BufferedIOBase):
    """The binary layer of such a stream: bytes come out as its text, in order with what is printed."""

    def __init__(self, stream: RunStream) -> None:
        self._stream = stream

    @property
    def name(self) -> str:
        return f"<{self._stream.name}>"

    def write(self, data: Any) -> int:
        body = memoryview(data).tobytes()
        self._stream.write_bytes(body)
        return len(body)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        """Do nothing: a text layer that a run puts on this closes it when it goes."""


class RunDisplayPublisher(ZMQDisplayPublisher):  # type: ignore[misc]
    """What `display(...)` and `clear_output()` reach."""

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **options: Any,
    ) -> None:
        taker = _taker()
        if taker is None:
            super().publish(data, metadata, transient=transient, update=update, **options)
            return
        shown = {kind: body for kind, body in data.items() if kind != WIDGET_VIEW}
        output = {
            "output_type": "update_display_data" if update else "display_data",
            "data": json_clean(encode_images(shown)),
            "metadata": json_clean(metadata or {}),
        }
        if transient:
            output["transient"] = json_clean(transient)
        taker.output(output)

    def clear_output(self, wait: bool = False) -> None:
        if taker := _taker():
            taker.output({"output_type": "clear_output", "wait": bool(wait)})
        else:
            super().clear_output(wait)


class RunShellDisplayHook(ZMQShellDisplayHook):  # type: ignore[misc]
    """The value of the last expression, where a run executes cells."""

    msg: dict[str, Any] | None

    def finish_displayhook(self) -> None:
        taker = _taker()
        if taker is None or not self.msg:
            super().finish_displayhook()
            return
        content, self.msg = self.msg["content"], None
        content["data"].pop(WIDGET_VIEW, None)
        if content["data"]:
            taker.output({"output_type": "execute_result", **json_clean(content)})


class RunDisplayHook(ZMQDisplayHook):  # type: ignore[misc]
    """sys.displayhook outside the shell."""

    def __call__(self, obj: Any) -> None:
        taker = _taker()
        if taker is None:
            super().__call__(obj)
        elif obj is not None:
            data = {"text/plain": repr(obj)}
            taker.output({"output_type": "display_data", "data": data, "metadata": {}})


class ZMQWorkerShell(ZMQInteractiveShell):  # type: ignore[misc]
    """The shell of a worker; runs use its displays and its tracebacks, clients all of it.

    Libraries ask for ZMQ in its name whether they are in a notebook: pandas prints a wide frame so.
    """

    display_pub_class = Type(RunDisplayPublisher)
    displayhook_class = Type(RunShellDisplayHook)

    def init_builtins(self) -> None:
        super().init_builtins()
        # a kernel has it while it executes a cell, and modules look for it that never import it
        builtins.get_ipython = self.get_ipython  # type: ignore[attr-defined]

    def init_hooks(self) -> None:
        super().init_hooks()
        self.set_hook("show_in_pager", _show_in_pager, 0)

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        if taker := _taker():
            taker.output(
                {
                    "output_type": "error",
                    "ename": etype.__name__,
                    "evalue": str(evalue),
                    "traceback": list(stb),
                }
            )
        else:
            super()._showtraceback(etype, evalue, stb)


def _show_in_pager(shell: ZMQWorkerShell, *arguments: Any, **options: Any) -> None:
    """Display what `x?` or `%prun` shows: a run has no frontend that would open a pager."""
    if _taker() is None:
        raise TryNext
    page.display_page(*arguments, **options)  # type: ignore[no-untyped-call]


class RunComm(BaseComm):  # type: ignore[misc]
    """The channel of a widget to its frontend, of which a run has none."""

    def publish_msg(self, msg_type: str, *arguments: Any, **options: Any) -> None:
        taker = _taker()
        if taker is None:
            super().publish_msg(msg_type, *arguments, **options)
        elif not taker.told_of_widgets:
            taker.told_of_widgets = True
            taker.text("stderr", _NO_WIDGETS)
