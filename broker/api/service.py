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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from broker.api import problems
from broker.api.activity import Activity
from broker.api.fast_path import Handed, Lobby
from broker.api.front import Front
from broker.api.limits import Admission, ConnectionLedger, Limits, Stay, account_of
from broker.api.protocol import DRAIN_GRACE, Connection, Engine
from broker.events import AcceptFailed, Emit
from broker.policy.peer import Peer

ACCEPT_PAUSE = 1.0
"""Seconds without accepting after the system refused: connections wait in the backlog meanwhile."""

AT_ONCE = 1_024
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
    somebody who may have nothing here. *handed_on*: whoever comes after us has the same socket, so that at the end
    those whom nobody has accepted yet are left to them. *fast*: requests for tokens may go the fast path.
    """

    name: str
    sock: socket.socket
    identify: Callable[[socket.socket], Peer]
    is_stranger: Callable[[Peer], bool] = lambda _peer: False
    handed_on: bool = False
    fast: bool = False


@dataclass(slots=True, kw_only=True)
class _Accepted:
    """A connection that has a place and no transport yet; *begun* once it is about to get one."""

    connection: socket.socket
    peer: Peer
    stay: Stay
    begun: bool = False

    def give_up(self) -> None:
        """Close it and give its place back."""
        self.stay.end()
        self.connection.close()


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
        self._handing: set[asyncio.Task[None]] = set()
        self._lobby = Lobby(desk, limits, activity=self._engine.activity, hand_over=self._hand_over, grace=DRAIN_GRACE)

    async def run(self, listening: Sequence[Listening]) -> None:
        """Accept on all sockets until ``drain``, or until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in listening:
                group.create_task(self._accept(one), name=f"accept {one.name}")

    async def drain(self, seconds: float) -> None:
        """
        Stop accepting, answer what has arrived, and end every connection within *seconds*.

        Connections that the kernel has taken for us already are accepted first, unless somebody else will. Returns
        when no connection and no task of one is left.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        self._stopping.set()
        for ready in self._acceptors:
            ready.set()
        await self._accepting.quiet(ends_at - loop.time())
        for _ in range(READ_ROUNDS):
            await asyncio.sleep(0)
        self._lobby.drain()
        if self._handing:
            await asyncio.wait(self._handing, timeout=max(0.0, ends_at - loop.time()))
        self._engine.drain()
        if not await self._engine.activity.quiet(ends_at - loop.time()):
            self._lobby.abort()
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
                if listening.handed_on and self._stopping.is_set():
                    break
                try:
                    failing = await self._take_pending(listening) and failing
                except OSError as error:
                    if not failing:
                        self._emit(AcceptFailed(listener=listening.name, reason=_name(error)))
                    failing = True
                    await self._pause(listening, ready)
        finally:
            loop.remove_reader(listening.sock)
            _turn_away(listening.sock)
            self._acceptors.discard(ready)
            self._accepting.end()

    async def _take_pending(self, listening: Listening) -> bool:
        """
        Accept what there is, up to AT_ONCE; gives whether there was nothing.

        Raises OSError where the system refuses; what was accepted before that is begun all the same.
        """
        accepted: list[_Accepted] = []
        try:
            return self._accept_pending(listening, accepted)
        finally:
            if accepted:
                await self._begin_all(accepted)

    def _accept_pending(self, listening: Listening, accepted: list[_Accepted]) -> bool:
        """Accept without a turn of the loop, so that the caps are counted exactly."""
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
                self._judge(listening, connection, accepted)
            except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this connection and nothing else
                connection.close()
                self._desk.report_bug("accept", error)
        return nothing

    def _judge(self, listening: Listening, connection: socket.socket, accepted: list[_Accepted]) -> None:
        """Let a new connection in, or close it."""
        peer = listening.identify(connection)
        stranger = listening.is_stranger(peer)
        stay = self._ledger.admit(account_of(peer), stranger=stranger)
        if stay.admission is not Admission.ADMITTED and peer.uid is None and self._engine.make_room(stay):
            stay.end()
            stay = self._ledger.admit(account_of(peer), stranger=stranger)
        if stay.admission is Admission.DROPPED:
            connection.close()
            self._desk.refuse(problems.CONNECTION_DROPPED, peer)
            return
        one = _Accepted(connection=connection, peer=peer, stay=stay)
        if listening.fast and self._lobby.takes(peer, stay):
            self._hold(one)
        else:
            accepted.append(one)

    def _hold(self, one: _Accepted) -> None:
        try:
            self._lobby.enter(one.connection, one.peer, one.stay)
        except Exception:
            one.give_up()
            raise

    def _hand_over(self, handed: Handed) -> None:
        """Give aiohttp a connection that was held."""
        self._engine.activity.begin()
        task = asyncio.get_running_loop().create_task(self._begin_handed(handed), name="hand over")
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)

    async def _begin_handed(self, handed: Handed) -> None:
        one = _Accepted(connection=handed.sock, peer=handed.peer, stay=handed.stay)
        try:
            await self._begin(one, lambda: self._engine.handed_over(handed))
        finally:
            self._engine.activity.end()

    async def _begin_all(self, accepted: Sequence[_Accepted]) -> None:
        """Give connections to the engine, all in the same turn of the loop."""
        try:
            await asyncio.gather(
                *(self._begin(one, partial(self._engine.connection, one.peer, one.stay)) for one in accepted)
            )
        finally:
            for one in accepted:
                if not one.begun:  # cancelled before its turn
                    one.give_up()

    async def _begin(self, one: _Accepted, protocol: Callable[[], Connection]) -> None:
        one.begun = True
        try:
            one.connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(protocol, one.connection)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this connection and nothing else
            one.give_up()
            self._desk.report_bug("accept", error)
        except BaseException:
            one.give_up()
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


def _turn_away(sock: socket.socket) -> None:
    """Let the kernel refuse who comes from now on: a Unix socket has lost its file by then, an address has not."""
    if sock.family != socket.AF_UNIX:
        with suppress(OSError):  # it is closed already
            sock.shutdown(socket.SHUT_RD)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown")
