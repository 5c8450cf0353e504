"""In which order the files of these tests go: with several at a time, the longest must not come last."""

from __future__ import annotations

import pytest

# by what they take, not by how many tests they hold
LONGEST = (
    "test_tools",
    "test_soak",
    "test_far_runners",
    "test_output_notebook",
    "test_nested",
    "test_widgets",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
