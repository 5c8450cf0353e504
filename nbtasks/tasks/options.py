"""What a task may be told besides its function: checked where it is written, not where it is used."""

from __future__ import annotations

import difflib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from nbtasks.core.hooks import ENDS, RUNNING
from nbtasks.core.messages import Spec, Terms
from nbtasks.pickling import serializers
from nbtasks.tasks import identity
from nbtasks.tasks.caching import NO_CACHE, CachePolicy, Caching

# options that mean something in the background only; in a decorator they wait for the first `.delay()`
BACKGROUND = (
    "crash_retries", "priority", "eta", "countdown", "expires", "idempotency_key", "worker_tags", "sticky",
)  # fmt: skip
CODE = ("retry_condition", "caching", RUNNING, *ENDS)  # fields that hold code; it travels with the function
DELAYS_MAX = 50  # of one task
RESERVED = ("wait_for", "return_state", "deferred")  # keywords of ours, which would hide a parameter


F = TypeVar("F", bound=Callable[..., Any])


class Options(msgspec.Struct, frozen=True):
    """The options of one task, whole and valid."""

    name: str
    key: str
    description: str
    tags: frozenset[str] = frozenset()
    version: str = ""
    retries: int = 0
    retry_delays_s: tuple[float, ...] = (0.0,)  # the last one repeats
    retry_backoff: Callable[[int], Any] | None = None  # gives the delays for a number of retries
    retry_jitter: float = 0.0
    retry_condition: Callable[..., Any] | None = None
    crash_retries: int = 0
    timeout_s: float = 0.0  # 0: none
    grace_s: float = 3.0
    log_prints: bool = False
    serializer: str = "pickle"
    caching: Caching = Caching()
    cache_s: float = 0.0  # how long a result is taken; 0: as long as it is kept
    refresh_cache: bool = False
    on_running: tuple[Callable[..., Any], ...] = ()
    on_completion: tuple[Callable[..., Any], ...] = ()
    on_failure: tuple[Callable[..., Any], ...] = ()
    on_cancellation: tuple[Callable[..., Any], ...] = ()
    on_crash: tuple[Callable[..., Any], ...] = ()
    priority: int = 0
    eta: float = 0.0  # UNIX seconds; 0: at once
    countdown_s: float = 0.0
    expires: float = 0.0  # seconds after the call; 0: never
    expires_at: float = 0.0  # UNIX seconds; 0: never
    idempotency_key: str = ""
    worker_tags: frozenset[str] = frozenset()
    sticky: str = ""
    run_name: Any = None  # a template, or a function; see `naming`
    background: tuple[str, ...] = ()  # which of BACKGROUND were given to `with_options`


def initial(function: Callable[..., Any]) -> Options:
    """The options of a task about which nothing was said."""
    doc = inspect.getdoc(function) if not isinstance(function, type) else None
    return Options(name=identity.name_of(function), key=identity.key_of(function), description=doc or "")


def changed(options: Options, given: Mapping[str, Any]) -> Options:
    """The options with those that were given, by the names that users write.

    Raises
    ------
    TypeError, ValueError
        There is no such option, or it has the wrong type or is out of its range; the message names it.
    """
    values: dict[str, Any] = {}
    for word, value in given.items():
        if word not in _READERS:
            raise TypeError(_unknown("a task", word, _READERS))
        values.update(_READERS[word](word, value))
    if given.get("cache_key_fn") is not None:
        values["caching"] = Caching(key_fn=given["cache_key_fn"])  # it says more than a policy beside it
    if values.get("eta") and values.get("countdown_s"):
        raise ValueError("eta and countdown say the same thing in two ways: give one of them")
    new = msgspec.structs.replace(options, **values)
    if new.retry_backoff is not None:
        new = msgspec.structs.replace(new, retry_delays_s=_backed_off(new.retry_backoff, new.retries))
    return new


def around(options: Options) -> dict[str, Any]:
    """The functions that were given besides the task's own."""
    return {field: value for field in CODE if (value := getattr(options, field))}


def hooks_of(options: Options) -> tuple[str, ...]:
    """Which hooks for endings there are."""
    return tuple(word for word in ENDS if getattr(options, word))


def of_spec(spec: Spec, around: Mapping[str, Any]) -> Options:
    """The options of a run's task, as far as they travelled; `around` came with the code."""
    return Options(
        spec.name, spec.key, spec.description, frozenset(spec.tags), spec.version, spec.retries,
        (spec.retry_delay_s, *spec.later_delays_s), retry_jitter=spec.retry_jitter,
        crash_retries=spec.crash_retries, timeout_s=spec.timeout_s, grace_s=spec.grace_s,
        log_prints=spec.log_prints, **around,
    )  # fmt: skip


def terms(options: Options, unix_s: float) -> Terms:
    """What is asked of a run that is submitted now."""
    eta = unix_s + options.countdown_s if options.countdown_s else options.eta
    expires = unix_s + options.expires if options.expires else options.expires_at
    if not (options.priority or eta or expires or options.idempotency_key or options.refresh_cache):
        return _NO_TERMS
    return Terms(options.priority, eta, expires, options.idempotency_key, refresh=options.refresh_cache)


_NO_TERMS = Terms()


def refuse_background(options: Options, signature: inspect.Signature | None, kwargs: Iterable[str]) -> None:
    """Refuse what means nothing to a run of this process: options of `with_options` or among the arguments.

    Raises
    ------
    TypeError
        It names the option.
    """
    own = signature.parameters if signature is not None else {}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values())
    given = [word for word in BACKGROUND if word in kwargs and word not in own and not takes_all]
    for word in (*options.background, *given):
        raise TypeError(
            f"{word} applies to background runs only, and this one of {options.name!r} runs in this process: "
            "use .delay() or .apply_async()"
        )


# -- readers ------------------------------------------------------------------------------------------


def _text(word: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{word} is a string, not {value!r}")
    return value


def _name(word: str, value: Any) -> str:
    if not _text(word, value):
        raise ValueError(f"{word} must not be empty")
    return str(value)


def _optional_text(word: str, value: Any) -> str:
    return "" if value is None else _text(word, value)


def _tags(word: str, value: Any) -> frozenset[str]:
    if value is None:
        return frozenset()
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError(f"{word} is a collection of strings, not {value!r}")
    return frozenset(_name("a tag", tag) for tag in value)


def _count(word: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{word} is a whole number, not {value!r}")
    if value < 0:
        raise ValueError(f"{word} must not be negative, not {value}")
    return _fitting(word, value)


def _fitting(word: str, value: int) -> int:
    """A whole number that the journal can hold."""
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{word} must fit in 64 bits, not {value}")
    return value


def _seconds(word: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{word} is a number of seconds, not {value!r}")
    if not 0 <= value < float("inf"):  # so that NaN is refused as well
        raise ValueError(f"{word} must be finite and not negative, not {value}")
    return float(value)


def _timeout(word: str, value: Any) -> float:
    if value is None:
        return 0.0
    seconds = _seconds(word, value)
    if not seconds:
        raise ValueError(f"{word} must be more than 0; None means no time-out")
    return seconds


def _flag(word: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{word} is True or False, not {value!r}")
    return value


def _integer(word: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{word} is a whole number, not {value!r}")
    return _fitting(word, value)


def _delays(word: str, value: Any) -> dict[str, Any]:
    """A pause, or one for each retry, or a function that gives them for a number of retries."""
    if callable(value):
        return {"retry_backoff": value}
    return {"retry_delays_s": _list_of_delays(word, value), "retry_backoff": None}


def _list_of_delays(word: str, value: Any) -> tuple[float, ...]:
    if value is None:
        return (0.0,)
    if not isinstance(value, (list, tuple)):
        return (_seconds(word, value),)
    if not 0 < len(value) <= DELAYS_MAX:
        raise ValueError(f"{word} is a list of 1 to {DELAYS_MAX} delays, not of {len(value)}")
    return tuple(_seconds(f"each of {word}", delay) for delay in value)


def _backed_off(backoff: Callable[[int], Any], retries: int) -> tuple[float, ...]:
    if not retries:
        return (0.0,)
    return _list_of_delays("what retry_delay_seconds gives", backoff(retries))


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """For `retry_delay_seconds`: the first pause is `backoff_factor` seconds, each next one twice as long."""
    first_s = _seconds("backoff_factor", backoff_factor)

    def delays(retries: int) -> list[float]:
        return [first_s * 2.0**i for i in range(min(retries, DELAYS_MAX))]

    return delays


def _serializer(word: str, value: Any) -> str:
    serializers.check(_text(word, value))
    return str(value)


def _cache_policy(word: str, value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, CachePolicy):
        raise TypeError(f"{word} is one of nbtasks.cache_policies, not {value!r}")
    return {"caching": Caching(value or NO_CACHE)}


def _cache_key_fn(word: str, value: Any) -> dict[str, Any]:
    if value is not None and not callable(value):
        raise TypeError(f"{word} is a function of (context, parameters), not {value!r}")
    return {} if value is None else {"caching": Caching(key_fn=value)}


def _duration(word: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else _seconds(word, value)
    if seconds <= 0:
        raise ValueError(f"{word} must be more than 0; None means as long as results are kept")
    return float(seconds)


def _moment(word: str, value: Any) -> float:
    """UNIX seconds of a datetime."""
    if not isinstance(value, datetime):
        raise TypeError(f"{word} is a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(f"{word} must say its time zone: datetime.now().astimezone() has one")
    return value.timestamp()


def _expires(word: str, value: Any) -> dict[str, Any]:
    if isinstance(value, datetime):
        return {"expires": 0.0, "expires_at": _moment(word, value)}
    if value is None:
        return {"expires": 0.0, "expires_at": 0.0}
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{word} is a number of seconds or a datetime, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{word} must be finite and more than 0, not {value}")
    return {"expires": float(value), "expires_at": 0.0}


def a_function(word: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise TypeError(f"{word} is a function, not {value!r}")
    return value  # type: ignore[no-any-return]


def _hooks(word: str, value: Any) -> tuple[Callable[..., Any], ...]:
    found = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return tuple(a_function(f"each of {word}", one) for one in found)


def _run_name(word: str, value: Any) -> Any:
    if not isinstance(value, str) and not callable(value):
        raise TypeError(f"{word} is a template or a function that gives a name, not {value!r}")
    return value


def _into(field: str, read: Callable[[str, Any], Any], empty: Any = ...) -> Callable[[str, Any], Any]:
    """Reads a value into this field; None stands for `empty`, if there is one."""

    def fields(word: str, value: Any) -> dict[str, Any]:
        return {field: empty if value is None and empty is not ... else read(word, value)}

    return fields


# word -> the fields that a value given for it sets
_READERS: dict[str, Callable[[str, Any], dict[str, Any]]] = {
    "name": _into("name", _name),
    "task_run_name": _into("run_name", _run_name, empty=None),
    "key": _into("key", _name),
    "description": _into("description", _optional_text),
    "tags": _into("tags", _tags),
    "version": _into("version", _optional_text),
    "retries": _into("retries", _count),
    "retry_delay_seconds": _delays,
    "retry_jitter_factor": _into("retry_jitter", _seconds, empty=0.0),
    "retry_condition_fn": _into("retry_condition", a_function, empty=None),
    "crash_retries": _into("crash_retries", _count),
    "timeout_seconds": _into("timeout_s", _timeout),
    "grace_s": _into("grace_s", _seconds),
    "log_prints": _into("log_prints", _flag),
    "result_serializer": _into("serializer", _serializer, empty="pickle"),
    "cache_policy": _cache_policy,
    "cache_key_fn": _cache_key_fn,
    "cache_expiration": _into("cache_s", _duration, empty=0.0),
    "refresh_cache": _into("refresh_cache", _flag),
    **{word: _into(word, _hooks, empty=()) for word in (RUNNING, *ENDS)},
    "priority": _into("priority", _integer),
    "eta": lambda word, value: {"eta": 0.0 if value is None else _moment(word, value), "countdown_s": 0.0},
    "countdown": lambda word, value: {"countdown_s": 0.0 if value is None else _seconds(word, value)},
    "expires": _expires,
    "idempotency_key": _into("idempotency_key", _name, empty=""),
    "worker_tags": _into("worker_tags", _tags),
    "sticky": _into("sticky", _name, empty=""),
}

OF_A_RUN = tuple(word for word in _READERS if word != "key")  # what one run may be given


def refuse_unknown(name: str, given: Iterable[str]) -> None:
    """Refuse what is no option of one run; nothing is ever ignored."""
    for word in given:
        if word not in OF_A_RUN:
            raise TypeError(_unknown(f"{name}.apply_async()", word, OF_A_RUN))


def _unknown(who: str, word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    hint = f": did you mean {close[0]!r}?" if close else f"; it has {', '.join(known)}"
    return f"{who} has no option {word!r}{hint}"


def spelled_out(function: F) -> F:
    """Decorates a function that takes any options, so that help and completion show each of them."""
    signature = inspect.signature(function)
    *parameters, _ = signature.parameters.values()
    parameters += [inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY, default=...) for word in _READERS]
    function.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return function


# -- surroundings -------------------------------------------------------------------------------------


def local_paths(directory: str | None = None) -> tuple[str, ...]:
    """The entries of `sys.path` that are the submitter's own, not the environment's; absolute.

    Parameters
    ----------
    directory
        The working directory, if it is known.
    """
    entries = tuple(sys.path)
    directory = working_directory() if directory is None else directory
    known = _local_paths.get((entries, directory))
    if known is None:
        found = (
            os.path.abspath(os.path.join(directory or "/", entry))
            for entry in entries
            if isinstance(entry, str)
        )
        known = tuple(dict.fromkeys(path for path in found if not _is_environment(path)))
        _local_paths.clear()
        _local_paths[entries, directory] = known
    return known


_local_paths: dict[tuple[Any, str], tuple[str, ...]] = {}


def working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was deleted


def _is_environment(path: str) -> bool:
    parts = Path(path).parts
    if "site-packages" in parts or "dist-packages" in parts or path.endswith(".zip"):
        return True
    # the standard library lies where its modules do, wherever the interpreter was installed
    return any(path == root or path.startswith(root + os.sep) for root in _stdlib())


def _stdlib() -> tuple[str, ...]:
    import sysconfig

    return tuple({os.path.abspath(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
