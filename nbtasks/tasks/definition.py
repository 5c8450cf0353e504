"""`Task`: a function that can be called here, or later and elsewhere."""

from __future__ import annotations

import functools
import sys
import time
import types
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, overload

import msgspec

from nbtasks import context
from nbtasks.context import submitter
from nbtasks.core.messages import Need, RunId, Spec
from nbtasks.errors import NotPicklable, ValueTooLarge
from nbtasks.run import Run, RunList
from nbtasks.run.variables import P, R_co
from nbtasks.runners import LocalRun, TaskRunner, task_runner
from nbtasks.tasks import caching, code, identity, loglines, naming, options, packing
from nbtasks.tasks.described import Described
from nbtasks.tasks.hooks import Decorators
from nbtasks.tasks.local import LocalCall
from nbtasks.tasks.mapping import ANYTHING, Calls
from nbtasks.tasks.options import Options
from nbtasks.tasks.packing import Call
from nbtasks.wire import ids

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nbtasks.tasks.giving import Async, Giving, Method, Q, S, T
    from nbtasks.tasks.words import Words

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Task(Described, Decorators, Generic[P, R_co]):
    """A function with a name and options.

    To type checkers it is a `Task[P, R]`: P are the parameters of the function, R what a call gives. They
    check a call like one of the function. What `.delay`, `.submit` and `.map` take may be a run in the place
    of a value, however deep, which no type can say: there they know the results, and leave the arguments
    alone.

    Parameters
    ----------
    fn
        A function, also an async one or a generator, a method, or an object that can be called.
    given
        Options; see `nbtasks.tasks.words.Words`.

    Raises
    ------
    TypeError
        `fn` cannot be called or has a parameter named like a keyword of ours, or an option is of the
        wrong type.
    """

    fn: Callable[P, R_co]
    _is_static = False  # as a method it gets no object

    @options.spelled_out
    def __init__(self, fn: Callable[P, R_co], **given: Unpack[Words]) -> None:
        if isinstance(fn, Task):
            raise TypeError(f"{fn.name!r} is a task already; with_options() makes another one of it")
        if isinstance(fn, staticmethod):
            fn, self._is_static = fn.__func__, True
        if not callable(fn):
            raise TypeError(f"a task is made of something that can be called, not of {fn!r}")
        self._become(fn, options.changed(options.initial(fn), given))
        functools.update_wrapper(self, fn, updated=())
        for word in options.RESERVED:
            if self._signature is not None and word in self._signature.parameters:
                raise TypeError(
                    f"task {self.name!r} has a parameter {word!r}, which is a keyword of nbtasks: rename it"
                )
        naming.check(self._options.run_name, self._signature)

    @classmethod
    def of_spec(cls, fn: Any, spec: Spec, around: Mapping[str, Any]) -> Task[..., Any]:
        """The task of a run, as it travelled; `around` came with the code."""
        made: Task[..., Any] = object.__new__(cls)
        made._become(fn, options.of_spec(spec, around))
        functools.update_wrapper(made, fn, updated=())
        return made

    def _become(self, fn: Any, chosen: Options) -> None:
        self.fn = fn
        self.__wrapped__ = fn
        self._options = chosen
        self._specs: dict[Any, Spec] = {}

    # -- what it is ---------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"Task(name={self.name!r}, key={self.key!r})"

    @options.spelled_out
    def with_options(self, **given: Unpack[Words]) -> Task[P, R_co]:
        """Another task of the same function: what is given replaces, everything else is kept."""
        chosen = options.changed(self._options, given)
        later = tuple(word for word in options.BACKGROUND if word in given)
        if later:
            chosen = msgspec.structs.replace(chosen, background=(*chosen.background, *later))
        naming.check(chosen.run_name, self._signature)
        return self._copy(self.fn, chosen)

    def _copy(self, fn: Any, chosen: Options) -> Task[Any, Any]:
        copy: Task[Any, Any] = object.__new__(type(self))
        copy._become(fn, chosen)
        copy._is_static = self._is_static
        functools.update_wrapper(copy, fn, updated=())
        return copy

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Task[P, R_co]: ...
    @overload
    def __get__(self: Method[S, Q, T], instance: S, owner: type | None = None) -> Task[Q, T]: ...
    @overload
    def __get__(self, instance: Any, owner: type | None = None) -> Task[P, R_co]: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Task[..., Any]:
        """As a method of an object: the object is the first argument, unless it is a static one."""
        if instance is None or self._is_static:
            return self
        return self._copy(types.MethodType(self.fn, instance), self._options)

    # -- as an argument or a name that a function uses, a task travels itself --------------------------------

    def __reduce_ex__(self, protocol: Any) -> Any:
        module, qualname = getattr(self.fn, "__module__", None), getattr(self.fn, "__qualname__", "")
        if module and module != "__main__" and identity.found(module, qualname) is self:
            return identity.found, (module, qualname)
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        kept = (*functools.WRAPPER_ASSIGNMENTS, "_is_static")
        words = {word: getattr(self, word) for word in kept if word in vars(self)}
        words.pop("__annotations__", None)
        return {"fn": self.fn, "options": self._options, "words": words}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # the function may be half made when it refers to this task, so it is only stored here
        self._become(state["fn"], state["options"])
        vars(self).update(state["words"])

    # -- calling it ---------------------------------------------------------------------------------------

    if TYPE_CHECKING:
        # the result of a run: what the function returns, what that is awaited for, or all that it yields

        @overload
        def _gives(self: Async[T]) -> T: ...
        @overload
        def _gives(self: Task[..., AsyncIterator[T]]) -> list[T]: ...
        @overload
        def _gives(self: Task[..., Iterator[T]]) -> list[T]: ...
        @overload
        def _gives(self: Task[..., T]) -> T: ...
        def _gives(self) -> Any: ...

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run it here and now; a broker has no part in it."""
        call = self._bound(args, kwargs)
        name = naming.name_of(self._options.run_name, call[2])
        gives: R_co = LocalCall(self, call, self._local_spec(), self._around(), name).start()
        return gives

    @overload
    def submit(self: Async[T], /, *args: Any, wait_for: Any = None, **kwargs: Any) -> LocalRun[T]: ...
    @overload
    def submit(self: Giving[T], /, *args: Any, wait_for: Any = None, **kwargs: Any) -> LocalRun[T]: ...
    def submit(self, /, *args: Any, wait_for: Any = None, **kwargs: Any) -> LocalRun[Any]:
        """Run it by the task runner of the block around, else in a thread of this process.

        Nothing is recorded. In a thread a time-out interrupts Python code but cannot kill: what blocks
        outside of Python goes on until it returns.

        Parameters
        ----------
        wait_for
            Runs that have to complete first; runs among the arguments are replaced by their results.

        Raises
        ------
        TypeError
            The arguments do not fit the function, or an option was given that background runs alone have.
        NotPicklable
            The runner is one of other processes, and something cannot travel; the message names it.
        """
        options.refuse_background(self._options, self._signature, kwargs)
        start = self._prepared(self._bound(args, kwargs), self._local_spec(), wait_for, task_runner())
        run = start()
        loglines.created(run.name)
        return run

    def _prepared(self, call: Call, spec: Spec, wait_for: Any, runner: TaskRunner) -> Callable[[], LocalRun]:
        """Makes a run by this runner when it is called; whatever can be refused is refused before."""
        _, _, parameters = call
        current = context.current_run()
        parent = current.run if current else ""
        run_id, name = ids.run_id(), naming.name_of(self._options.run_name, parameters)
        local = LocalCall(self, call, spec, self._around(), name, run_id, wait_for)
        if runner.is_elsewhere:
            local.pack()

        def start() -> LocalRun:
            run = LocalRun(run_id, spec, packing.texts(parameters), parent, name, local.never)
            runner.submit(run, local.start)
            return run

        return start

    @overload
    def delay(self: Async[T], /, *args: Any, **kwargs: Any) -> Run[T]: ...
    @overload
    def delay(self: Giving[T], /, *args: Any, **kwargs: Any) -> Run[T]: ...
    def delay(self, /, *args: Any, **kwargs: Any) -> Run[Any]:
        """Run it in the background; returns when the run is recorded.

        A run among the arguments, however deep, is replaced by its result; this one starts when it is there.

        Raises
        ------
        TypeError
            The arguments do not fit the function.
        NotPicklable, ValueTooLarge
            Something cannot travel; the message names it.
        QueueFull, BrokerUnavailable
            Nothing was recorded.
        SubmitUnknown
            The broker went away before it answered; the error holds the run's id.
        """
        return self._delayed(args, kwargs, ())

    def _delayed(self, args: tuple[Any, ...], kwargs: dict[str, Any], waits_for: Sequence[Need]) -> Run:
        call = self._bound(args, kwargs)
        body, spec = self._travelling()
        client = submitter()
        run = packing.new_run(client, self._signature, call, waits_for, self._options.run_name, self._cached)
        fate = client.submit(spec, body, run, context.parent_id(), options.terms(self._options, time.time()))
        if fate.run != run.run:
            return Run.of_info(client.info(fate.run), client)  # somebody submitted it before
        loglines.created(run.name or spec.name, page=client.page_of(run.run))
        return Run(run.run, run.name or spec.name, spec.key, spec.tags, run.parameters, client, fate)

    @overload
    def apply_async(
        self: Async[T], args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None,
        *, wait_for: Any = None, **given: Unpack[Words],
    ) -> Run[T]: ...  # fmt: skip
    @overload
    def apply_async(
        self: Giving[T], args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None,
        *, wait_for: Any = None, **given: Unpack[Words],
    ) -> Run[T]: ...  # fmt: skip
    def apply_async(
        self,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        wait_for: Any = None,
        **given: Any,
    ) -> Run[Any]:
        """The long form of `delay`: arguments in a tuple and a dict, options of this one run beside them.

        Parameters
        ----------
        wait_for
            Background runs that have to complete first, without being arguments.
        given
            What `with_options` takes, but for `key`.

        Raises
        ------
        TypeError
            There is no such option, or the arguments do not fit. Otherwise as `delay`.
        """
        options.refuse_unknown(self.name, given)
        if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
            raise TypeError(f"args is a tuple or list of positional arguments, not {args!r}")
        if kwargs is not None and not isinstance(kwargs, Mapping):
            raise TypeError(f"kwargs is a dict of keyword arguments, not {kwargs!r}")
        one = self.with_options(**given) if given else self
        return one._delayed(tuple(args), dict(kwargs or {}), packing.waits_for(wait_for))

    @overload
    def map(
        self: Async[T], /, *args: Any, deferred: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> RunList[T]: ...
    @overload
    def map(
        self: Giving[T], /, *args: Any, deferred: bool = False, wait_for: Any = None, **kwargs: Any
    ) -> RunList[T]: ...
    def map(self, /, *args: Any, deferred: bool = False, wait_for: Any = None, **kwargs: Any) -> RunList[Any]:
        """Run it once for each item: in this process as by `submit`, or in the background as by `delay`.

        Iterables are walked together; strings and other single values, defaults and `unmapped(x)` are the
        same for every call.

        Parameters
        ----------
        deferred
            Whether the runs are background runs.
        wait_for
            Runs that have to complete before any of these starts.

        Returns
        -------
        The runs, in the order of the items.

        Raises
        ------
        TypeError
            The arguments do not fit, or one is a dict or a data frame.
        ValueError
            Nothing can be iterated, or the lengths differ.
        NotPicklable, ValueTooLarge
            An item cannot travel; whole batches of runs before it may be recorded.
        """
        if self._options.idempotency_key:
            raise TypeError("an idempotency_key names one run: use .delay() or .apply_async()")
        if not isinstance(deferred, bool):
            raise TypeError(f"deferred is True or False, not {deferred!r}")
        if not deferred:
            options.refuse_background(self._options, self._signature, kwargs)
        calls = self._calls(args, kwargs)
        if not calls.number:
            return RunList()
        if not deferred:
            runs = self._mapped(calls, wait_for)
            loglines.created(self.name, calls.number)
            return runs
        body, spec = self._travelling()
        client = submitter()
        made: list[tuple[str, str, str]] = []  # what handles need of the runs
        terms = options.terms(self._options, time.time())
        waits_for, run_name = packing.waits_for(wait_for), self._options.run_name
        batches = packing.batches(client, self._signature, calls, waits_for, run_name, self._cached, made)
        fates = client.submit_many(spec, body, batches, context.parent_id(), terms)
        loglines.created(self.name, calls.number)
        return RunList(
            Run(run_id, name or spec.name, spec.key, spec.tags, parameters, client, fate)
            for (run_id, name, parameters), fate in zip(made, fates, strict=True)
        )

    def _mapped(self, calls: Iterable[Call], wait_for: Any) -> RunList:
        spec, runner, starts = self._local_spec(), task_runner(), []
        for call in calls:
            try:
                starts.append(self._prepared(call, spec, wait_for, runner))
            except (NotPicklable, ValueTooLarge) as error:
                raise type(error)(f"item {len(starts)}: {error}") from None
        return RunList([start() for start in starts])

    def serve(self, limit: int | None = None) -> Any:
        """Execute the runs of this task, at most `limit` at a time; see `nbtasks.serve`."""
        from nbtasks.tasks.decorator import serve

        return serve(self, limit=limit)

    # -- pieces -------------------------------------------------------------------------------------------

    def _bound(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Positional and keyword arguments with defaults, and all by name."""
        if self._signature is None:
            return args, kwargs, {**{f"argument {i + 1}": value for i, value in enumerate(args)}, **kwargs}
        if not kwargs and (names := self._plain_names) and len(names) == len(args):
            return args, {}, dict(zip(names, args, strict=True))  # most calls; binding would give the same
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        bound.apply_defaults()
        return bound.args, bound.kwargs, bound.arguments

    def _calls(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Calls:
        """What `map` makes of its arguments."""
        return Calls(self.name, self._signature or ANYTHING, args, kwargs)

    def _travelling(self) -> tuple[bytes, Spec]:
        """The code as it is now, and what the broker has to know."""
        body, digest = self.dumped()
        directory = options.working_directory()
        return body, self._spec(digest, directory, options.local_paths(directory))

    def dumped(self) -> tuple[bytes, str]:
        """The code as it is now, pickled, and its digest; raises `NotPicklable`."""
        return code.dump(self.fn, self._options)

    def _around(self) -> dict[str, Any]:
        return options.around(self._options)

    @property
    def _cached(self) -> packing.CacheKeys | None:
        return self.cache_key if self._options.caching else None

    def cache_key(self, run: RunId, parameters: Mapping[str, Any]) -> str:
        """The key under which the result of a call is found later; "" if it has none, which is logged."""
        try:
            return caching.key_of(self._options.caching, caching.about(self.key, self.fn, run), parameters)
        except caching.NoKey as reason:
            loglines.uncached(self.name, str(reason))
            return ""

    def _local_spec(self) -> Spec:
        return self._spec("", "", ())

    def _spec(self, digest: str, cwd: str, paths: tuple[str, ...]) -> Spec:
        chosen = self._options
        tags = tuple(sorted(chosen.tags | context.ambient_tags()))
        spec = self._specs.get((digest, cwd, paths, tags))
        if spec is None:
            spec = Spec(
                key=chosen.key, name=chosen.name, python=PYTHON, code=digest,
                version=self.version if digest else "", description=chosen.description, tags=tags,
                retries=chosen.retries, retry_delay_s=chosen.retry_delays_s[0],
                later_delays_s=chosen.retry_delays_s[1:], retry_jitter=chosen.retry_jitter,
                crash_retries=chosen.crash_retries, timeout_s=chosen.timeout_s, grace_s=chosen.grace_s,
                log_prints=chosen.log_prints, serializer=chosen.serializer, cache_s=chosen.cache_s,
                cwd=cwd, sys_path=paths, hooks=options.hooks_of(chosen),
                worker_tags=tuple(sorted(chosen.worker_tags)), sticky=chosen.sticky,
            )  # fmt: skip
            if len(self._specs) >= 8:
                self._specs.clear()
            self._specs[digest, cwd, paths, tags] = spec
        return spec
