"""The command line: the broker, workers and runs of one home.

Exit codes are for scripts: 0 done (also when there was nothing to do), 1 what was named does not
exist or could not be done, 2 wrong usage, 3 no broker to talk to.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from nbtasks import views
from nbtasks.client import Client, connect
from nbtasks.errors import BrokerUnavailable, NbtasksError
from nbtasks.run import Run
from nbtasks.settings import home_path
from nbtasks.wire import connection
from nbtasks.wire.ids import peer_id
from nbtasks.wire.process import child_environment, owner_pid, python_command

NO_BROKER = 3
WIDE = 240  # columns of a table that goes into a pipe: nothing is wrapped there


class Faults(click.Group):
    """Turns errors that are no bugs into one line on stderr and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except NbtasksError as error:
            click.echo(f"nbtasks: {error}", err=True)
            context.exit(NO_BROKER if isinstance(error, BrokerUnavailable) else 1)


@click.group(cls=Faults, context_settings={"help_option_names": ["-h", "--help"]}, epilog=__doc__)
@click.option("--home", help="Directory of the broker; else NBTASKS_HOME, else the user's data directory.")
@click.version_option(package_name="nbtasks")
@click.pass_context
def main(context: click.Context, home: str | None) -> None:
    """Background tasks for notebooks."""
    context.obj = str(home_path(home))


@main.group()
def broker() -> None:
    """Start, look at or stop the broker."""


@broker.command("start")
@click.pass_obj
def start_broker(home: str) -> None:
    """Start the broker; if it runs already, say so."""
    found = connection.read(home)
    with connect(home) as client:
        word = "already running" if found else "started"
        click.echo(f"broker {word}: pid {client.status().broker_pid}, home {home}")


@broker.command("status")
@click.pass_obj
def show_status(home: str) -> None:
    """Say who the broker is, which workers it has and what waits; exit 3 if there is none."""
    with connect(home, start=False) as client:
        click.echo(views.status_text(client.status(), home, time.time()))


@broker.command("stop")
@click.pass_obj
def stop_broker(home: str) -> None:
    """Stop the broker and its pools after their workers have finished; nothing queued is lost."""
    found = connection.read(home)
    if found is None:
        click.echo(f"no broker runs for home {home}")
        return
    with connect(home, start=False) as client:
        client.stop_broker()
    click.echo(f"broker stopped: pid {found.pid}, home {home}")


@main.command()
@click.option("-n", "--workers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--drain-timeout", type=click.FloatRange(min=0), default=30.0, show_default=True, metavar="S")
@click.pass_obj
def worker(home: str, workers: int, drain_timeout: float) -> None:
    """Execute runs of any task until SIGINT or SIGTERM.

    The first signal takes nothing new and lets what runs end within S seconds, the second
    interrupts it, the third kills.
    """
    with connect(home):
        pass  # so that there is a broker to subscribe to
    options = {
        "--home": home,
        "--name": peer_id("p"),
        "--least": workers,
        "--most": workers,
        "--drain-timeout": drain_timeout,
    }
    words = [str(word) for option in options.items() for word in option]
    owner = owner_pid()
    words += ["--owner", str(owner)] if owner is not None else []
    click.echo(f"nbtasks: {views.many(workers, 'worker')} for home {home}; Ctrl-C ends", err=True)
    sys.stderr.flush()
    # the pool takes the place of this process, so signals and the exit code are its own
    command = python_command("nbtasks.pool", *words, "--stays")
    os.execve(command[0], command, child_environment(home))


@main.command()
@click.option("--state", help="Only runs in this state type or name, such as FAILED or TimedOut.")
@click.option("--task", help="Only runs of this task: its name or its key.")
@click.option("--tag", help="Only runs with this tag.")
@click.option("-l", "--limit", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json", "ids"]), default="table")
@click.pass_obj
def runs(home: str, state: str | None, task: str | None, tag: str | None, limit: int, output: str) -> None:
    """List runs, newest first."""
    with connect(home, start=False) as client:
        rows = [views.row(run) for run in client.runs(state=state, task=task, tag=tag, limit=limit)]
    if output == "json":
        click.echo(json.dumps([views.record(row) for row in rows], indent=2))
    elif output == "ids":
        click.echo("".join(f"{row.id}\n" for row in rows), nl=False)
    else:
        print_table(rows)


@main.command()
@click.argument("run")
@click.pass_obj
def logs(home: str, run: str) -> None:
    """Print what a run printed. RUN is its id, or as much of its end as makes it unique."""
    with connect(home, start=False) as client:
        click.echo(find(client, run).logs, nl=False)


@main.command()
@click.argument("run", nargs=-1, required=True, metavar="RUN...")
@click.pass_obj
def cancel(home: str, run: Sequence[str]) -> None:
    """Cancel runs: what waits at once, what runs by an interrupt, then by a kill."""
    with connect(home, start=False) as client:
        found = [find(client, text) for text in run]  # all of them, before any is cancelled
        client.cancel([one.id for one in found])
    click.echo(f"asked to cancel {views.many(len(found), 'run')}")


@main.command()
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Those that ended before.")
@click.option("--larger-than", type=click.IntRange(min=0), metavar="BYTES", help="The oldest, down to that.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_obj
def prune(home: str, older_than: float | None, larger_than: int | None, dry_run: bool) -> None:
    """Remove finished runs with all that is kept of them; without options, as the home's settings say."""
    older_s = None if older_than is None else older_than * views.DAY_S
    with connect(home, start=False) as client:
        click.echo(views.pruned_text(*client.prune(older_s, larger_than, dry_run), dry_run))


def find(client: Client, text: str) -> Run:
    """The one run that `text` names."""
    if len(text) < views.ID_CHARACTERS:
        text = views.match_id(text, (str(run.id) for run in client.runs(limit=views.SEARCH_MAX)))
    return client.get_run(text)


def print_table(rows: Sequence[views.Row]) -> None:
    # rich costs 100 ms to import, and only a table needs it
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*views.COLUMNS, box=None, pad_edge=False)
    now_s = time.time()
    for row in rows:
        table.add_row(*(Text(cell) for cell in views.cells(row, now_s)))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


if __name__ == "__main__":
    main()
