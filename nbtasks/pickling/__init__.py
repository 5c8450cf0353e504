"""The one door to pickles; only clients and workers come here, broker and pool carry the bytes unopened."""

from nbtasks.pickling.blame import REPR_CHARACTERS_MAX, safe_repr
from nbtasks.pickling.failures import RemoteTraceback, dump_failure, load_failure
from nbtasks.pickling.frozen import Frozen
from nbtasks.pickling.offered import Offered
from nbtasks.pickling.preview import preview
from nbtasks.pickling.upstream import NamedOutput, allow_failure, given, quote
from nbtasks.pickling.values import (
    PROTOCOL,
    dump,
    dump_arguments,
    dump_function,
    dump_result,
    dump_values,
    dumps,
    freeze,
    load,
    load_arguments,
    load_function,
    load_result,
)

__all__ = [
    "PROTOCOL",
    "REPR_CHARACTERS_MAX",
    "Frozen",
    "NamedOutput",
    "Offered",
    "RemoteTraceback",
    "allow_failure",
    "dump",
    "dump_arguments",
    "dump_failure",
    "dump_function",
    "dump_result",
    "dump_values",
    "dumps",
    "freeze",
    "given",
    "load",
    "load_arguments",
    "load_failure",
    "load_function",
    "load_result",
    "preview",
    "quote",
    "safe_repr",
]
