"""Telling the service manager: one datagram each, and trouble is told once."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from broker.events import NotificationFailed
from broker.hostenv.notify import Notifier, send_datagram
from tests.fakes import Events


class Line:
    """Takes what is sent, or fails."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.failure: OSError | None = None

    def __call__(self, address: str, message: bytes) -> None:
        assert address == "/run/notify"
        if self.failure is not None:
            raise self.failure
        self.sent.append(message.decode())


def test_each_state_is_told_as_the_protocol_has_it():
    """sd_notify(3): assignments on lines of their own, times in microseconds."""
    line = Line()
    notifier = Notifier("/run/notify", Events(), send=line)

    notifier.ready("Serving\nSTOPPING=1")
    notifier.reloading(12.5)
    notifier.stopping(30.0)
    notifier.alive()

    assert line.sent == [
        "READY=1\nSTATUS=Serving STOPPING=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000\nSTATUS=Loading the configuration",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=Draining",
        "WATCHDOG=1",
    ]


def test_without_a_service_manager_nothing_is_sent():
    """As in a container, or by hand."""
    line = Line()

    Notifier(None, Events(), send=line).alive()

    assert line.sent == []


def test_one_that_does_not_hear_is_reported_once_an_outage():
    """The log says why we are going to be killed."""
    line, events = Line(), Events()
    notifier = Notifier("/run/notify", events, send=line)

    line.failure = OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    notifier.alive()
    notifier.alive()
    line.failure = None
    notifier.alive()
    line.failure = OSError("of no number")
    notifier.alive()

    assert events.seen == [NotificationFailed(reason="ECONNREFUSED"), NotificationFailed(reason="unknown")]
    assert line.sent == ["WATCHDOG=1"]


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_datagram_arrives(tmp_path: Path, kind: str):
    """At a path and at an abstract name."""
    address = str(tmp_path / "n") if kind == "path" else f"@token-broker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address if kind == "path" else f"\0{address[1:]}")
        listener.settimeout(5.0)
        send_datagram(address, b"READY=1")

        assert listener.recv(100) == b"READY=1"
