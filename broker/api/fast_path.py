"""
The fast path: requests for tokens that aiohttp has parsed before, answered without it (rules.md R11).

Who owns a connection, when:

- ``Lobby`` holds a connection from its acceptance: the socket itself, without a transport. As long as each read is
  exactly one request that is in the memo, and can be answered at once, it stays here.
- Anything else goes to aiohttp, for good: the socket, the bytes that were read, and what was not sent yet of an
  answer. That is a request that is not known, a part of one, two at a time, a body, garbage; and a known request
  that needs more than a look: a refusal, a wait, a token that is due. Of these nothing has been counted by then.
  So does a connection whose idle time is over, and at a drain each that is held: what is said then, to whom, and who
  is waited for is aiohttp's protocol's to know, and there is no need to be fast.
- A connection that is aiohttp's asks the memo, too (``protocol.Connection``), whenever it is between two requests and
  everything on it was plain so far. So the first request of a program teaches, and the connection is fast from its
  second on. aiohttp's parser sees nothing of what is answered so, and stands between two requests before and after.

What makes it fast, beside what is not done: the connections have one epoll(7) of their own, of which the loop sees one
descriptor. Those that have asked since the last turn are read, looked at, recorded by one write, and answered.

What is looked at for each request, here as there: rate limit, policy, state and validity of the token, ``ETag``, audit
log, drain (``Desk.answer_at_once``, ``at_once``); the idle time-out and the age of the connection (here). Places in the
ledger are taken before and given back by whoever ends the connection. A write that is not taken at once goes to
aiohttp's transport and its deadline.

One difference can be seen: who half-closes right behind a request is still answered here, where aiohttp gives up.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from broker.api.activity import Activity
from broker.api.alarm import Alarm
from broker.api.front import Front
from broker.api.limits import Admission, Limits, Stay
from broker.api.memo import Known, Memo, Parsed, Recall
from broker.api.table import Offer
from broker.policy.peer import Peer

READ_BYTES = 4_096
"""Bytes of the first read: twice the largest request that is kept, so that what fills it is nothing that is known."""

READ_MOST = 262_144
"""Bytes to read before they are parsed: as asyncio does, so that what comes in one piece is the same there and here."""

AT_ONCE = 64
"""Connections of one turn: less than a millisecond, which is what everything else on the loop has to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """
    A connection as it is handed to aiohttp.

    *piece* was read and not answered, *unsent* is the rest of an answer that was begun; *last*: the connection ends
    with that. *began_at* is when it was accepted, *since* when it last asked, by the loop; *answers* how many it has
    had. *idle*: it has asked for nothing for as long as it may.
    """

    sock: socket.socket
    stay: Stay
    recall: Recall
    began_at: float
    since: float
    answers: int
    piece: bytes = field(default=b"", repr=False)
    unsent: bytes = field(default=b"", repr=False)
    last: bool = False
    idle: bool = False


class Held(Recall):
    """
    One connection that is held, with what it may ask.

    *piece* is what was read of it and not answered yet; *watched* once epoll knows it.
    """

    __slots__ = ("answers", "began_at", "piece", "since", "sock", "stay", "watched")

    def __init__(self, sock: socket.socket, stay: Stay, known: Known, peer: Peer, now: float) -> None:
        super().__init__(known, peer)
        self.sock = sock
        self.stay = stay
        self.began_at = self.since = now
        self.piece = b""
        self.answers = 0
        self.watched = False


class Lobby:
    """Holds connections that have asked for nothing else yet; *hand_over* takes those that do, and raises nothing."""

    def __init__(self, desk: Front, limits: Limits, *, activity: Activity, hand_over: Callable[[Handed], None]) -> None:
        """To be made on the running loop; connections are counted in *activity*."""
        self._desk = desk
        self._limits = limits
        self._activity = activity
        self._give = hand_over
        self._draining = False
        self._memo = Memo()
        self._held: dict[int, Held] = {}
        self._new: list[Held] = []
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop)
        self._poller: select.epoll | None = None

    def open(self) -> None:
        """Begin to watch: before the first connection, so that a descriptor that cannot be had is missed at once."""
        if self._poller is None:
            self._poller = select.epoll()
            self._loop.add_reader(self._poller.fileno(), self._look_up)

    @property
    def held(self) -> int:
        """How many connections are held."""
        return len(self._held)

    def recall(self, peer: Peer) -> Recall:
        """Give what a connection of *peer* may ask without being parsed."""
        return Recall(self._memo.of(peer), peer)

    def takes(self, peer: Peer, stay: Stay) -> bool:
        """
        Say whether a connection may be held.

        Not one over the caps, which is to be told so, nor of callers without a uid, who make room for each other.
        """
        return not self._draining and stay.admission is Admission.ADMITTED and peer.uid is not None

    def enter(self, sock: socket.socket, peer: Peer, stay: Stay) -> None:
        """Hold a connection, to be served by ``serve_new``."""
        held = Held(sock, stay, self._memo.of(peer), peer, self._loop.time())
        self._held[sock.fileno()] = held
        self._activity.begin()
        self._new.append(held)

    def serve_new(self) -> None:
        """Answer what those have asked already that have entered; watch those that stay."""
        new, self._new = self._new, []
        if not new:
            return
        if self._alarm.due is None:
            self._alarm.set(self._limits.idle_timeout, self._end_idle)
        self._serve(self._desk.turn(), new)
        for held in new:
            if self._held.get(held.sock.fileno()) is held:
                try:
                    self._watch(held)
                except OSError:  # the system watches no more for us; aiohttp's way may fail, too, and then says so
                    self._hand_over(held)

    def drain(self) -> None:
        """Hand over all that are held, and hold no more."""
        self._draining = True
        for held in tuple(self._held.values()):
            self._hand_over(held)
        self._alarm.close()
        if self._poller is not None:
            self._loop.remove_reader(self._poller.fileno())
            self._poller.close()
            self._poller = None

    # --- a turn ---

    def _look_up(self) -> None:
        """
        Serve those that have asked, and those that ask while these are served.

        It ends when nobody asks, or AT_ONCE were served: what is over is found again in the loop's next turn.
        """
        turn, left = self._desk.turn(), AT_ONCE
        while self._poller is not None and left > 0:
            ready = self._poller.poll(0, left)
            if not ready:
                break
            left -= len(ready)
            self._serve(turn, [self._held[fd] for fd, _ in ready])

    def _serve(self, turn: int, ready: Iterable[Held]) -> None:
        """Read all, answer together what is known, hand over what is not. A bug costs its connection, no other."""
        now = self._loop.time()
        asked = self._read(ready, born_after=now - self._limits.max_connection_age)
        if asked:
            self._send(asked, self._desk.answer_at_once(turn, asked), now)

    def _read(self, ready: Iterable[Held], *, born_after: float) -> list[tuple[Held, Parsed]]:
        """Give those that have asked for what is known; the others leave, if they have sent anything."""
        asked = []
        for held in ready:
            try:
                piece = held.piece = held.sock.recv(READ_BYTES, socket.MSG_DONTWAIT)
                parsed = held.known.get(piece)
                if parsed is not None and held.began_at >= born_after:
                    asked.append((held, parsed))
                elif piece:
                    self._hand_over(held, piece=self._rest_of(held, piece))
                else:
                    self._end(held)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError:
                self._end(held)
            except Exception as error:  # noqa: BLE001 - the boundary
                self._break_off(held, error)
        return asked

    def _send(self, asked: Iterable[tuple[Held, Parsed]], offers: Iterable[Offer | None], now: float) -> None:
        """Answer; what a socket does not take at once is for aiohttp's transport to send."""
        for (held, _), offer in zip(asked, offers, strict=True):
            held.since = now
            try:
                if offer is None:
                    self._hand_over(held, piece=held.piece)
                    continue
                held.answers += 1
                sent = held.sock.send(offer.written, socket.MSG_DONTWAIT)
                if sent < len(offer.written) or offer.last:
                    self._sent(held, offer, sent)
            except (BlockingIOError, InterruptedError):
                self._sent(held, offer, 0)
            except OSError:
                self._end(held)
            except Exception as error:  # noqa: BLE001 - the boundary
                self._break_off(held, error)

    def _sent(self, held: Held, offer: Offer | None, sent: int) -> None:
        """End behind an answer, or let the rest of it be sent."""
        if offer is not None and sent < len(offer.written):
            self._hand_over(held, unsent=offer.written[sent:], last=offer.last)
        else:
            self._end(held)

    def _break_off(self, held: Held, error: Exception) -> None:
        """Report a bug, and end its connection."""
        self._desk.report_bug("fast_path", error)
        self._end(held)

    def _rest_of(self, held: Held, piece: bytes) -> bytes:
        """Read what has come beyond what is known to be short, up to READ_MOST. Raises OSError."""
        if len(piece) == READ_BYTES:
            with suppress(BlockingIOError, InterruptedError):
                piece += held.sock.recv(READ_MOST - READ_BYTES, socket.MSG_DONTWAIT)
        return piece

    # --- where connections come from and go to ---

    def _watch(self, held: Held) -> None:
        """Have epoll tell when it asks. Raises OSError."""
        if self._poller is None:
            raise OSError(errno.EBADF, "nothing is watched any more")
        held.sock.setblocking(False)
        self._poller.register(held.sock.fileno(), select.EPOLLIN)
        held.watched = True

    def _leave(self, held: Held) -> bool:
        """Let go of a socket; gives whether it was held."""
        fd = held.sock.fileno()
        if self._held.get(fd) is not held:
            return False
        del self._held[fd]
        if held.watched and self._poller is not None:
            self._poller.unregister(fd)
        return True

    def _end(self, held: Held) -> None:
        """Close; once is enough, twice does no harm."""
        if self._leave(held):
            held.sock.close()
            held.stay.end()
            self._activity.end()

    def _hand_over(
        self, held: Held, *, piece: bytes = b"", unsent: bytes = b"", last: bool = False, idle: bool = False
    ) -> None:
        if not self._leave(held):
            return
        self._give(
            Handed(
                sock=held.sock,
                stay=held.stay,
                recall=held,
                began_at=held.began_at,
                since=held.since,
                answers=held.answers,
                piece=piece,
                unsent=unsent,
                last=last,
                idle=idle,
            )
        )
        self._activity.end()

    def _end_idle(self) -> None:
        """Part from those that have asked for nothing for too long; look again when the next one may be due."""
        now = self._loop.time()
        for held in tuple(self._held.values()):
            if held.since + self._limits.idle_timeout <= now:
                self._hand_over(held, idle=True)
        if self._held:
            first = min(held.since for held in self._held.values())
            self._alarm.set(first + self._limits.idle_timeout - now, self._end_idle)
