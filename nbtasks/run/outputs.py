"""What a run put out: outputs of a notebook, joined, as text, and shown again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbtasks.run.replay import text_of


def joined(chunks: Iterable[bytes]) -> list[dict[str, Any]]:
    """All outputs in order; what one stream wrote in pieces is one output."""
    outputs: list[dict[str, Any]] = []
    for chunk in chunks:
        for output in json.loads(chunk):
            last = outputs[-1] if outputs else {}
            is_stream = output.get("output_type") == "stream" == last.get("output_type")
            if is_stream and output.get("name") == last.get("name"):
                last["text"] += output["text"]
            else:
                outputs.append(output)
    return outputs


def show(outputs: Sequence[Mapping[str, Any]]) -> None:
    """Show them again: in a notebook as they were, elsewhere as text."""
    publisher = _display_publisher()
    for output in outputs:
        kind = output.get("output_type")
        if publisher is None or kind in ("stream", "error"):
            stream = sys.stderr if output.get("name") == "stderr" else sys.stdout
            stream.write(text_of(output))
            stream.flush()
        elif kind == "clear_output":
            publisher.clear_output(wait=bool(output.get("wait")))
        elif "data" in output:
            publisher.publish(data=output["data"], metadata=output.get("metadata") or {})


def _display_publisher() -> Any:
    """That of the IPython shell we are in; None elsewhere. Only a face may import IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "display_pub", None) if hasattr(shell, "kernel") else None
