"""`python -m nbtasks.worker`: started by a pool, one process per worker."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from nbtasks import settings
from nbtasks.core.messages import HelloWorker
from nbtasks.core.version import VERSION
from nbtasks.core.worker import Worker
from nbtasks.wire import connection, spool
from nbtasks.wire.alive import born, host_name
from nbtasks.wire.blobs import Blobs
from nbtasks.wire.connection import Connection
from nbtasks.wire.marker import Marker
from nbtasks.wire.private import private_dir
from nbtasks.wire.process import owner_pid
from nbtasks.wire.spool import Spool
from nbtasks.worker.loglines import LogLines

NEVER_S = 1e9  # mono seconds
NO_BROKER_S = 10.0  # for a broker that just starts, or starts again
NO_BROKER = 69  # exit status, as in sysexits.h
# by which plotly finds out that notebooks here have another frontend than Jupyter's
HOSTED = (
    "AZURE_NOTEBOOKS_HOST",
    "COCALC_PROJECT_ID",
    "COLAB_NOTEBOOK_ID",
    "DATABRICKS_RUNTIME_VERSION",
    "KAGGLE_KERNEL_RUN_TYPE",
    "NTERACT_EXE",
    "VSCODE_PID",
)
EXIT_S = 3.0  # for threads that a run left behind and that do not end


class Served(msgspec.Struct):
    """A task that a worker serves, as the file of `--serves` lists it."""

    key: str
    name: str
    code: str  # path of the pickled function


def main() -> int:
    options = _options()
    log = LogLines(options.log_fd, tells_runs=options.serves is not None)
    # from here on whatever is written to stdout and stderr belongs to runs
    spooled = Spool(options.spool)
    spooled.redirect()
    faulthandler.enable(file=2, all_threads=False)
    # python -m put the directory we were started in here
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]
    _tell_plotly()
    try:
        return _work(options, log, spooled)
    except Exception:
        log.bug("the worker")
        return 70


def _tell_plotly() -> None:
    """Let it draw as in Jupyter, unless it knows better where it is.

    It takes no shell but ipykernel's own class for a notebook's, and would put its library of 5 MB beside
    the first figure of each worker: half of what is kept of a run's output.
    """
    if not any(name in os.environ for name in HOSTED):
        os.environ.setdefault("PLOTLY_RENDERER", "plotly_mimetype")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m nbtasks.worker", description="A worker of a pool.")
    parser.add_argument("-f", dest="connection_file", required=True, help="of the kernel; is made")
    parser.add_argument("--sockets", required=True, help="what the paths of the kernel's sockets begin with")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--marker", type=Path, required=True)
    parser.add_argument("--spool", type=Path, required=True)
    parser.add_argument("--log-fd", type=int, default=2)
    parser.add_argument("--serves", type=Path, help="JSON: the tasks to serve; without it, any task")
    parser.add_argument("--tag", action="append", default=[], help="what it offers; may be given again")
    parser.add_argument("--max-runs", type=int, default=0, help="leave after so many; 0: never")
    return parser.parse_args()


def _work(options: argparse.Namespace, log: LogLines, spooled: Spool) -> int:
    # the kernel and all that it imports, after the spool is there to take what they say
    from tornado.ioloop import IOLoop

    from nbtasks import cell
    from nbtasks.pickling import logs
    from nbtasks.runners.signals import Interrupts
    from nbtasks.tasks import runlog
    from nbtasks.worker import capture, commands, progress, stacks, unanswered
    from nbtasks.worker.agent import Agent
    from nbtasks.worker.app import WorkerApp
    from nbtasks.worker.collector import Collector
    from nbtasks.worker.executor import Executor
    from nbtasks.worker.stream import ValueStream
    from nbtasks.worker.surroundings import Surroundings

    chosen = settings.load(options.home)
    found = _broker(options.home)
    if found is None:
        log.problem(f"no broker runs for {options.home}; start one by: nbtasks broker start")
        return NO_BROKER
    serves = _serves(options.serves)
    interrupts = Interrupts()
    machine = Worker(_hello(options, serves), options.max_runs)
    marker = Marker.create(options.marker)
    agent = Agent(options.home, found, options.name, machine, interrupts, marker, log, _owner())
    bounds = chosen.output_bytes_max, chosen.output_tail_bytes
    collector = Collector(agent.printed, spooled, interrupts, *bounds)
    stream = ValueStream(agent.printed, agent.hurry, interrupts)
    agent.flush = lambda: min(collector.flush() or NEVER_S, stream.flush() or NEVER_S)
    agent.recorded, agent.read = collector.recorded, stream.read
    # the instance, because magics such as %matplotlib ask the class for it
    app = WorkerApp.instance(connection_file=options.connection_file, sockets=options.sockets)
    app.initialize([])
    capture.install(collector)
    unanswered.install(app.shell)
    commands.install(interrupts)
    runlog.also(log.line)
    progress.install()
    logs.apply_here()
    scratch = private_dir(options.home / "scratch")
    os.chdir(scratch)
    main = threading.get_ident()
    app.shell.push({"frames": lambda: stacks.frames(main)}, interactive=False)  # for who looks into a run
    cell.install(app.shell, is_worker=True)
    app.agent = agent
    app.executor = Executor(
        agent,
        collector,
        stream,
        marker,
        interrupts,
        Surroundings(scratch, spooled, IOLoop.current().asyncio_loop, app.shell),  # type: ignore[attr-defined]
        Blobs(options.home, syncs=chosen.durability == "power"),
        log,
        app.shell,
        None if serves is None else {task.key: Path(task.code) for task in serves},
    )
    app.start()
    agent.close()
    if not agent.has_pool:
        _tidy_up(options, app)
    return agent.exit_status or 0


def _tidy_up(options: argparse.Namespace, app: Any) -> None:
    """Remove what the pool would have removed, had it lived."""
    app.cleanup_connection_file()
    options.marker.unlink(missing_ok=True)
    spool.remove(options.spool)


def _broker(home: Path) -> Connection | None:
    until_s = time.monotonic() + NO_BROKER_S
    while (found := connection.read(home)) is None and time.monotonic() < until_s:
        time.sleep(0.02)
    return found


def _serves(path: Path | None) -> list[Served] | None:
    return None if path is None else msgspec.json.decode(path.read_bytes(), type=list[Served])


def _hello(options: argparse.Namespace, serves: list[Served] | None) -> HelloWorker:
    pid = os.getpid()
    return HelloWorker(
        version=VERSION,
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        pid=pid,
        born=born(pid) or 0.0,
        host=host_name(),
        pool=options.pool,
        marker=str(options.marker),
        serves=None if serves is None else tuple(task.key for task in serves),
        tags=tuple(options.tag),
    )


def _owner() -> tuple[int, float] | None:
    pid = owner_pid()
    return None if pid is None else (pid, born(pid) or 0.0)


def _leave(status: int) -> None:
    """End, with what is registered to run at the end, but not waiting for a run's threads for ever."""
    ending = threading.Timer(EXIT_S, os._exit, (status,))
    ending.daemon = True
    ending.start()
    sys.exit(status)


if __name__ == "__main__":
    _leave(main())
