"""The settings of a home: defaults, then the home's `settings.toml`, then `NBTASKS_<NAME>`.

Every bound that a user may move is named here, with its unit and its meaning.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the owner of a home may set; durations in seconds, sizes in bytes."""

    queue_limit: int = 200_000  # live runs; more are refused with QueueFull
    start_broker: bool = (
        True  # tasks and runs start a broker that is not there; `connect()` does as it is told
    )
    idle_stop_s: float = 900.0  # without clients and live runs, pools that do not stay end, then the broker
    drain_s: float = 30.0  # for running code when a broker or a pool is asked to stop
    durability: Literal["process", "power"] = "process"  # recorded runs survive kill -9, or a power cut too
    output_bytes_max: int = 10_000_000  # of output kept per attempt
    output_tail_bytes: int = (
        1_000_000  # of it kept from the end (the middle is cut out); more than all counts as all
    )
    payload_cache_bytes: int = 64 * 2**20  # arguments that the broker keeps at hand, and as much code
    runs_listed_max: int = 1000  # rows in one answer to a listing
    retention_days: float = 30.0  # finished runs leave the journal so long after their end; 0: never
    retention_bytes: int = 5_000_000_000  # and the oldest ones earlier if it would be larger; 0: no bound

    def __post_init__(self) -> None:
        for name in ("queue_limit", "output_bytes_max", "runs_listed_max"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in (
            "idle_stop_s",
            "drain_s",
            "payload_cache_bytes",
            "output_tail_bytes",
            "retention_days",
            "retention_bytes",
        ):
            if not getattr(self, name) >= 0:  # so that NaN is refused as well
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")


def home_path(home: str | os.PathLike[str] | None = None) -> Path:
    """The directory of a broker: `home`, else `NBTASKS_HOME`, else the user's data directory.

    Returns
    -------
    An absolute path without symbolic links, so that every name of a home leads to the same broker.
    """
    chosen = os.fspath(home) if home is not None else os.environ.get("NBTASKS_HOME", "")
    if chosen:
        return Path(os.path.realpath(os.path.expanduser(chosen)))
    import platformdirs

    return Path(os.path.realpath(platformdirs.user_data_dir("nbtasks", appauthor=False)))


def load(home: str | os.PathLike[str]) -> Settings:
    """Read the settings of a home.

    Raises
    ------
    ValueError
        A value is unknown, of the wrong type or out of its range; the message says where it stands.
    """
    path = Path(home) / "settings.toml"
    values = _from_file(path)
    sources = dict.fromkeys(values, str(path))
    for name in Settings.__struct_fields__:
        variable = f"NBTASKS_{name.upper()}"
        if variable in os.environ:
            values[name], sources[name] = os.environ[variable], variable
    for name, value in values.items():
        if name not in Settings.__struct_fields__:
            raise ValueError(f"{sources[name]}: there is no setting {name!r}")
        _convert({name: value}, f"{sources[name]}: {name} = {value!r}")
    return _convert(values, ", ".join(sorted(set(sources.values()))))


def _convert(values: dict[str, Any], where: str) -> Settings:
    try:
        # not strict, because everything in the environment is text
        return msgspec.convert(values, Settings, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _from_file(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}  # whoever opens the home says what is wrong with that
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
