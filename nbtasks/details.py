"""All that is known of one run or one broker, for scripts (JSON) and for people (text).

The names of the fields are part of what scripts rely on: new ones may come, none changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from nbtasks import views

OUTPUT_LINES = 20  # of the output's end that are shown


def run_record(run: Any) -> dict[str, Any]:
    """A run as `show -o json` gives it: what a list shows, and everything else."""
    outputs = run.output
    return {
        **views.record(views.row(run)),
        "task": run.task_key,
        "parent": str(run.parent) if run.parent else None,
        "history": [
            {
                "type": str(state.type),
                "state": state.name,
                "message": state.message,
                "at": _unix_s(state.timestamp),
            }
            for state in run.history
        ],
        "attempt_records": [
            {
                "number": attempt.number,
                "worker": attempt.worker,
                "pid": attempt.pid,
                "start": _unix_s(attempt.start),
                "end": _unix_s(attempt.end),
                "outcome": attempt.outcome or None,
            }
            for attempt in run.attempts
        ],
        "error": _error(outputs),
        "output_tail": run.logs.splitlines()[-OUTPUT_LINES:],
    }


def run_lines(record: Mapping[str, Any], now_s: float) -> list[str]:
    """A run as `show` prints it."""
    shape = views.shape(record["type"])
    message = f": {views.first_line(record['message'])}" if record["message"] else ""
    lines = [f"run      {record['id']}", f"task     {record['name']} ({record['task']})"]
    lines.append(f"state    {shape} {record['state']}{message}")
    if told := record["progress"]:
        lines.append(f"progress {views.progress_text(_Progress(**told))}")
    lines += [f"tags     {', '.join(record['tags'])}"] if record["tags"] else []
    lines += [f"parent   {record['parent']}"] if record["parent"] else []
    lines += [f"given    {name} = {text}" for name, text in record["parameters"].items()]
    lines += [f"was      {_time(moment['at'])} {moment['state']}" for moment in record["history"]]
    lines += [f"attempt  {_attempt(attempt, now_s)}" for attempt in record["attempt_records"]]
    if record["error"]:
        lines += ["", *"\n".join(record["error"]["traceback"]).splitlines()]
    if record["output_tail"] and not record["error"]:
        lines += ["", *record["output_tail"]]
    return lines


class _Progress(NamedTuple):
    done: float
    total: float | None
    text: str


def status_record(status: Any) -> dict[str, Any]:
    """A broker as `broker status -o json` gives it."""
    return {
        "broker_pid": status.broker_pid,
        "home": status.home,
        "started": _unix_s(status.started),
        "clients": status.clients,
        "counts": dict(status.counts),
        "pools": [
            {
                "name": pool.name,
                "pid": pool.pid,
                "generic": pool.generic,
                "serves": _keys(pool.serves),
                "least": pool.least,
                "most": pool.most,
                "workers": pool.workers,
            }
            for pool in status.pools
        ],
        "workers": [
            {
                "name": worker.name,
                "pool": worker.pool,
                "pid": worker.pid,
                "state": worker.state,
                "current_run": str(worker.current_run) if worker.current_run else None,
                "busy_since": _unix_s(worker.busy_since),
                "memory_bytes": worker.memory_bytes,
                "serves": _keys(worker.serves),
            }
            for worker in status.workers
        ],
        "queues": [
            {"task": key, "depth": depth, "age_s": age_s} for key, (depth, age_s) in status.queues.items()
        ],
    }


def _error(outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The last exception that was shown."""
    for output in reversed(outputs):
        if output.get("output_type") == "error":
            lines = [_plain(line) for line in output.get("traceback", ())]
            return {"name": output.get("ename", ""), "value": output.get("evalue", ""), "traceback": lines}
    return None


def _plain(text: str) -> str:
    """Without the colours that a terminal would show."""
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _attempt(attempt: Mapping[str, Any], now_s: float) -> str:
    took = views.duration(max(0.0, (attempt["end"] or now_s) - attempt["start"]))
    where = f"worker pid {attempt['pid']}"
    return (
        f"{attempt['number']}: {_time(attempt['start'])}, {took}, {where}, {attempt['outcome'] or 'running'}"
    )


def _keys(serves: Sequence[str] | None) -> list[str] | None:
    return None if serves is None else list(serves)


def _unix_s(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment is not None else None


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s).astimezone().isoformat(sep=" ", timespec="milliseconds")
