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
from dataclasses import dataclass, field
from functools import partial

from broker.api import problems
from broker.api.activity import Activity
from broker.api.fast_path import Handed, Lobby
from broker.api.front import Front
from broker.api.limits import Admission, ConnectionLedger, Limits, Stay, account_of
from broker.api.protocol import Connection, Engine
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


@dataclass(slots=True, kw_only=True, eq=False)
class _Acceptor:
    """
    What accepts on one socket: *ready* wakes its task.

    *accepted* have no transport yet; *failing*: the system refuses, and that was said.
    """

    listening: Listening
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    accepted: list[_Accepted] = field(default_factory=list)
    failing: bool = False


class Service:
    """Serves a desk on listening sockets, once: run, then drain."""

    def __init__(self, desk: Front, *, limits: Limits, emit: Emit, accept_pause: float = ACCEPT_PAUSE) -> None:
        """To be made on the running loop."""
        self._desk = desk
        self._emit = emit
        self._engine = Engine(desk, limits)
        self._accept_pause = accept_pause
        self._ledger = ConnectionLedger(limits)
        self._acceptors: set[_Acceptor] = set()
        self._accepting = Activity()
        self._stopping = asyncio.Event()
        self._handing: set[asyncio.Task[None]] = set()
        self._lobby = Lobby(desk, limits, activity=self._engine.activity, hand_over=self._hand_over)

    async def run(self, listening: Sequence[Listening]) -> None:
        """Accept on all sockets until ``drain``, or until cancelled."""
        if any(one.fast for one in listening):
            self._lobby.open()
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
        for acceptor in self._acceptors:
            acceptor.ready.set()
        await self._accepting.quiet(ends_at - loop.time())
        for _ in range(READ_ROUNDS):
            await asyncio.sleep(0)
        self._lobby.drain()
        if self._handing:
            await asyncio.wait(self._handing, timeout=max(0.0, ends_at - loop.time()))
        self._engine.drain()
        if not await self._engine.activity.quiet(ends_at - loop.time()):
            self._engine.abort()
            await self._engine.activity.quiet(ABORT_TIME)
        for _ in range(END_ROUNDS):
            await asyncio.sleep(0)

    async def _accept(self, listening: Listening) -> None:
        """Accept on one socket until the service stops."""
        loop, acceptor = asyncio.get_running_loop(), _Acceptor(listening=listening)
        self._acceptors.add(acceptor)
        self._accepting.begin()
        loop.add_reader(listening.sock, self._arrived, acceptor)
        try:
            while not self._stopping.is_set():
                await acceptor.ready.wait()
                acceptor.ready.clear()
                left_to_others = listening.handed_on and self._stopping.is_set()
                try:
                    await self._take_pending(acceptor, more=not left_to_others)
                except OSError as error:
                    if not acceptor.failing:
                        self._emit(AcceptFailed(listener=listening.name, reason=_name(error)))
                    acceptor.failing = True
                    await self._pause(acceptor)
        finally:
            loop.remove_reader(listening.sock)
            for one in acceptor.accepted:  # cancelled before their turn
                one.give_up()
            _turn_away(listening.sock)
            self._acceptors.discard(acceptor)
            self._accepting.end()

    def _arrived(self, acceptor: _Acceptor) -> None:
        """
        Accept and answer at once where connections are held: no task is woken for that.

        One is for everything else: connections that get a transport, and what the system refuses.
        """
        if not acceptor.listening.fast or self._stopping.is_set():
            acceptor.ready.set()
            return
        try:
            self._accept_pending(acceptor)
        except OSError:  # the task is refused, too, and says so
            acceptor.ready.set()
        self._lobby.serve_new()
        if acceptor.accepted:
            acceptor.ready.set()

    async def _take_pending(self, acceptor: _Acceptor, *, more: bool = True) -> None:
        """
        Accept what there is, up to AT_ONCE, unless no *more* are wanted, and begin what was accepted.

        Raises OSError where the system refuses; what was accepted before that is begun all the same.
        """
        try:
            if more:
                self._accept_pending(acceptor)
        finally:
            self._lobby.serve_new()
            if acceptor.accepted:
                accepted, acceptor.accepted = acceptor.accepted, []
                await self._begin_all(accepted)

    def _accept_pending(self, acceptor: _Acceptor) -> None:
        """Accept without a turn of the loop, so that the caps are counted exactly. Raises OSError."""
        listening = acceptor.listening
        for _ in range(AT_ONCE):
            try:
                connection, _ = listening.sock.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # it went away while it was waiting
            acceptor.failing = False
            try:
                self._judge(listening, connection, acceptor.accepted)
            except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this connection and nothing else
                connection.close()
                self._desk.report_bug("accept", error)

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
        if listening.fast and self._lobby.takes(peer, stay):
            self._lobby.enter(connection, peer, stay)
        else:
            accepted.append(_Accepted(connection=connection, peer=peer, stay=stay))

    def _hand_over(self, handed: Handed) -> None:
        """Give aiohttp a connection that was held."""
        self._engine.activity.begin()
        task = asyncio.get_running_loop().create_task(self._begin_handed(handed), name="hand over")
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)

    async def _begin_handed(self, handed: Handed) -> None:
        one = _Accepted(connection=handed.sock, peer=handed.recall.peer, stay=handed.stay)
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

    async def _pause(self, acceptor: _Acceptor) -> None:
        """Let the system recover; without the reader, which would fire all the time."""
        loop, sock = asyncio.get_running_loop(), acceptor.listening.sock
        loop.remove_reader(sock)
        try:
            async with asyncio.timeout(self._accept_pause):
                await self._stopping.wait()
        except TimeoutError:
            acceptor.ready.set()
        finally:
            loop.add_reader(sock, self._arrived, acceptor)


def _turn_away(sock: socket.socket) -> None:
    """Let the kernel refuse who comes from now on: a Unix socket has lost its file by then, an address has not."""
    if sock.family != socket.AF_UNIX:
        with suppress(OSError):  # it is closed already
            sock.shutdown(socket.SHUT_RD)


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown")
