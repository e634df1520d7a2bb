"""Name servers for tests: one that finds what it is told to, and one that does not answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence

from broker.transport.resolver import AddressInfo, Lookup


def found(*addresses: str, port: int = 443) -> list[AddressInfo]:
    """Make what ``getaddrinfo`` gives."""
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
        if ":" in address
        else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
        for address in addresses
    ]


def finds(*addresses: str, port: int = 443) -> Lookup:
    """Make a lookup that finds *addresses* for whatever name."""

    def lookup(host: str, _port: int, family: int) -> Sequence[AddressInfo]:
        return found(*addresses, port=port)

    return lookup


class DeadNameServer:
    """A lookup that takes until the test lets it go."""

    def __init__(self) -> None:
        self.asked = 0
        self.released = threading.Event()

    def __call__(self, host: str, port: int, family: int) -> Sequence[AddressInfo]:
        self.asked += 1
        self.released.wait(10)
        return found("192.0.2.1")


@contextlib.contextmanager
def dead_name_server() -> Iterator[DeadNameServer]:
    server = DeadNameServer()
    try:
        yield server
    finally:
        server.released.set()
