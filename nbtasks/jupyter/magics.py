"""The line magic `%nbtasks`: one verb each, which parses, asks the client once and draws with `views`.

Whatever the user got wrong, and a broker that is not there, is a `UsageError`: one line, no traceback.
"""

from __future__ import annotations

import itertools
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display
from IPython.utils.process import arg_split  # type: ignore[attr-defined]  # a re-export

from nbtasks import views
from nbtasks.errors import CancelledRun, Detached, NbtasksError
from nbtasks.jupyter import offers, session
from nbtasks.jupyter.display import BoardView, RunTable
from nbtasks.run import Run, RunList
from nbtasks.wire.cores import cores

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

VERBS = (
    "start",
    "stop",
    "status",
    "workers",
    "board",
    "runs",
    "logs",
    "cancel",
    "attach",
    "collect",
    "prune",
)
TAKES_WORDS = {"workers", "logs", "cancel", "attach", "collect"}
OF_WORKERS = ("--env", "--kernel", "--gpu", "--offer", "--max-runs")
OPTIONS = {  # one parser reads them for all verbs
    "start": ("--workers", *OF_WORKERS),
    "workers": OF_WORKERS,
    "runs": ("--state", "--task", "--tag", "--limit"),
    "logs": ("--follow",),
    "prune": ("--older-than", "--larger-than", "--dry-run"),
}
RUNS_LISTED = 100  # if nobody says
POOL_WORKERS_MAX = 4  # of a pool whose size nobody said
WORKERS_MAX = 1000  # a typing error must not fill the machine


@magics_class
class NbtasksMagics(Magics):
    """Holds `%nbtasks`; its docstring is what `%nbtasks?` shows."""

    @magic_arguments()
    @argument("verb", choices=VERBS, metavar="VERB", help="what to do; see above")
    @argument(
        "words",
        nargs="*",
        metavar="WORD",
        help="workers: N or A..B; elsewhere a run: its id, an end of its id or the name of a variable",
    )
    @argument(
        "-w",
        "--workers",
        type=int,
        metavar="N",
        help="start: at most so many workers in the pool, started on demand",
    )
    @argument(
        "--env", action="append", metavar="NAME=VALUE", help="start, workers: a variable of their environment"
    )
    @argument("--kernel", metavar="NAME", help="start, workers: the kernel whose interpreter they are")
    @argument("--gpu", action="store_true", help="start, workers: each sees one GPU and offers the tag gpu")
    @argument(
        "--offer",
        action="append",
        metavar="TAG",
        help="start, workers: a tag of theirs, for runs that ask for it (worker_tags, %%%%delay --worker)",
    )
    @argument("--max-runs", type=int, metavar="N", help="start, workers: replace a worker after N runs")
    @argument("--state", metavar="STATE", help="runs: only those in this state")
    @argument("--task", metavar="TASK", help="runs: only those of this task")
    @argument("--tag", metavar="TAG", help="runs: only those with this tag")
    @argument("-l", "--limit", type=int, metavar="N", help=f"runs: at most so many (default {RUNS_LISTED})")
    @argument("-f", "--follow", action="store_true", help="logs: also what comes, until the run has ended")
    @argument("--older-than", type=float, metavar="DAYS", help="prune: runs that ended before so many days")
    @argument(
        "--larger-than",
        type=int,
        metavar="BYTES",
        help="prune: the oldest runs, until the others have at most so many bytes",
    )
    @argument("--dry-run", action="store_true", help="prune: only say what would go")
    @line_magic
    def nbtasks(self, line: str) -> Any:
        """Background tasks: the broker, its workers and its runs.

        start            start the broker and a pool of up to N workers (-w N; -w 0: no pool)
        stop             stop the broker and its pools once what runs has ended; what waits is kept
        status           who the broker is, what its workers do, what waits
        workers N|A..B   let the pool have N workers, or as many as the queue asks for; 0 stops it
        board            show what runs, waits and failed, live; click a run to unfold it
        runs             list runs, newest first (--state, --task, --tag, --limit)
        logs RUN         show again what a run printed and drew (--follow: until it has ended)
        cancel RUN...    cancel runs: what waits at once, what runs by an interrupt, then by a kill
        attach RUN...    show runs here, live: after a restart of the kernel, or from another notebook
        collect [RUN...] assign the names of -o that are there; of any run if it is named
        prune            remove finished runs (--older-than, --larger-than, --dry-run; else by the settings)
        """
        if not line.strip():
            raise UsageError(f"%nbtasks takes a verb: {', '.join(VERBS)}; %nbtasks? says what each does")
        # intermixed: argparse alone takes no words behind an option
        arguments = self.nbtasks.parser.parse_intermixed_args(words_of(line))
        if arguments.verb not in TAKES_WORDS and arguments.words:
            word = arguments.words[0]
            hint = f"; write -w {word}" if arguments.verb == "start" and word[:1].isdigit() else ""
            raise UsageError(f"%nbtasks {arguments.verb} takes no {word!r}{hint}")
        _refuse_strange(arguments)
        try:
            return getattr(self, f"_on_{arguments.verb}")(arguments)
        except (Detached, CancelledRun):  # nothing that the user wrote is wrong
            raise
        except NbtasksError as error:
            raise UsageError(str(error)) from None

    def _on_start(self, arguments: Namespace) -> None:
        size = min(POOL_WORKERS_MAX, cores()) if arguments.workers is None else arguments.workers
        least, most = bounds(str(size), least=0)
        kind = kind_of(arguments)
        found = session.is_running()
        client = session.client().open()
        status = client.status()
        print(
            f"broker {'already running' if found else 'started'}: pid {status.broker_pid}, home {client.home}"
        )
        for line in views.damage_lines(status):
            print(line)
        is_said = arguments.workers is not None or any(kind.values())
        if is_said or (most and not client.has_pool()):
            client.set_generic_pool(least, most, **kind)
            print(pool_words(least, most))

    def _on_stop(self, arguments: Namespace) -> None:
        if not session.is_running():
            print(f"no broker runs for home {session.client().home}")
            return
        session.running().stop_broker()
        print("broker stopped")

    def _on_status(self, arguments: Namespace) -> None:
        client = session.running()
        print(views.status_text(client.status(), str(client.home), time.time()))

    def _on_workers(self, arguments: Namespace) -> None:
        kind = kind_of(arguments)
        if any(kind.values()) and not arguments.words:
            raise UsageError("%nbtasks workers takes these options together with a number of workers")
        client = session.running()
        if not arguments.words:
            print("\n".join(views.worker_lines(client.status(), time.time())) or "no workers")
            return
        least, most = bounds(" ".join(arguments.words))
        client.set_generic_pool(least, most, **kind)
        print(pool_words(least, most))

    def _on_runs(self, arguments: Namespace) -> RunTable:
        limit = RUNS_LISTED if arguments.limit is None else arguments.limit
        if limit < 1:
            raise UsageError("--limit takes a number from 1 on")
        client = session.running()
        wanted = {word: getattr(arguments, word) for word in ("state", "task", "tag")}
        try:
            return RunTable(client.runs(**wanted, limit=limit), self.shell)
        except ValueError as error:  # there is no such state
            raise UsageError(str(error)) from None

    def _on_board(self, arguments: Namespace) -> BoardView:
        return BoardView(session.running(), self.shell)

    def _on_logs(self, arguments: Namespace) -> None:
        if len(arguments.words) != 1:
            raise UsageError("%nbtasks logs takes one run: its id, an end of its id, or a variable")
        for run in self._runs(arguments.words[0]):
            run.show(follow=arguments.follow)

    def _on_cancel(self, arguments: Namespace) -> None:
        if not arguments.words:
            raise UsageError("%nbtasks cancel takes runs: their ids, ends of their ids, or variables")
        found = [run for word in arguments.words for run in self._runs(word)]
        client, counts = session.running(), RunList(found).counts  # not run by run: there may be thousands
        ended = sum(counts[kind] for kind in views.FINAL_TYPES)
        client.cancel([run.id for run in found])
        print(views.cancel_text(len(found) - ended, ended))

    def _on_attach(self, arguments: Namespace) -> None:
        if not arguments.words:
            raise UsageError("%nbtasks attach takes runs: their ids, ends of their ids, or variables")
        for run in [run for word in arguments.words for run in self._runs(word)]:
            display(run)

    def _on_collect(self, arguments: Namespace) -> None:
        assert self.shell is not None
        runs = [run for word in arguments.words for run in self._runs(word)] if arguments.words else None
        print("\n".join(offers.of(self.shell).collect(runs)) or "no names are awaited")

    def _on_prune(self, arguments: Namespace) -> None:
        older, larger = arguments.older_than, arguments.larger_than
        if not (older or 0) >= 0 or (larger or 0) < 0:
            raise UsageError("--older-than and --larger-than take a number from 0 on")
        older_s = None if older is None else older * views.DAY_S
        done = session.running().prune(older_s, larger, arguments.dry_run)
        print(views.pruned_text(*done, arguments.dry_run))

    def _runs(self, word: str) -> list[Run]:
        """The runs that a word on the line means."""
        value = self.shell.user_ns.get(word) if self.shell else None
        if isinstance(value, Run):
            return [value]
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, Run) for item in value):
            return list(value)
        client = session.running()
        if len(word) < views.ID_CHARACTERS:
            word = views.match_id(word, (str(run.id) for run in client.runs(limit=views.SEARCH_MAX)))
        return [client.get_run(word)]


def words_of(line: str) -> list[str]:
    """The words up to a `#`, so that a line of a magic can be explained as one of Python can."""
    return list(itertools.takewhile(lambda word: not word.startswith("#"), arg_split(line)))


def _refuse_strange(arguments: Namespace) -> None:
    """Refuse the options of other verbs: `stop --dry-run` must not stop anything."""
    own = OPTIONS.get(arguments.verb, ())
    for option in (option for options in OPTIONS.values() for option in options if option not in own):
        value = getattr(arguments, option[2:].replace("-", "_"))
        if value is not None and value is not False:
            raise UsageError(f"%nbtasks {arguments.verb} has no {option}")


def bounds(text: str, least: int | None = None) -> tuple[int, int]:
    """Read "N" or "A..B" as the least and the most workers; `least` is that of a plain N, else N itself."""
    low, dots, high = text.partition("..")
    try:
        most = int(high if dots else low)
        first = int(low) if dots else most if least is None else least
    except ValueError:
        raise UsageError(f"a number of workers is N or A..B, not {text!r}") from None
    if not 0 <= first <= most <= WORKERS_MAX:
        raise UsageError(f"a number of workers lies in 0..{WORKERS_MAX}, the smaller first; got {text!r}")
    return first, most


def kind_of(arguments: Namespace) -> dict[str, Any]:
    """What the workers are to be like, as `Client.start_workers` takes it."""
    pairs = [text.partition("=") for text in arguments.env or ()]
    if bad := next((name for name, equals, _ in pairs if not name or not equals), None):
        raise UsageError(f"--env takes NAME=VALUE, not {bad!r}")
    if arguments.max_runs is not None and arguments.max_runs < 1:
        raise UsageError("--max-runs takes a number from 1 on")
    return {
        "env": {name: value for name, _, value in pairs}, "kernel": arguments.kernel, "gpu": arguments.gpu,
        "tags": arguments.offer or (), "max_runs_per_worker": arguments.max_runs,
    }  # fmt: skip


def pool_words(least: int, most: int) -> str:
    if not most:
        return "pool: stops when what runs has ended"
    if least == most:
        return f"pool: {views.many(most, 'worker')}"
    return f"pool: {least} to {views.many(most, 'worker')}, started on demand"


def register(shell: InteractiveShell) -> Callable[[], None]:
    """Give `shell` the magic; returns what puts back a magic of that name that was there before."""
    return added(shell, NbtasksMagics, "line", ("nbtasks",))


def added(
    shell: InteractiveShell, kind: type[Magics], where: str, names: Sequence[str]
) -> Callable[[], None]:
    """Give `shell` these magics; returns what puts back what was there before.

    Parameters
    ----------
    where
        "line" or "cell".
    """
    manager = shell.magics_manager
    table, registry = manager.magics[where], manager.registry
    before = {name: table.get(name) for name in names}
    registered = registry.get(kind.__name__)
    shell.register_magics(kind)
    ours = {name: table[name] for name in names}

    def take_back() -> None:
        for name in names:
            if table.get(name) is ours[name]:
                _restore(table, name, before[name])
                _restore(registry, kind.__name__, registered)

    return take_back


def _restore(table: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        table.pop(name, None)
    else:
        table[name] = value
