"""Tests of ``broker/cli/children.py``: real processes, that never outlive what started them."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.cli import children
from broker.cli.children import Child, StoppedError, Stopping, start, stoppable, wait_until
from broker.errors import LocalError

pytestmark = pytest.mark.real_time

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


def started(command: tuple[str, ...], directory: Path, stack: ExitStack, stopping: Stopping | None = None) -> Child:
    return start("sleeper", command, log=directory / "log", stack=stack, stopping=stopping or Stopping())


def test_a_child_ends_with_its_stack(tmp_path: Path):
    """By SIGTERM, and it is waited for: no zombie stays."""
    with ExitStack() as stack:
        child = started(SLEEPER, tmp_path, stack)
        child.check()

    assert child.process.returncode == -signal.SIGTERM


def test_a_child_ends_when_its_parent_fails(tmp_path: Path):
    """Whatever the exception is."""
    begun: list[Child] = []

    def command() -> None:
        with ExitStack() as stack:
            begun.append(started(SLEEPER, tmp_path, stack))
            raise StoppedError

    with pytest.raises(StoppedError):
        command()

    assert begun[0].process.returncode is not None


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path):
    """After a deadline; nobody waits for ever."""
    with ExitStack() as stack:
        child = started((sys.executable, "-c", STUBBORN), tmp_path, stack)
        wait_until(lambda: child.log.read_bytes() == b"deaf\n", child, deadline=20)
        child.end(patience=0.05)

        assert child.process.returncode == -signal.SIGKILL


def test_a_child_that_ended_is_noticed_with_its_last_words(tmp_path: Path):
    """The code, and the last line of its log as the hint."""
    with ExitStack() as stack:
        child = started(
            (sys.executable, "-c", "print('first'); print('the reason'); raise SystemExit(3)"), tmp_path, stack
        )

        with pytest.raises(LocalError) as caught:
            wait_until(lambda: False, child, deadline=20)

    assert caught.value.code == "child_ended"
    assert "code 3" in caught.value.message
    assert caught.value.hint == "it said last:\n  first\n  the reason"


def test_a_child_that_is_not_ready_in_time_is_an_error(tmp_path: Path):
    """The wait is bounded."""
    with ExitStack() as stack:
        child = started(SLEEPER, tmp_path, stack)

        with pytest.raises(LocalError) as caught:
            wait_until(lambda: False, child, deadline=0.0)

    assert caught.value.code == "child_not_ready"


def test_a_command_that_does_not_exist_is_an_error(tmp_path: Path):
    """Not a traceback."""
    with ExitStack() as stack, pytest.raises(LocalError) as caught:
        started((str(tmp_path / "nothing"),), tmp_path, stack)

    assert caught.value.code == "child_not_started"


def test_children_do_not_get_the_terminal_s_signals(tmp_path: Path):
    """A session of their own: Ctrl-C reaches the parent, who ends them in order."""
    with ExitStack() as stack:
        child = started(SLEEPER, tmp_path, stack)

        assert os.getsid(child.process.pid) == child.process.pid


@pytest.mark.parametrize("number", children.ENDING_SIGNALS)
def test_a_signal_stops_what_is_stoppable(number: signal.Signals):
    """As an exception that no handler of failures takes for one; the handlers of before come back."""
    before = signal.getsignal(number)

    def command() -> None:
        with stoppable():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(StoppedError):
        command()

    assert signal.getsignal(number) is before
    assert not issubclass(StoppedError, Exception)


def test_a_signal_while_a_child_is_being_started_waits():
    """Else the child would be forgotten between its start and its registration."""
    reached = []

    def command() -> None:
        with stoppable() as stopping:
            with stopping.held():
                os.kill(os.getpid(), signal.SIGTERM)
                reached.append("end of the start")
            reached.append("after")

    with pytest.raises(StoppedError):
        command()

    assert reached == ["end of the start"]


def test_signals_do_not_disturb_the_end():
    """A second Ctrl-C while children are being ended does nothing."""
    with stoppable() as stopping:
        stopping.hold()
        os.kill(os.getpid(), signal.SIGINT)
