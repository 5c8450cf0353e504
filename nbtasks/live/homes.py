"""How a saved notebook names a home: so that it is known again, and its path is not told."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_CHARACTERS = 16


def digest(home: Path) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:_CHARACTERS]
