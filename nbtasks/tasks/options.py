"""What a task may be told besides its function: checked where it is written, not where it is used."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

# options that mean something in the background only; in a decorator they wait for the first `.delay()`
BACKGROUND = ("crash_retries", "priority", "eta", "countdown", "expires", "idempotency_key")
RESERVED = ("wait_for", "return_state", "deferred")  # keywords of ours, which would hide a parameter


class Unset(msgspec.Struct, frozen=True):
    """The value of an option that was not given."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET: Any = Unset()


class Options(msgspec.Struct, frozen=True):
    """The options of one task, whole and valid."""

    name: str
    key: str
    description: str
    tags: frozenset[str] = frozenset()
    version: str = ""
    retries: int = 0
    retry_delay_s: float = 0.0
    crash_retries: int = 0
    timeout_s: float = 0.0  # 0: none
    grace_s: float = 3.0
    log_prints: bool = False
    background: tuple[str, ...] = ()  # which of BACKGROUND were given to `with_options`


def initial(function: Callable[..., Any]) -> Options:
    """The options of a task about which nothing was said."""
    doc = inspect.getdoc(function) if not isinstance(function, type) else None
    return Options(name=_name_of(function), key=key_of(function), description=doc or "")


def changed(options: Options, given: dict[str, Any]) -> Options:
    """The options with those that were given, by the names that users write.

    Raises
    ------
    TypeError, ValueError
        An option has the wrong type or is out of its range; the message names it.
    """
    values: dict[str, Any] = {}
    for word, value in given.items():
        if value is not UNSET:
            field, read = _READERS[word]
            values[field] = read(word, value)
    return msgspec.structs.replace(options, **values)


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


_READERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "name": ("name", _name),
    "key": ("key", _name),
    "description": ("description", _optional_text),
    "tags": ("tags", _tags),
    "version": ("version", _optional_text),
    "retries": ("retries", _count),
    "retry_delay_seconds": ("retry_delay_s", _seconds),
    "crash_retries": ("crash_retries", _count),
    "timeout_seconds": ("timeout_s", _timeout),
    "grace_s": ("grace_s", _seconds),
    "log_prints": ("log_prints", _flag),
}


OF_A_RUN = tuple(word for word in _READERS if word != "key")  # what one run may be given


def refuse_unknown(name: str, given: Iterable[str]) -> None:
    """Refuse what is no option of one run; nothing is ever ignored."""
    for word in given:
        if word not in OF_A_RUN:
            raise TypeError(f"{name}.apply_async() has no option {word!r}; it has {', '.join(OF_A_RUN)}")


# -- identity -----------------------------------------------------------------------------------------


def key_of(function: Callable[..., Any]) -> str:
    """What tells a task from others, the same in every process that has its code: `module:qualname`.

    The module of a script is its file's stem, as if it were imported; that of a notebook is "notebook".
    """
    module = getattr(function, "__module__", None) or type(function).__module__
    return f"{_main_module() if module == '__main__' else module}:{_qualname_of(function)}"


def _main_module() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name).removesuffix(".__main__")  # started by `python -m`
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "notebook"


def _qualname_of(function: Any) -> str:
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def _name_of(function: Any) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else type(function).__name__


def source_digest(function: Callable[..., Any]) -> str:
    """A short digest of the function's source, for people who ask which version ran; "" if there is none."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError, ValueError):
        return ""
    return hashlib.blake2b(source.encode("utf-8", "replace"), digest_size=6).hexdigest()


# -- surroundings -------------------------------------------------------------------------------------


def local_paths() -> tuple[str, ...]:
    """The entries of `sys.path` that are the submitter's own, not the environment's; absolute."""
    entries = tuple(sys.path)
    directory = working_directory()
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
