"""
Coroutine tests, without a plugin.

A test under ``tests/unit`` runs on a loop whose clock jumps to the next timer, so that an hour passes in a
moment and no test sleeps. Every other test runs on an ordinary loop.
"""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path

import pytest

from tests.jumping import JumpingLoop

UNIT = Path(__file__).parent / "unit"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end on a loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    jumps = UNIT in Path(pyfuncitem.path).parents and pyfuncitem.get_closest_marker("real_time") is None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    # Not in debug mode, which remembers a stack for each callback and makes long stories take eight times as long:
    # PYTHONASYNCIODEBUG=1 turns it on.
    with asyncio.Runner(loop_factory=JumpingLoop if jumps else None) as runner:
        runner.run(pyfuncitem.obj(**arguments))
    return True


def pytest_configure(config: pytest.Config) -> None:
    """Declare our markers."""
    config.addinivalue_line("markers", "real_time: a unit test with real sockets: its loop's clock does not jump")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests gave to ``record_property("table", ...)``: figures for people, from whichever worker."""
    for report in [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]:
        for table in (value for name, value in report.user_properties if name == "table"):
            terminalreporter.write_sep("-", report.nodeid)
            terminalreporter.write_line(str(table))
