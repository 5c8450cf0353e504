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
from pathlib import Path
from typing import Any

import click

from nbtasks import details, housekeeping, views
from nbtasks.client import Client, connect, pools
from nbtasks.client.pools import serve_limit
from nbtasks.context import Served
from nbtasks.errors import BrokerUnavailable, NbtasksError
from nbtasks.run import Run
from nbtasks.settings import home_path
from nbtasks.tasks import limiting
from nbtasks.tasks.options import local_paths
from nbtasks.wire import connection
from nbtasks.wire.private import private_dir
from nbtasks.wire.process import owner_pid

AT_LEAST_0, AT_LEAST_1 = (click.IntRange(least, 2**63 - 1) for least in (0, 1))  # what the journal can hold
NO_BROKER = 3
WIDE = 1_000_000  # columns of a table that goes into a pipe: a run is one line there


class WorkerRange(click.ParamType):  # type: ignore[type-arg]  # generic in some versions only
    """N, or A..B: the least and the most workers."""

    name = "workers"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[int, int]:
        low, dots, high = str(value).partition("..")
        try:
            least, most = int(low), int(high if dots else low)
        except ValueError:
            self.fail(f"a number of workers is N or A..B, not {value!r}", param, context)
        if not 0 <= least <= most or not most:
            self.fail(f"at least one worker, the smaller number first; got {value!r}", param, context)
        return least, most


class Variable(click.ParamType):  # type: ignore[type-arg]
    """NAME=VALUE."""

    name = "variable"

    def convert(self, value: Any, param: Any, context: Any) -> tuple[str, str]:
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"a variable is NAME=VALUE, not {value!r}", param, context)
        return name, text


class Faults(click.Group):
    """Turns errors that are no bugs into one line on stderr and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (NbtasksError, ValueError, OverflowError, TimeoutError) as error:
            click.echo(f"nbtasks: {error}", err=True)
            context.exit(NO_BROKER if isinstance(error, BrokerUnavailable) else 1)


@click.group(cls=Faults, context_settings={"help_option_names": ["-h", "--help"]}, epilog=__doc__)
@click.option("--home", help="Directory of the broker; else NBTASKS_HOME, else the user's data directory.")
@click.version_option(package_name="nbtasks")
@click.pass_context
def main(context: click.Context, home: str | None) -> None:
    """Background tasks for notebooks."""
    context.obj = str(home_path(home))


output_option = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")


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
@output_option
@click.pass_obj
def show_status(home: str, output: str) -> None:
    """Say who the broker is, which workers it has and what waits; exit 3 if there is none.

    With -o json one object: broker_pid, home, started, clients, counts (state type: number), pools (name,
    pid, generic, serves, least, most, workers), workers (name, pool, pid, state, current_run, busy_since,
    memory_bytes, serves), queues (task, depth, age_s). Times are UNIX seconds; null: does not apply.
    """
    with connect(home, start=False) as client:
        status = client.status()
    if output == "json":
        click.echo(json.dumps(details.status_record(status), indent=2))
    else:
        click.echo(views.status_text(status, home, time.time()))


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


@main.command(
    epilog="Exit codes: 0 ended after a signal, 1 an entrypoint is bad or the third signal killed, "
    "2 wrong usage, 3 no broker can be started, 69 it went away before the workers started."
)
@click.argument("entrypoints", nargs=-1, metavar="[ENTRYPOINT]...")
@click.option("-n", "--workers", type=WorkerRange(), metavar="N|A..B", help="How many workers; see above.")
@click.option(
    "--drain-timeout", type=click.FloatRange(min=0), metavar="S", help="Else the setting drain_s, 30 seconds."
)
@click.option("--env", type=Variable(), multiple=True, metavar="NAME=VALUE", help="A variable of theirs.")
@click.option("--kernel", metavar="NAME", help="The kernelspec whose interpreter they are.")
@click.option("--gpu", is_flag=True, help="Each sees one GPU and offers the tag gpu.")
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="What they offer to tasks with worker_tags."
)
@click.option("--max-runs", type=AT_LEAST_1, metavar="N", help="Replace a worker after N runs.")
@click.option("--home", "own_home", help="As `nbtasks --home`.")
@click.pass_obj
def worker(
    home: str,
    entrypoints: Sequence[str],
    workers: tuple[int, int] | None,
    drain_timeout: float | None,
    env: Sequence[tuple[str, str]],
    kernel: str | None,
    gpu: bool,
    tags: Sequence[str],
    max_runs: int | None,
    own_home: str | None,
) -> None:
    """Execute runs until SIGINT, SIGTERM or SIGHUP: of the tasks that are named, else of any task.

    An ENTRYPOINT is module:task or path.py:task. Workers: N of them, or between A and B as runs wait; without
    the option one for any task, and for named ones up to the number of CPUs, at most 10.

    The first signal takes nothing new, hands back what has not started and lets what runs end within S
    seconds; a run that takes longer is killed, which makes it Crashed, or run again elsewhere if its
    crash_retries allow it. The second signal ends what runs at once by SIGTERM and, a second later, SIGKILL;
    the third kills without waiting.
    """
    home = home if own_home is None else str(home_path(own_home))
    served = _served(entrypoints) if entrypoints else None
    least, most = workers or (1, 1 if served is None else serve_limit())
    options = ["--stays"]
    if drain_timeout is not None:
        options += ["--drain-timeout", str(drain_timeout)]
    kind = pools.kind_of(dict(env), kernel, gpu, tags, max_runs)
    owner = owner_pid()
    options += ["--owner", str(owner)] if owner is not None else []
    with connect(home) as client:  # so that there is a broker to subscribe to
        paths = local_paths()
        command, environment = pools.foreground(client.home, least, most, served, paths, options, kind)
    if served is None:
        number = str(most) if least == most else f"{least}..{most}"
        click.echo(
            f"nbtasks: {number} worker{'' if most == 1 else 's'} for home {home}; Ctrl-C ends", err=True
        )
    sys.stdout.flush()
    sys.stderr.flush()
    # the pool takes the place of this process, so signals and the exit code are its own
    os.execve(command[0], command, environment)


def _served(entrypoints: Sequence[str]) -> list[Served]:
    """The tasks that are named, or the end of this process."""
    from nbtasks.tasks.entrypoints import BadEntrypoint, load_task

    try:
        found = {task.key: task for task in map(load_task, entrypoints)}
    except BadEntrypoint as error:
        click.echo(f"nbtasks: {error}", err=True)
        sys.exit(1)
    return [Served(key, task.name, task.dumped()[0]) for key, task in found.items()]


@main.command()
@click.option("--state", help="Only runs in this state type or name, such as FAILED or TimedOut.")
@click.option("--task", help="Only runs of this task: its name or its key.")
@click.option("--tag", help="Only runs with this tag.")
@click.option("-l", "--limit", type=AT_LEAST_1, default=100, show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json", "ids"]), default="table")
@click.pass_obj
def runs(home: str, state: str | None, task: str | None, tag: str | None, limit: int, output: str) -> None:
    """List runs, newest first; exit 0 also if there are none.

    With -o json a list of objects: id, name, type, state, message, at, tags, parameters (name: text),
    attempts (how many), start, end, worker, pid. Times are UNIX seconds; null: it did not come to that.
    """
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
@output_option
@click.pass_obj
def show(home: str, run: str, output: str) -> None:
    """Tell all about a run: state, parameters, attempts, times, error, end of its output.

    RUN is its id, or as much of its end as makes it unique; exit 1 if there is none. With -o json one
    object: the fields of `nbtasks runs` and task, parent, history (type, state, message, at), attempt_records
    (number, worker, pid, start, end, outcome), error (name, value, traceback: lines; or null), output_tail
    (lines).
    """
    with connect(home, start=False) as client:
        record = details.run_record(find(client, run))
    text = (
        json.dumps(record, indent=2)
        if output == "json"
        else "\n".join(details.run_lines(record, time.time()))
    )
    click.echo(text)


@main.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Also what comes, as it comes, until the run has ended.")
@click.pass_obj
def logs(home: str, run: str, follow: bool) -> None:
    """Print what a run printed. RUN is its id, or as much of its end as makes it unique."""
    with connect(home, start=False) as client:
        if follow:
            find(client, run).show(follow=True)
        else:
            click.echo(find(client, run).logs, nl=False)


@main.command()
@click.argument("name", metavar="WORKER")
@click.option("-c", "code", help="Execute this, print what it gives, and end: 1 if it raises.")
@click.pass_obj
def console(home: str, name: str, code: str | None) -> None:
    """Execute code in a worker, also while it executes a run: frames() gives the frames of that.

    WORKER is a process number or a name, as `nbtasks broker status` tells them. Other Jupyter clients may
    attach as well: `jupyter console --existing HOME/workers/NAME.json`.
    """
    from nbtasks import console as consoles
    from nbtasks.wire.alive import born, is_alive

    with connect(home, start=False) as client:
        workers = {worker.name: worker.pid for worker in client.status().workers}
    found = [one for one, pid in workers.items() if name in (one, str(pid))]
    if not found:
        raise NbtasksError(
            f"there is no worker {name}; there are {', '.join(map(str, workers.values())) or 'none'}"
        )
    pid = workers[found[0]]
    birth = born(pid) or 0.0
    path = Path(home) / "workers" / f"{found[0]}.json"
    opened = consoles.Console(path, lambda: is_alive(pid, birth))
    try:
        if code is None:
            consoles.talk(opened, pid)
        elif not consoles.say(opened, code):
            sys.exit(1)
    finally:
        opened.close()


@main.command()
@click.argument("name")
@click.argument("slots", metavar="SLOTS|none")
@click.option("--period", type=click.FloatRange(min=0, min_open=True), help="Seconds: that many starts.")
@click.pass_obj
def limit(home: str, name: str, slots: str, period: float | None) -> None:
    """Let only so many runs with the tag NAME, or blocks of concurrency(NAME), be under way at a time."""
    if slots != "none" and not slots.isdecimal():
        raise click.BadParameter(f"a number from 0 on, or none, not {slots!r}", param_hint="SLOTS")
    with connect(home, start=False):
        try:
            limiting.limit(name, None if slots == "none" else int(slots), period)
        except ValueError as error:
            raise click.UsageError(str(error)) from None


@main.command()
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="How to print it."
)
@click.pass_obj
def limits(home: str, output: str) -> None:
    """Print the limits, and how much of them is taken."""
    with connect(home, start=False):
        found = limiting.limits()
    if output == "json":
        click.echo(json.dumps({name: state._asdict() for name, state in found.items()}, indent=2))
        return
    for name, state in sorted(found.items()):
        click.echo(views.limit_text(name, *state))


@main.command()
@click.argument("run", nargs=-1, required=True, metavar="RUN...")
@click.pass_obj
def cancel(home: str, run: Sequence[str]) -> None:
    """Cancel runs: what waits at once, what runs by an interrupt, then by a kill."""
    with connect(home, start=False) as client:
        found = [find(client, text) for text in run]  # all of them, before any is cancelled
        ended = sum(one.state.is_final for one in found)
        client.cancel([one.id for one in found])
    click.echo(views.cancel_text(len(found) - ended, ended))


@main.command()
@click.argument("run")
@click.pass_obj
def rerun(home: str, run: str) -> None:
    """Call a run once more, with the code, arguments and options that it had; print the id of the new one."""
    with connect(home, start=False) as client:
        click.echo(str(find(client, run).rerun().id))


@main.command()
@click.argument("run")
@click.pass_obj
def stack(home: str, run: str) -> None:
    """Print where the code of a running run is now."""
    with connect(home, start=False) as client:
        click.echo(find(client, run).stack(), nl=False)


@main.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=4200, show_default=True, help="0: any free one."
)
@click.option("--ip", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option("--browser/--no-browser", default=None, help="Else a browser is opened from a terminal.")
@click.pass_obj
def dashboard(home: str, port: int, ip: str, browser: bool | None) -> None:
    """Serve the page of this home until Ctrl-C: runs as they change, their output, cancel and rerun.

    It prints a link with a token, which a browser needs once. Where a Jupyter server runs, the same page is
    its /nbtasks.
    """
    from nbtasks.web import dashboard as dashboards
    from nbtasks.wire import pages

    def ready(link: str) -> None:
        click.echo(f"nbtasks: the dashboard of {home} is at {link}")
        sys.stdout.flush()
        if sys.stdout.isatty() if browser is None else browser:
            click.launch(link)

    if found := pages.find(home):
        ready(dashboards.link(found.url, pages.token(home)))
        return
    dashboards.serve(private_dir(home), ip, port, ready)


@main.command()
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Those that ended before.")
@click.option("--larger-than", type=AT_LEAST_0, metavar="BYTES", help="The oldest, down to that.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_obj
def prune(home: str, older_than: float | None, larger_than: int | None, dry_run: bool) -> None:
    """Remove finished runs with all that is kept of them; without options, as the home's settings say."""
    older_s = None if older_than is None else older_than * views.DAY_S
    with connect(home, start=False) as client:
        click.echo(views.pruned_text(*client.prune(older_s, larger_than, dry_run), dry_run))


main.add_command(housekeeping.backup)
main.add_command(housekeeping.doctor)


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
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=WIDE)
    with console.capture() as drawn:
        console.print(table)
    # as wide as the longest message, each
    click.echo("".join(f"{line.rstrip()}\n" for line in drawn.get().split("\n")[:-1]), nl=False)


if __name__ == "__main__":
    main()
