"""What a run put out: outputs of a notebook, joined, shown again, and shown as they come."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbtasks.context import Submitter
from nbtasks.core.messages import RunId
from nbtasks.run.replay import replayed, text_of

# A server of notebooks drops what one cell prints faster than 3 MB in 3 s.
SHOWN_BYTES_MAX = 2_000_000
FOLLOW_S = 0.25  # between two looks at what a running run put out


class Feed:
    """The outputs of a run as they come."""

    def __init__(self, client: Submitter, run: RunId) -> None:
        self._client = client
        self._run = run
        self._chunks = 0

    def more(self) -> list[dict[str, Any]]:
        """Those recorded since this was asked last."""
        chunks = self._client.output(self._run, self._chunks)
        self._chunks += len(chunks)
        return [output for chunk in chunks for output in json.loads(chunk)]


def joined(chunks: Iterable[bytes]) -> list[dict[str, Any]]:
    """All outputs in order, as they were recorded; what one stream wrote in pieces is one output."""
    outputs: list[dict[str, Any]] = []
    parts: list[str] = []  # of the text of the last one

    def close() -> None:
        if parts:
            outputs[-1]["text"] = "".join(parts)
            parts.clear()

    for chunk in chunks:
        for output in json.loads(chunk):
            last = outputs[-1] if parts else {}
            if output.get("output_type") != "stream":
                close()
                outputs.append(output)
                continue
            if output.get("name") != last.get("name"):
                close()
                outputs.append(output)
            parts.append(text_of(output))
    close()
    return outputs


def show(outputs: Iterable[Mapping[str, Any]]) -> None:
    """Show what a notebook shows at their end: in a notebook as it was, elsewhere as text."""
    shown = replayed(outputs).outputs
    if _display_publisher() is not None:
        shown = _within(shown, SHOWN_BYTES_MAX)
    for output in shown:
        put(output)


def follow(client: Submitter, run: RunId, is_over: Callable[[float], bool]) -> None:
    """Show outputs as they come.

    Parameters
    ----------
    is_over
        Waits at most so many seconds for the end of the run; whether it has ended.
    """
    feed, ends = Feed(client, run), is_over(0.0)
    while True:
        # all output is recorded before the end is
        for output in feed.more():
            put(output)
        if ends:
            return
        ends = is_over(FOLLOW_S)


def put(output: Mapping[str, Any]) -> None:
    """Put out one output, as code of the cell that is executed would.

    A traceback is text here: an output of the kind `error` is a failure of the notebook to tools that
    execute notebooks, and who looks at a failed run has not failed.
    """
    publisher = _display_publisher()
    kind = output.get("output_type")
    if kind == "clear_output":
        if publisher is not None:
            publisher.clear_output(wait=bool(output.get("wait")))
    elif publisher is not None and "data" in output:
        publisher.publish(
            data=output["data"],
            metadata=output.get("metadata") or {},
            transient=output.get("transient"),
            update=kind == "update_display_data",
        )
    else:
        is_error = kind == "error" or output.get("name") == "stderr"
        stream = sys.stderr if is_error else sys.stdout
        stream.write(text_of(output))
        stream.flush()


def _within(outputs: list[dict[str, Any]], bytes_max: int) -> list[dict[str, Any]]:
    """With only the last bytes of all text, and a note where text is missing."""
    left = bytes_max
    kept: list[dict[str, Any]] = []
    missing = 0
    for output in reversed(outputs):
        if output["output_type"] == "stream":
            body = text_of(output).encode("utf-8", "replace")
            cut = max(0, len(body) - left)
            left -= len(body) - cut
            missing += cut
            output = {**output, "text": body[cut:].decode("utf-8", "ignore")}
        kept.append(output)
    if missing:
        note = f"… {missing:,} bytes of text before this are not shown; `logs` of the run has them …\n"
        kept.append({"output_type": "stream", "name": "stderr", "text": note})
    return kept[::-1]


def _display_publisher() -> Any:
    """That of the IPython shell we are in; None elsewhere. Only a face may import IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "display_pub", None) if hasattr(shell, "kernel") else None
