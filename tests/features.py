"""A pytest plugin that names the features without a passing test: `make features`.

A test of a feature carries `@pytest.mark.feature("T8")`; one that was skipped or failed counts for nothing.
"""

from __future__ import annotations

import pytest

ROWS = {"T": 18, "D": 11, "R": 7, "W": 9, "N": 8, "S": 6}  # letter -> how many rows
FEATURES = [f"{letter}{number}" for letter, rows in ROWS.items() for number in range(1, rows + 1)]
PROPERTY = "nbtasks feature"


class Features:
    """Counts the passing tests of each feature."""

    def __init__(self) -> None:
        self.passed = dict.fromkeys(FEATURES, 0)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            rows = {row for mark in item.iter_markers("feature") for row in mark.args}
            if unknown := rows - set(FEATURES):
                raise pytest.UsageError(f"{item.nodeid}: there is no feature {', '.join(sorted(unknown))}")
            # properties travel with the report, from whichever process runs the test
            item.user_properties += [(PROPERTY, row) for row in sorted(rows)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            for name, row in report.user_properties:
                if name == PROPERTY:
                    self.passed[str(row)] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        missing = [row for row, tests in self.passed.items() if not tests]
        terminalreporter.section("features")
        for letter in ROWS:
            rows = [f"{row}: {tests}" for row, tests in self.passed.items() if row.startswith(letter)]
            terminalreporter.line("passing tests of " + ", ".join(rows))
        terminalreporter.line(f"without a passing test: {', '.join(missing) or 'none'}")

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        is_part = hasattr(session.config, "workerinput")  # one of several processes has seen its own only
        if not exitstatus and not is_part and not all(self.passed.values()):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Features(), "nbtasks-features")
