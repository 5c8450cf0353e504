"""What travels by value and cloudpickle does not know how, or not fully."""

from __future__ import annotations

import enum
import types
from typing import Any


def with_slots(cls: type, reduction: tuple[Any, ...]) -> tuple[Any, ...]:
    """What cloudpickle makes of a class, with the slots of its instances from the first on.

    Slots are fixed when a class is made, and cloudpickle gives it its attributes later: its instances would
    have a `__dict__` there, and come back with a state that the class here refuses.
    """
    if "__slots__" not in vars(cls) or issubclass(cls, (enum.Enum, tuple)) or _is_made_elsewhere(cls):
        return reduction  # an enum has another reduction, and what is a tuple has no slots
    make, (metaclass, name, bases, namespace, *more), *rest = reduction
    namespace = {**namespace, "__slots__": _slots(cls)}
    return make, (metaclass, name, bases, namespace, *more), *rest


def _is_made_elsewhere(cls: type) -> bool:
    """Whether a compiled metaclass makes the slots, and takes none: as that of msgspec's Structs."""
    make: Any = type(cls).__new__
    return make is not type.__new__ and not isinstance(make, types.FunctionType)


def _slots(cls: type) -> tuple[str, ...]:
    """Under the names that they have in the class, private ones with its name before them.

    They are copies, for what is shared by chance would make equal classes unequal bytes.
    """
    kinds = (types.MemberDescriptorType, types.GetSetDescriptorType)
    return tuple(
        "".join(name)
        for name, attribute in vars(cls).items()
        if isinstance(attribute, kinds) and attribute.__objclass__ is cls
    )
