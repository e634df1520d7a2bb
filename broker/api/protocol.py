"""
HTTP/1.1 by aiohttp's low-level server, with our deadlines, our caps and our shape for every answer.

A ``Connection`` is aiohttp's protocol of one connection. It knows one peer, found out when the connection
was accepted, and brings what aiohttp parsed to the desk. What aiohttp itself would answer or log goes the
same way: neither its texts nor its log lines, which hold bytes of the request, leave this module.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from enum import Enum
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion, HttpVersion10, HttpVersion11, RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import ERROR

from broker.api import problems
from broker.api.activity import Activity
from broker.api.alarm import Alarm
from broker.api.answers import Answer, PassedAnswer, Stream, last_words
from broker.api.fast_path import Handed
from broker.api.front import Front
from broker.api.guard import MAX_HEAD, Incoming
from broker.api.incoming_body import IncomingBody
from broker.api.limits import Admission, Limits, Stay
from broker.api.memo import Recall, may_be_whole
from broker.api.messages import incoming_of, response_of, stream_of
from broker.api.metering import HeadMeter
from broker.api.peers import has_left, unread
from broker.api.problems import Problem
from broker.errors import BrokerError
from broker.policy.peer import Peer

REFUSED_TIMEOUT = 2.0
"""Seconds that a connection over the cap may take to ask, so that it can be told why not."""

ASKS_AGAIN = 0.5
"""
Seconds. Who asked within so long before the broker stops is likely to ask again, on a connection that it keeps: for as
long it may, and its answer says that it is the last.
"""

IDLE_ENOUGH = 0.5
"""Seconds without a whole request after which a connection may have to leave: a caller that is there needs less."""

DRAIN_GRACE = 1.0
"""Seconds: when the broker stops, a new connection's first request may be on its way; it is still answered."""

LOOK_EVERY = 1.0
"""Seconds after which a caller that is being answered is looked after: reading stops where it sends too much."""

STREAM_WRITE_DEADLINE = 60.0
"""Seconds for a piece of a reply that is passed on to be taken: who works through it may pause for longer."""

LINGERING = 2.0
"""Seconds to read on after a refused request, so that its sender sees the answer and not a reset."""

MAX_HEADERS = 4_096
"""More than 8 KiB can hold: the cap on the whole head decides, and it is checked before."""

ANSWERED = frozenset({200, 304})
"""Statuses of answers to requests that are worth remembering: those who may have nothing leave nothing behind."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What a sender may wait for before it sends a body that is wanted (RFC 9110 section 10.1.1)."""


class Phase(Enum):
    """Where a connection is between two requests."""

    IDLE = "idle"
    RECEIVING = "receiving"
    ANSWERING = "answering"
    CLOSING = "closing"
    """The last answer is given; what still comes is read and dropped."""


class Engine(web.Server):
    """aiohttp's server: keeps the connections, hands requests to them."""

    def __init__(self, desk: Front, limits: Limits) -> None:
        super().__init__(_serve, handler_cancellation=True, request_factory=_request)
        self.desk = desk
        self.limits = limits
        self.draining = False
        self.activity = Activity()

    def connection(self, peer: Peer, stay: Stay) -> Connection:
        """Make the protocol of a connection that was accepted; *stay* ends with it."""
        return Connection(self, peer=peer, stay=stay)

    def handed_over(self, handed: Handed) -> Connection:
        """Make the protocol of a connection that the fast path has had until now."""
        return Connection(self, peer=handed.recall.peer, stay=handed.stay, handed=handed)

    def drain(self) -> None:
        """Close what is idle; let everything else end with its next answer."""
        self.draining = True
        for connection in self.connections:
            cast("Connection", connection).drain()

    def make_room(self, stay: Stay) -> bool:
        """
        Close a connection in whose place *stay*, of a caller without a uid, could be; gives whether there was one.

        Such callers share their places, so that whoever holds one without using it would keep out all the others.
        First go those that have their last answer, then those that have been idle longest.
        """
        connections = [cast("Connection", connection) for connection in self.connections]
        idle = [connection for connection in connections if connection.may_leave_for(stay)]
        if not idle:
            return False
        min(idle, key=lambda connection: (not connection.lingers, connection.since)).leave()
        return True

    def abort(self) -> None:
        """Cut every connection; what is being answered is cancelled."""
        for connection in self.connections:
            cast("Connection", connection).abort()


class Connection(web.RequestHandler):
    """One connection of one peer."""

    def __init__(self, engine: Engine, *, peer: Peer, stay: Stay, handed: Handed | None = None) -> None:
        options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": engine.limits.max_connection_age + engine.limits.idle_timeout,
            "lingering_time": LINGERING,
            "max_field_size": MAX_HEAD,
            "max_headers": MAX_HEADERS,
            "max_line_size": MAX_HEAD,
            "tcp_keepalive": False,
        }  # the keep-alive time-out is a backstop: aiohttp sees nothing of what is answered without it, ours does
        super().__init__(engine, loop=asyncio.get_running_loop(), **options)
        self.peer = peer
        self._engine = engine
        self._desk = engine.desk
        self._limits = engine.limits
        self.spoken: HttpVersion = HttpVersion11
        self._stay = stay
        self._phase = Phase.IDLE
        self._meter = HeadMeter()
        self._answers = 0
        self._has_body = self._in_body = False
        self._overrun = False
        self._cut_off = self.lingers = self._hung_up = False
        self._began_at = self.since = self._loop.time()
        self._line: asyncio.Transport | None = None
        self._alarm = Alarm(self._loop)
        self._body: IncomingBody | None = None
        self._write_deadline = engine.limits.write_deadline
        self._write_alarm: asyncio.TimerHandle | None = None
        self._handed = handed
        self._recall = None if handed is None else handed.recall
        self._piece: bytes | None = None
        self._finished = 0
        self._is_plain = True
        if handed is not None:
            self._began_at, self._answers = handed.began_at, handed.answers

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; a write is over only when the peer has taken all of it, so that the deadline is one for all."""
        self._line = cast("asyncio.Transport", transport)
        self._line.set_write_buffer_limits(high=0)
        idle = self._limits.idle_timeout if self._stay.admission is Admission.ADMITTED else REFUSED_TIMEOUT
        self._alarm.set(idle, self._hang_up)
        self._engine.activity.begin()
        super().connection_made(transport)
        if self._handed is not None:
            self._take_over(self._line, self._handed)

    def data_received(self, data: bytes) -> None:
        """Count and time what comes, then let it be parsed; what was parsed before may be answered as it comes."""
        if self._recall is not None and self._answers_at_once(data, self._recall):
            return
        if not data or self._accepts(data):
            super().data_received(data)
            self._see_body()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's gives None, which asyncio takes for False
        """Stay open where it was we who wanted no more: an answer may be under way. What is not whole never will be."""
        super().eof_received()
        if self._hung_up and self._phase is Phase.RECEIVING and self._meter.is_cut_short():
            self._too_slow()
        return self._hung_up

    def pause_writing(self) -> None:
        """Give the peer a time to take the answer."""
        super().pause_writing()
        self._write_alarm = self._loop.call_later(self._write_deadline, self.abort)

    def resume_writing(self) -> None:
        """Note that the peer took it."""
        super().resume_writing()
        self._stop_write_alarm()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End: aiohttp cancels the handler, if one runs."""
        self._phase = Phase.CLOSING
        self._alarm.close()
        self._stop_write_alarm()
        super().connection_lost(exc)
        self._engine.activity.end()
        self._stay.end()

    # --- the engine's side ---

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request that aiohttp has parsed."""
        self._engine.activity.begin()
        try:
            return await self._serve(request)
        finally:
            self._engine.activity.end()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._cut_off:
            raise ConnectionResetError("its time was over in the very moment in which it came whole")
        ends_at = self._body_ends_at()
        self._phase = Phase.ANSWERING
        self._alarm.set(LOOK_EVERY, self._look)
        self._has_body = self._in_body = request.body_exists
        self._body = IncomingBody(request, ends_at=ends_at, say_continue=self._say_continue)
        self._see_body()
        incoming = incoming_of(request, self.spoken)
        if self._stay.admission is Admission.ADMITTED:
            passed = self._body if self._has_body else None
            answer = await self._desk.answer(incoming, self.peer, self._body.whole, passed)
        else:
            answer = self._desk.refuse(problems.TOO_MANY_CONNECTIONS, self.peer)
        if self._recall is not None:
            self._learn(self._recall, incoming, answer, last=not request.keep_alive)
        if isinstance(answer, PassedAnswer) and answer.stream is not None:
            return await self._pass_on(request, answer, answer.stream)
        if answer.after_body and not isinstance(answer, PassedAnswer):
            self._body.drop()  # whoever was to read it does not any more
        close = self._closes(answer)
        self._answered(last=close or not request.keep_alive)
        if not answer.linger or self._engine.draining:
            self._lingering_time = 0.0
        if isinstance(answer, PassedAnswer) and answer.length is not None and request.method == "HEAD":
            return stream_of(answer, close=close, chunks=False)  # the length of what GET would have brought
        return response_of(answer, close=close)

    def _closes(self, answer: Answer) -> bool:
        """Say whether the connection ends with *answer*; only a body that was passed on is known to be over."""
        is_over = answer.after_body and self._body is not None and self._body.is_read
        has_rest = self._has_body and not is_over
        return answer.close or has_rest or self._overrun or self._hung_up or self._engine.draining or self._is_old()

    async def _pass_on(self, request: web.BaseRequest, answer: PassedAnswer, stream: Stream) -> web.StreamResponse:
        """Write a reply as it comes. What breaks off is cut, so that nobody takes it for whole."""
        response = stream_of(answer, close=self._closes(answer), chunks=self.spoken == HttpVersion11)
        self._write_deadline = STREAM_WRITE_DEADLINE
        whole = False
        try:
            await response.prepare(request)
            while piece := await stream.read():
                await response.write(piece)
            await response.write_eof()
            whole = True
        except BrokerError as error:
            self.abort()
            raise ConnectionResetError("the reply broke off") from error
        finally:
            self._write_deadline = self._limits.write_deadline
            await stream.end(whole=whole)
            self._answered(last=not response.keep_alive)  # as its head said: another request may be on its way
        return response

    def _say_continue(self) -> None:
        if self._line is not None:
            self._line.write(CONTINUE)

    async def finish_response(self, *args: Any) -> tuple[web.StreamResponse, bool]:
        """Note when the last answer is given: what is left is to see it taken."""
        given = await super().finish_response(*args)
        self._finished += 1
        self.lingers = self._phase is Phase.CLOSING
        return given

    def _body_ends_at(self) -> float:
        """
        Give when a body has to be there, by the loop.

        Its time began with the first byte of its head, or with its turn where the head was whole by then: the
        alarm is that of an idle connection in that case, and no deadline of a request.
        """
        if self._phase is Phase.RECEIVING and self._alarm.due is not None:
            return self._alarm.due
        return self._loop.time() + (DRAIN_GRACE if self._engine.draining else self._limits.request_deadline)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's text, which holds bytes of the request
    ) -> web.StreamResponse:
        """Answer, in our shape, what aiohttp could not parse or handle."""
        if self._cut_off or request.writer.output_size > 0:
            raise ConnectionError("an answer was given already, and there is no way to take it back")
        self._answered(last=True)
        if status != 400:
            problem = problems.unexpected(self._desk.report_bug("http", exc or RuntimeError()))
        elif isinstance(exc, LineTooLong):
            problem = problems.HEADERS_TOO_LARGE
        else:
            problem = problems.MALFORMED
        return response_of(self._desk.refuse(problem, self.peer), close=True)

    def log_debug(self, *_args: Any, **_kw: Any) -> None:
        """Say nothing: only telemetry logs, and aiohttp's arguments hold bytes of the request."""

    def log_exception(self, *_args: Any, **kw: Any) -> None:
        """Report a bug as ours are reported."""
        given = kw.get("exc_info")
        error = given if isinstance(given, BaseException) else sys.exc_info()[1]
        self._desk.report_bug("http", error or RuntimeError())

    def drain(self) -> None:
        """Close if idle; a connection that never asked yet, or is likely to, gets a moment; a body gets none."""
        if self._body is not None:
            self._body.give_up(problems.DRAINING)
        if self._phase is Phase.RECEIVING and self._alarm.due is not None:
            self._alarm.set(min(DRAIN_GRACE, self._alarm.due - self._loop.time()), self._too_slow)
        if self._phase is not Phase.IDLE and not self._cut_off:
            return
        if self._cut_off:
            self.force_close()
        elif not self._answers:
            self._alarm.set(DRAIN_GRACE, self._hang_up)
        elif (idle := self._loop.time() - self.since) < ASKS_AGAIN:
            self._alarm.set(ASKS_AGAIN - idle, self._hang_up)
        else:
            self._hang_up()

    def abort(self) -> None:
        """Cut the connection, with what was not sent yet."""
        if self._line is not None:
            self._line.abort()

    def may_leave_for(self, stay: Stay) -> bool:
        """Say whether this may give its place to *stay*: it has its last answer, or has asked for nothing lately."""
        if not self._stay.holds_what_is_wanted_by(stay):
            return False
        is_waiting = self._phase in (Phase.IDLE, Phase.RECEIVING)
        return self.lingers or (is_waiting and self._loop.time() - self.since > IDLE_ENOUGH)

    def leave(self) -> None:
        """Give the place back at once, and close."""
        self._phase = Phase.CLOSING
        self._alarm.stop()
        self._stay.end()
        self.abort()

    # --- the fast path ---

    def _take_over(self, line: asyncio.Transport, handed: Handed) -> None:
        """Go on where the fast path has stopped."""
        self._handed = None
        self.since = handed.since
        if handed.unsent:
            line.write(handed.unsent)
        if handed.last:
            self._phase = Phase.CLOSING
            self._alarm.stop()
            line.close()
        elif handed.piece:
            self.data_received(handed.piece)
        elif handed.idle:
            self._hang_up()
        elif self._engine.draining:
            self.drain()

    def _is_between(self) -> bool:
        """Say whether aiohttp knows of nothing that is not over: no head, no request, no answer, now or ever a body."""
        return (
            self._phase is Phase.IDLE
            and self._is_plain
            and self._meter.ended == self._finished
            and not self._meter.open_bytes
            and self._write_alarm is None
        )

    def _answers_at_once(self, data: bytes, recall: Recall) -> bool:
        """Answer *data*, if it is a request that is known and can be answered as it stands."""
        self._piece = None
        if self._line is None or self._engine.draining or not self._is_between() or self._is_old():
            return False
        parsed = recall.known.get(data)
        offer = None if parsed is None else self._desk.answer_at_once(self._desk.turn(), ((recall, parsed),))[0]
        if offer is None:
            self._piece = data if parsed is None and may_be_whole(data) else None
            return False
        self._line.write(offer.written)
        self._answers += 1
        if offer.last:
            self._phase = Phase.CLOSING
            self._alarm.stop()
            self._line.close()
        else:
            self.since = self._loop.time()
            self._alarm.set(self._limits.idle_timeout, self._hang_up)
        return True

    def _learn(self, recall: Recall, incoming: Incoming, answer: Answer, *, last: bool) -> None:
        """Keep the request that is answered now, if it came in a piece of its own; note what is not plain."""
        piece, self._piece = self._piece, None
        if self._has_body or any(name.lower() == "upgrade" for name, _ in incoming.headers):
            self._is_plain = False
        elif piece is not None and self._meter.ended == self._finished + 1 and answer.status in ANSWERED:
            self._desk.learn(recall, piece, incoming, last=last)

    # --- deadlines and caps ---

    def _accepts(self, data: bytes) -> bool:
        """Say whether *data* may be parsed."""
        if self._phase is Phase.CLOSING:
            return not self._cut_off  # what comes behind a refused request is dropped by aiohttp
        self._leave_body()
        if self._phase is Phase.ANSWERING and self._in_body:
            return not self._overrun  # it is the body, in which no head is looked for: it may be large
        self._meter.feed(data)
        if self._phase is Phase.ANSWERING:
            self._overrun = self._overrun or self._meter.open_bytes > MAX_HEAD  # a head that grows behind the request
            return not self._overrun
        if self._phase is Phase.IDLE:
            self._receive()
        if self._meter.head_size() > MAX_HEAD:
            self._cut(problems.HEADERS_TOO_LARGE)
            return False
        return True

    def _leave_body(self) -> None:
        """Begin to count anew behind a body that is over: what was counted is no head. The desk measures each again."""
        if self._in_body and self._body is not None and self._body.is_read:
            self._in_body = False
            self._meter = HeadMeter()

    def _see_body(self) -> None:
        """
        Break a body off where something is queued behind it before its end: that is an error of the parser.

        Not one that is only read to be dropped, behind its answer.
        """
        if self._messages and self._body is not None and self._phase is Phase.ANSWERING:
            self._body.break_off()

    def _answered(self, *, last: bool) -> None:
        """Go on to the next request, or to the end."""
        self._answers += 1
        self._alarm.stop()
        if last:
            self._phase = Phase.CLOSING
            return
        self._leave_body()
        self._meter.next_request()
        if self._meter.open_bytes:
            self._receive()
        else:
            self._phase, self.since = Phase.IDLE, self._loop.time()
            idle = ASKS_AGAIN if self._engine.draining else self._limits.idle_timeout
            self._alarm.set(idle, self._hang_up)

    def _receive(self) -> None:
        """Note that a request has begun to arrive."""
        self._phase, self.since = Phase.RECEIVING, self._loop.time()
        self._alarm.set(DRAIN_GRACE if self._engine.draining else self._limits.request_deadline, self._too_slow)

    def _hang_up(self) -> None:
        """
        Close, unless a request came in this very moment: that one is answered.

        On a Unix socket nobody can send any more from the first step on, so that whoever tries sees that no byte of
        its request was taken. Without it a request between the last look and the end would be lost.
        """
        if self._line is None or self._line.is_closing():
            return
        connection = self._line.get_extra_info("socket")
        try:
            if connection.family == socket.AF_UNIX:
                connection.shutdown(socket.SHUT_RD)
                self._hung_up = True
            is_silent = unread(connection) == 0
        except OSError:  # it has gone: there is nobody to be answered
            is_silent = True
        if is_silent:
            self.force_close()
        else:
            self._alarm.set(DRAIN_GRACE, self.force_close)

    def _look(self) -> None:
        """See whether the caller is still there, also where nothing is read that would tell."""
        if self._line is not None and has_left(self._line.get_extra_info("socket"), hung_up=self._hung_up):
            self.abort()
        else:
            self._alarm.set(LOOK_EVERY, self._look)

    def _too_slow(self) -> None:
        self._cut(problems.TOO_SLOW)

    def _cut(self, problem: Problem) -> None:
        """Say why and close; no request is being answered, so nothing is in between."""
        self._phase = Phase.CLOSING
        self._alarm.stop()
        answer = self._desk.refuse(problem, self.peer)
        if self._line is None or self._line.is_closing():
            return
        self._cut_off = self.lingers = True
        self._line.write(last_words(answer))
        self._line.write_eof()
        self._alarm.set(0.0 if self._engine.draining else LINGERING, self.force_close)

    def _is_old(self) -> bool:
        return self._loop.time() - self._began_at > self._limits.max_connection_age

    def _stop_write_alarm(self) -> None:
        if self._write_alarm is not None:
            self._write_alarm.cancel()
            self._write_alarm = None


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    """
    Make aiohttp's request.

    aiohttp answers in the version that it was asked in, whatever that is; a foreign one is answered in ours
    (RFC 9110 section 2.5), and so is what was not understood, which aiohttp takes for HTTP/1.0.
    """
    cast("Connection", protocol).spoken = message.version
    if message is ERROR or message.version != HttpVersion10:
        message = message._replace(version=HttpVersion11)
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())


async def _serve(request: web.BaseRequest) -> web.StreamResponse:
    return await cast("Connection", request.protocol).serve(request)
