from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable

import pytest

from broker.transport.sockets import MAX_TURNS, Sockets, is_left, turns_until
from tests.unit.transport.servers import Connection, serving


def address(port: int) -> tuple[int, int, int, str, tuple[str, int]]:
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)


@pytest.mark.real_time
async def test_a_socket_is_open_until_its_transport_has_closed_it():
    """Shutting it down makes the transport do so, without waiting for the peer."""

    async def handler(connection: Connection) -> None:
        await asyncio.sleep(60)

    async with serving(handler) as server:
        sockets = Sockets()
        made = sockets.make(address(server.port))
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", server.port))
        await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=made)

        before = sockets.open()
        await sockets.end()

        assert before == [made]
        assert sockets.open() == []


@pytest.mark.real_time
async def test_a_socket_that_nobody_connected_does_not_hold_up_the_end():
    """Its owner has not closed it, and will not because we ask."""
    sockets = Sockets()
    made = sockets.make(address(1))

    await sockets.end()

    assert sockets.open() == [made]
    made.close()


def test_sockets_are_not_kept_alive():
    """Who made a million connections does not remember a million sockets."""
    sockets = Sockets()
    sockets.make(address(1)).close()

    gc.collect()

    assert len(sockets._made) == 0


def counting(turns: list[int], enough: int) -> Callable[[], bool]:
    def done() -> bool:
        turns.append(len(turns))
        return len(turns) > enough

    return done


async def test_waiting_ends_with_what_is_waited_for():
    """Not a turn later."""
    turns: list[int] = []

    await turns_until(counting(turns, 3))

    assert len(turns) == 4


async def test_waiting_is_bounded():
    """What never happens does not hold up the stop."""
    turns: list[int] = []

    await turns_until(counting(turns, 10 * MAX_TURNS))

    assert len(turns) == MAX_TURNS


def test_a_connection_is_left_as_soon_as_the_kernel_knows():
    """Not while it is open, nor for what waits on it to be read."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not is_left(ours)
        theirs.send(b"x")
        assert not is_left(ours)
        theirs.close()
        assert is_left(ours)
    assert is_left(ours)
    assert not is_left(None)
