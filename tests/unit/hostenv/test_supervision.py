"""What a service manager tells: read strictly, and only what was meant for us."""

from __future__ import annotations

import pytest

from broker.errors import LocalError
from broker.hostenv.supervision import UNSUPERVISED, Inherited, Supervision, supervision_of

PID = 4711
SOCKETS = {"LISTEN_PID": "4711", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "app:other"}


def test_everything_that_was_meant_for_us_is_read():
    """Descriptors are counted from 3; the time is in microseconds."""
    told = supervision_of(
        {**SOCKETS, "NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_PID": "4711", "WATCHDOG_USEC": "2500000"}, PID
    )

    assert told == Supervision(
        inherited=(Inherited(name="app", descriptor=3), Inherited(name="other", descriptor=4)),
        notify_socket="/run/systemd/notify",
        watchdog_seconds=2.5,
    )


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {**SOCKETS, "LISTEN_PID": "4712"},
        {**SOCKETS, "LISTEN_PID": ""},
        {"LISTEN_FDS": "1"},
        {**SOCKETS, "LISTEN_FDS": "0"},
        {"WATCHDOG_PID": "4712", "WATCHDOG_USEC": "1"},
        {"NOTIFY_SOCKET": ""},
    ],
)
def test_what_was_meant_for_another_process_is_nothing(variables: dict[str, str]):
    """A shell in between, say, may have got it first."""
    assert supervision_of(variables, PID) == UNSUPERVISED


def test_a_watchdog_without_a_process_is_meant_for_us():
    """sd_watchdog_enabled(3)."""
    assert supervision_of({"WATCHDOG_USEC": "1000000"}, PID).watchdog_seconds == 1.0


def test_sockets_without_names_are_called_unknown():
    """As sd_listen_fds_with_names(3) calls them."""
    told = supervision_of({"LISTEN_PID": "4711", "LISTEN_FDS": "1"}, PID)

    assert [one.name for one in told.inherited] == ["unknown"]


def test_a_notify_socket_may_be_abstract():
    """The service manager of a user has such a one."""
    assert supervision_of({"NOTIFY_SOCKET": "@name"}, PID).notify_socket == "@name"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({**SOCKETS, "LISTEN_FDS": "-1"}, "LISTEN_FDS"),
        ({**SOCKETS, "LISTEN_FDS": "1025"}, "LISTEN_FDS"),
        ({**SOCKETS, "LISTEN_PID": "4711 "}, "LISTEN_PID"),
        ({**SOCKETS, "LISTEN_FDNAMES": "app"}, "LISTEN_FDNAMES"),
        ({"WATCHDOG_USEC": "0"}, "WATCHDOG_USEC"),
        ({"WATCHDOG_USEC": "1s"}, "WATCHDOG_USEC"),
        ({"WATCHDOG_USEC": "1" * 21}, "WATCHDOG_USEC"),
        pytest.param({**SOCKETS, "LISTEN_PID": "1" * 5_000}, "LISTEN_PID", id="thousands of digits"),
        ({"WATCHDOG_USEC": "\N{SUPERSCRIPT TWO}"}, "WATCHDOG_USEC"),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, "NOTIFY_SOCKET"),
        ({"NOTIFY_SOCKET": "@"}, "NOTIFY_SOCKET"),
    ],
)
def test_nonsense_is_refused_with_the_name_of_the_variable(variables: dict[str, str], named: str):
    """Guessing could mean a watchdog that is never fed."""
    with pytest.raises(LocalError) as caught:
        supervision_of(variables, PID)

    assert caught.value.code == "supervision_invalid"
    assert named in caught.value.message
