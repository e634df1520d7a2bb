"""Sockets that were opened for us: taken if they are what the configuration says, refused all at once if not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.hostenv.activation import inherit
from broker.hostenv.supervision import Inherited


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def handed(stack: ExitStack, name: str, kind: socket.socket) -> Inherited:
    """Give *kind* away as a service manager does: inheritable, blocking, and only the number is known."""
    stack.enter_context(kind)
    descriptor = os.dup(kind.fileno())
    os.set_inheritable(descriptor, True)
    return Inherited(name=name, descriptor=descriptor)


def listening(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, kind)
    made.bind(str(path))
    if kind != socket.SOCK_DGRAM:
        made.listen()
    return made


def test_a_socket_is_taken_and_kept_from_children(tmp_path: Path, stack: ExitStack):
    """It does not block, and a child does not inherit it."""
    path = tmp_path / "api.sock"
    one = handed(stack, "app", listening(path))

    sockets, errors = inherit([one], {"app": path, "other": tmp_path / "b"})

    assert errors == []
    with sockets["app"] as taken:
        assert taken.fileno() == one.descriptor
        assert not taken.getblocking()
        assert not taken.get_inheritable()
        assert taken.getsockname() == str(path)


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path, stack: ExitStack):
    """Each with the listener, and what to write where."""
    path = tmp_path / "api.sock"
    unbound = socket.socket(socket.AF_UNIX)
    tcp = socket.create_server(("127.0.0.1", 0))
    file = os.open(tmp_path, os.O_RDONLY)
    given = [
        handed(stack, "appp", listening(tmp_path / "1")),
        handed(stack, "app", listening(tmp_path / "2")),
        handed(stack, "app", listening(tmp_path / "3", socket.SOCK_DGRAM)),
        handed(stack, "app", listening(tmp_path / "4", socket.SOCK_SEQPACKET)),
        handed(stack, "app", unbound),
        handed(stack, "app", tcp),
        Inherited(name="app", descriptor=file),
        Inherited(name="app", descriptor=1_000_000),
    ]

    sockets, errors = inherit(given, {"app": path, "second": tmp_path / "b"})
    os.close(given[0].descriptor)
    os.close(file)

    assert sockets == {}
    assert [error.code for error in errors] == ["listener_inherited_unknown", *["listener_inherited_unfit"] * 7]
    assert errors[0].hint == "write FileDescriptorName=app into token-broker.socket"
    assert "another path" in errors[1].message
    assert f"ListenStream={path}" in (errors[1].hint or "")
    assert ["stream" in error.message for error in errors[2:4]] == [True, True]
    assert "does not listen" in errors[4].message
    assert "no Unix socket" in errors[5].message
    assert all("no open socket" in error.message for error in errors[6:])


def test_two_sockets_for_one_listener_are_refused(tmp_path: Path, stack: ExitStack):
    """One of them would never be served."""
    path = tmp_path / "api.sock"
    first = listening(path)
    given = [handed(stack, "app", first), Inherited(name="app", descriptor=os.dup(first.fileno()))]

    sockets, errors = inherit(given, {"app": path})
    sockets["app"].close()
    os.close(given[1].descriptor)

    assert ["came twice" in error.message for error in errors] == [True]


def test_where_no_listener_can_have_one_that_is_said(tmp_path: Path, stack: ExitStack):
    """Only TCP is configured."""
    one = handed(stack, "app", listening(tmp_path / "api.sock"))

    _, errors = inherit([one], {})
    os.close(one.descriptor)

    assert [error.hint for error in errors] == ["the configuration has no Unix listener"]
