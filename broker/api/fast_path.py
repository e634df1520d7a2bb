"""
The fast path: requests for tokens that aiohttp has parsed before, answered without it (rules.md R11).

Who owns a connection, when:

- ``Lobby`` holds a connection from its acceptance: the socket itself, with a reader on the loop. As long as each read
  is exactly one request that is in the memo, and can be answered at once, it stays here.
- Anything else goes to aiohttp, for good: the socket, the bytes that were read, and what was not sent yet of an
  answer. That is a request that is not known, a part of one, two at a time, a body, garbage; and a known request
  that needs more than a look: a refusal, a wait, a token that is due. Of these nothing has been counted by then.
- A connection that is aiohttp's asks the memo, too (``protocol.Connection``), whenever it is between two requests and
  everything on it was plain so far. So the first request of a program teaches, and the connection is fast from its
  second on. aiohttp's parser sees nothing of what is answered so, and stands between two requests before and after.

What is looked at for each request, here as there: rate limit, policy, state and validity of the token, ``ETag``, audit
log, drain (``Desk.at_once``, ``at_once``); the idle time-out and the age of the connection (here). Places in the
ledger are taken before and given back by whoever ends the connection. A write that is not taken at once goes to
aiohttp's transport and its deadline.

One difference can be seen: who half-closes right behind a request is still answered here, where aiohttp gives up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from broker.api.activity import Activity
from broker.api.alarm import Alarm
from broker.api.desk import Reply
from broker.api.front import Front
from broker.api.guard import Incoming
from broker.api.limits import Admission, Limits, Stay
from broker.api.memo import Known, Memo, is_eligible, keep
from broker.policy.peer import Peer

READ_BYTES = 16_384
"""Bytes of the first read: twice the largest head, so that what fills it is nothing that is known."""

READ_MOST = 262_144
"""Bytes to read before they are parsed: as asyncio does, so that what comes in one piece is the same there and here."""

REPLIES = 4
"""Requests of one connection whose answers are prepared: few programs ask for more than one thing."""


class Recall:
    """What one connection may ask without being parsed: the requests of its caller, made into replies to it."""

    __slots__ = ("_desk", "_known", "_peer", "_replies")

    def __init__(self, desk: Front, known: Known, peer: Peer) -> None:
        self._desk = desk
        self._known = known
        self._peer = peer
        self._replies: dict[bytes, Reply] = {}

    def find(self, piece: bytes) -> Reply | None:
        """Give what answers *piece*, if it is a request that is known."""
        reply = self._replies.get(piece)
        if reply is None:
            parsed = self._known.get(piece)
            reply = None if parsed is None else self._desk.at_once(parsed, self._peer)
            if reply is not None:
                if len(self._replies) >= REPLIES:
                    self._replies.clear()
                self._replies[piece] = reply
        return reply

    def learn(self, piece: bytes, incoming: Incoming, *, last: bool) -> None:
        """Keep what aiohttp has made of *piece*, and was answered."""
        if is_eligible(incoming) and piece not in self._known:
            parsed = self._desk.parsed(incoming, self._peer, last=last)
            if parsed is not None:
                keep(self._known, piece, parsed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """
    A connection as it is handed to aiohttp.

    *piece* was read and not answered, *unsent* is the rest of an answer that was begun; *last*: the connection ends
    with that. *began_at* is when it was accepted, by the loop, *answers* how many it has had.
    """

    sock: socket.socket
    peer: Peer
    stay: Stay
    recall: Recall
    began_at: float
    answers: int
    piece: bytes = field(default=b"", repr=False)
    unsent: bytes = field(default=b"", repr=False)
    last: bool = False


class Lobby:
    """Holds connections that have asked for nothing else yet; *hand_over* takes those that do, and raises nothing."""

    def __init__(
        self, desk: Front, limits: Limits, *, activity: Activity, hand_over: Callable[[Handed], None], grace: float
    ) -> None:
        """Count connections in *activity*; *grace* seconds are left to who has not asked yet when the broker stops."""
        self.desk = desk
        self.limits = limits
        self.activity = activity
        self.hand_over = hand_over
        self.draining = False
        self.held: set[Held] = set()
        self._grace = grace
        self._memo = Memo()

    def recall(self, peer: Peer) -> Recall:
        """Give what a connection of *peer* may ask without being parsed."""
        return Recall(self.desk, self._memo.of(peer), peer)

    def takes(self, peer: Peer, stay: Stay) -> bool:
        """
        Say whether a connection may be held.

        Not one over the caps, which is to be told so, nor of callers without a uid, who make room for each other.
        """
        return not self.draining and stay.admission is Admission.ADMITTED and peer.uid is not None

    def enter(self, sock: socket.socket, peer: Peer, stay: Stay) -> None:
        """Hold a connection; what it has asked already is answered now. Raises OSError or ValueError for a bad one."""
        sock.setblocking(False)
        held = Held(self, sock, peer, stay)
        held.begin()

    def drain(self) -> None:
        """End what has been answered; who has not asked yet gets a moment, and is answered by aiohttp."""
        self.draining = True
        for held in tuple(self.held):
            held.drain(self._grace)

    def abort(self) -> None:
        """End all."""
        for held in tuple(self.held):
            held.end()


class Held:
    """One connection that is held."""

    __slots__ = ("_alarm", "_answers", "_began_at", "_lobby", "_loop", "_peer", "_recall", "_sock", "_stay")

    def __init__(self, lobby: Lobby, sock: socket.socket, peer: Peer, stay: Stay) -> None:
        self._lobby = lobby
        self._sock = sock
        self._peer = peer
        self._stay = stay
        self._recall = lobby.recall(peer)
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop)
        self._began_at = self._loop.time()
        self._answers = 0

    def begin(self) -> None:
        """Listen to it. Raises OSError or ValueError where the loop cannot."""
        self._loop.add_reader(self._sock, self.readable)
        self._lobby.held.add(self)
        self._lobby.activity.begin()
        self._alarm.set(self._lobby.limits.idle_timeout, self.end)
        self.readable()

    def readable(self) -> None:
        """Read, and answer or hand over. A bug costs this connection and nothing else."""
        try:
            self._serve()
        except Exception as error:  # noqa: BLE001 - the boundary
            self._lobby.desk.report_bug("fast_path", error)
            self.end()

    def drain(self, grace: float) -> None:
        """End, or wait a moment for the first request."""
        if self._answers:
            self.end()
        else:
            self._alarm.set(grace, self.end)

    def end(self) -> None:
        """Close; once is enough, twice does no harm."""
        if self._leave():
            self._sock.close()
            self._stay.end()
            self._lobby.activity.end()

    def _serve(self) -> None:
        try:
            piece = self._sock.recv(READ_BYTES)
            if len(piece) == READ_BYTES:
                piece += self._more()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            piece = b""
        if not piece:
            self.end()
            return
        reply = None if self._lobby.draining or self._is_old() else self._recall.find(piece)
        done = None if reply is None else reply()
        if done is None:
            self._hand_over(piece=piece)
        else:
            self._send(*done)

    def _send(self, written: bytes, last: bool) -> None:
        """Send an answer; what is not taken at once is for aiohttp's transport to send."""
        sent = 0
        try:
            sent = self._sock.send(written)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.end()
            return
        self._answers += 1
        if sent < len(written):
            self._hand_over(unsent=written[sent:], last=last)
        elif last:
            self.end()
        else:
            self._alarm.set(self._lobby.limits.idle_timeout, self.end)

    def _more(self) -> bytes:
        """Read what has come beyond what is known to be short, up to READ_MOST. Raises OSError."""
        with suppress(BlockingIOError, InterruptedError):
            return self._sock.recv(READ_MOST - READ_BYTES)
        return b""

    def _hand_over(self, *, piece: bytes = b"", unsent: bytes = b"", last: bool = False) -> None:
        if not self._leave():
            return
        self._lobby.hand_over(
            Handed(
                sock=self._sock,
                peer=self._peer,
                stay=self._stay,
                recall=self._recall,
                began_at=self._began_at,
                answers=self._answers,
                piece=piece,
                unsent=unsent,
                last=last,
            )
        )
        self._lobby.activity.end()

    def _leave(self) -> bool:
        """Let go of the socket; gives whether it was held."""
        if self not in self._lobby.held:
            return False
        self._lobby.held.discard(self)
        self._alarm.close()
        self._loop.remove_reader(self._sock)
        return True

    def _is_old(self) -> bool:
        return self._loop.time() - self._began_at > self._lobby.limits.max_connection_age
