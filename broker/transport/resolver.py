"""
Names to addresses: in threads of our own, in bounded time, and never to a link-local or metadata address.

``getaddrinfo`` blocks for as long as the name servers please and cannot be interrupted. Each session has
its own resolver, so that the dead name server of one issuer holds up no other; the threads are daemons,
because the interpreter joins the threads of an executor at exit and a lookup would hold up the stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from broker.oauth.endpoint_urls import is_never_dialed

DNS_TIMEOUT = 6.0
"""Seconds for one lookup: the C library asks its second name server after 5, and that one may be alive."""

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
Lookup = Callable[[str, int, int], Sequence[AddressInfo]]
"""Resolves host, port and address family, blocking. Raises OSError."""


class AddressRefusedError(OSError):
    """All addresses of a name are ones that are never dialed."""


def look_up(host: str, port: int, family: int) -> Sequence[AddressInfo]:
    """Ask the C library; only for address families that this machine has. Blocks. Raises OSError."""
    return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)


class Resolver(AbstractResolver):
    """
    An aiohttp resolver with bounded patience and a filter.

    There is at most one thread for each name: a second question for a name joins the first, so that a
    name server that does not answer collects no threads.
    """

    def __init__(self, *, timeout: float = DNS_TIMEOUT, lookup: Lookup = look_up) -> None:
        self._timeout = timeout
        self._lookup = lookup
        self._running: dict[tuple[str, int, int], asyncio.Future[Sequence[AddressInfo] | OSError]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """
        Give the addresses of *host* that may be dialed.

        Raises OSError when there is none in time, AddressRefusedError when there are only refused ones.
        """
        try:
            async with asyncio.timeout(self._timeout):
                answer = await asyncio.shield(self._ask(host, port, family))
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "the name server did not answer in time") from None
        if isinstance(answer, OSError):
            raise answer
        found = [_result(host, info) for info in answer]
        allowed = [result for result in found if not is_never_dialed(result["host"])]
        if found and not allowed:
            raise AddressRefusedError
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        return allowed

    async def close(self) -> None:
        """Forget the lookups under way; their threads end by themselves and hold up nothing."""
        for future in self._running.values():
            future.cancel()
        self._running.clear()

    def _ask(self, host: str, port: int, family: int) -> asyncio.Future[Sequence[AddressInfo] | OSError]:
        key = (host, port, family)
        running = self._running.get(key)
        if running is not None:
            return running
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[AddressInfo] | OSError] = loop.create_future()
        future.add_done_callback(lambda _: self._running.pop(key, None))
        self._running[key] = future
        threading.Thread(target=self._work, args=(key, future), name="resolver", daemon=True).start()
        return future

    def _work(self, key: tuple[str, int, int], future: asyncio.Future[Sequence[AddressInfo] | OSError]) -> None:
        answer: Sequence[AddressInfo] | OSError
        try:
            answer = self._lookup(*key)
        except OSError as error:
            answer = error
        except UnicodeError:  # a label that IDNA refuses: too long, or empty
            answer = socket.gaierror(socket.EAI_NONAME, "the name is not one that DNS can hold")
        with contextlib.suppress(RuntimeError):  # the loop was closed while the name server thought
            future.get_loop().call_soon_threadsafe(_deliver, future, answer)


def _deliver(future: asyncio.Future[Sequence[AddressInfo] | OSError], answer: Sequence[AddressInfo] | OSError) -> None:
    if not future.done():
        future.set_result(answer)


def _result(host: str, info: AddressInfo) -> ResolveResult:
    family, _type, protocol, _name, address = info
    return ResolveResult(
        hostname=host,
        host=address[0],
        port=address[1],
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
