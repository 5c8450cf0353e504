"""Messages as short words, for the trace of a day."""

from __future__ import annotations

from nbtasks.core.messages import HelloClient, HelloPool, HelloWorker, Message, Push, Submit
from nbtasks.core.records import RunRecord


def brief(message: Message) -> str:
    """Name and what matters of a message."""
    name = type(message).__name__
    if isinstance(message, Submit):
        return f"Submit({message.batch}: {' '.join(run.run for run in message.runs)})"
    if isinstance(message, Push):
        return f"Push({message.run}, {message.attempt})"
    if isinstance(message, HelloWorker):
        return f"HelloWorker({' '.join(f'{h.run}/{h.attempt}' for h in message.held)})"
    if isinstance(message, HelloClient):
        return f"HelloClient({message.session})"
    if isinstance(message, HelloPool):
        return f"HelloPool({' '.join(message.workers)})"
    values = [getattr(message, field) for field in message.__struct_fields__]
    return f"{name}({', '.join(str(v) for v in values if v not in ('', b''))})"


def short(row: RunRecord | None) -> str:
    """What matters of a row."""
    if row is None:
        return "no row"
    options = {
        f: getattr(row.spec, f) for f in ("retries", "retry_delay_s", "crash_retries", "timeout_s", "grace_s")
    }
    spec = " ".join(f"{name}={value:g}" for name, value in options.items() if value)
    held = " ".join(filter(None, (row.worker or "nobody", row.started and "started", row.stop)))
    charged = " ".join(f"{a.worker}:{a.outcome or '...'}" for a in row.attempts)
    return (
        f"<{row.run} {row.state} attempt={row.attempt} by {held} charged=[{charged}] failures={row.failures} "
        f"crashes={row.crashes} chunks={row.chunks} due={row.due:g} {spec}>"
    )
