"""
Accepting connections, and ending them: what every kind of listener has in common.

The loop's own server would log a traceback for every connection it cannot accept for want of descriptors,
and knows neither who connects nor whether it may. So sockets are accepted here, the peer is asked for and
judged, and only then does a connection cost anything.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from broker.api import problems
from broker.api.activity import Activity
from broker.api.limits import Admission, ConnectionLedger, Limits
from broker.api.protocol import Engine, Front
from broker.events import AcceptFailed, Emit
from broker.policy.peer import Peer

ACCEPT_PAUSE = 1.0
"""Seconds without accepting after the system refused: connections wait in the backlog meanwhile."""

AT_ONCE = 256
"""Connections to accept before looking up: as many as the backlog of a socket holds when the service stops."""

READ_ROUNDS = 2
"""Rounds of the loop: what lies in the sockets' buffers is read in the first and noticed in the second."""

END_ROUNDS = 3
"""Rounds of the loop in which the tasks of ended connections end: handler, aiohttp's task of it, its parent."""

ABORT_TIME = 5.0
"""Seconds that cancelled handlers may take to clean up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """
    A listening socket.

    *identify* says who is at the other end of a connection, or raises OSError; *is_stranger* whether that is
    somebody who may have nothing here.
    """

    name: str
    sock: socket.socket
    identify: Callable[[socket.socket], Peer]
    is_stranger: Callable[[Peer], bool] = lambda _peer: False


class Service:
    """Serves a desk on listening sockets, once: run, then drain."""

    def __init__(self, desk: Front, *, limits: Limits, emit: Emit, accept_pause: float = ACCEPT_PAUSE) -> None:
        """To be made on the running loop."""
        self._desk = desk
        self._emit = emit
        self._engine = Engine(desk, limits)
        self._accept_pause = accept_pause
        self._ledger = ConnectionLedger(limits)
        self._acceptors: set[asyncio.Event] = set()
        self._accepting = Activity()
        self._stopping = asyncio.Event()

    async def run(self, listening: Sequence[Listening]) -> None:
        """Accept on all sockets until ``drain``, or until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in listening:
                group.create_task(self._accept(one), name=f"accept {one.name}")

    async def drain(self, seconds: float) -> None:
        """
        Stop accepting, answer what has arrived, and end every connection within *seconds*.

        Connections that the kernel has taken for us already are accepted first. Returns when no connection
        and no task of one is left.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        self._stopping.set()
        for ready in self._acceptors:
            ready.set()
        await self._accepting.quiet(ends_at - loop.time())
        for _ in range(READ_ROUNDS):
            await asyncio.sleep(0)
        self._engine.drain()
        if not await self._engine.activity.quiet(ends_at - loop.time()):
            self._engine.abort()
            await self._engine.activity.quiet(ABORT_TIME)
        for _ in range(END_ROUNDS):
            await asyncio.sleep(0)

    async def _accept(self, listening: Listening) -> None:
        """Accept on one socket until the service stops."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        self._acceptors.add(ready)
        self._accepting.begin()
        loop.add_reader(listening.sock, ready.set)
        failing = False
        try:
            while not self._stopping.is_set():
                await ready.wait()
                ready.clear()
                try:
                    failing = await self._take_pending(listening) and failing
                except OSError as error:
                    if not failing:
                        self._emit(AcceptFailed(listener=listening.name, reason=_name(error)))
                    failing = True
                    await self._pause(listening, ready)
        finally:
            loop.remove_reader(listening.sock)
            self._acceptors.discard(ready)
            self._accepting.end()

    async def _take_pending(self, listening: Listening) -> bool:
        """
        Accept what there is, up to AT_ONCE; gives whether there was nothing.

        Raises OSError where the system refuses.
        """
        nothing = True
        for _ in range(AT_ONCE):
            try:
                connection, _ = listening.sock.accept()
            except BlockingIOError:
                return nothing
            except ConnectionAbortedError:
                continue  # it went away while it was waiting
            nothing = False
            try:
                await self._begin(listening, connection)
            except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this connection and nothing else
                connection.close()
                self._desk.report_bug("accept", error)
        return nothing

    async def _begin(self, listening: Listening, connection: socket.socket) -> None:
        """Judge a new connection and give it to the engine."""
        peer = listening.identify(connection)
        stay = self._ledger.admit(peer.uid, stranger=listening.is_stranger(peer))
        if stay.admission is Admission.DROPPED:
            connection.close()
            self._desk.refuse(problems.CONNECTION_DROPPED, peer)
            return
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._engine.connection(peer, stay), connection
            )
        except Exception:
            stay.end()
            raise

    async def _pause(self, listening: Listening, ready: asyncio.Event) -> None:
        """Let the system recover; without the reader, which would fire all the time."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.sock)
        try:
            async with asyncio.timeout(self._accept_pause):
                await self._stopping.wait()
        except TimeoutError:
            ready.set()
        finally:
            loop.add_reader(listening.sock, ready.set)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown")
