"""
A pytest plugin for places where every test must run: a skipped test fails the run.

Loaded by name (``-p tests.no_skips``), so that no test file can switch it off. It lists what was skipped and
why, and makes the exit code that of failed tests. An expected failure (xfail) is no skip.
"""

from __future__ import annotations

import pytest

HEADING = "skipped, though every test must run here"


class NoSkips:
    """Remembers skipped tests and modules; under xdist their reports arrive at the controller, which decides."""

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a test that was skipped."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note a file that was skipped as a whole."""
        if report.skipped:
            self._note(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that would have passed."""
        if self.skipped and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which, and why."""
        if self.skipped:
            terminalreporter.section(HEADING, red=True)
            for nodeid, reason in sorted(self.skipped.items()):
                terminalreporter.line(f"{nodeid}: {reason}")

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        where = report.longrepr
        self.skipped[report.nodeid] = str(where[2]) if isinstance(where, tuple) else str(where)


def pytest_configure(config: pytest.Config) -> None:
    """Watch this run."""
    config.pluginmanager.register(NoSkips(), "no-skips")
