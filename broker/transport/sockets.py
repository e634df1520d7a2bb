"""
The sockets of one session, so that closing the session is complete when it returns.

aiohttp starts to close a connection and does not wait: a TLS connection says good-bye first and stays open
until the peer answers or half a minute has passed, and the loop that is closed meanwhile leaves it open.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import weakref
from collections.abc import Callable
from typing import Protocol

from aiohttp import AddrInfoType

MAX_TURNS = 200
"""Turns of the loop; what has been shut down or cancelled is gone after a few, so this is never used up."""


async def turns_until(done: Callable[[], bool]) -> None:
    """Let the loop turn until *done* says so, or for ``MAX_TURNS``: waits for callbacks, not for time."""
    for _ in range(MAX_TURNS):
        if done():
            return
        await asyncio.sleep(0)


class HasFileDescriptor(Protocol):
    """A socket, or what a transport of a loop gives for one."""

    def fileno(self) -> int:
        """Give the descriptor, -1 when it is closed."""


def is_left(connection: HasFileDescriptor | None) -> bool:
    """
    Say whether the peer has ended *connection*, also where the loop had no time yet to read of it.

    A look at the kernel's state that takes microseconds: what was idle is often closed just when it is
    used again, and what is then written is lost, or worse, may not be.
    """
    if connection is None or connection.fileno() < 0:
        return connection is not None
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


class Sockets:
    """Makes sockets, and remembers those that are open."""

    def __init__(self) -> None:
        self._made: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def make(self, address: AddrInfoType) -> socket.socket:
        """Make a socket for *address*: the ``socket_factory`` of an aiohttp connector."""
        family, kind, protocol, _name, _address = address
        made = socket.socket(family, kind, protocol)
        self._made.add(made)
        return made

    def open(self) -> list[socket.socket]:
        """Give those that are not closed yet."""
        return [made for made in self._made if made.fileno() >= 0]

    async def end(self) -> None:
        """Shut down what is open, and return when its transports have closed it."""
        for made in self.open():
            with contextlib.suppress(OSError):  # not connected, or no longer
                made.shutdown(socket.SHUT_RDWR)
        await turns_until(lambda: not self.open())
