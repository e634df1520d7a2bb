"""
From a parsed request to an answer, and everything that is reported about it.

The one boundary of the API: whatever happens in a handler comes out as an answer in the one shape, is
counted, and if it is a refusal, is audited. It knows no HTTP library, so that the fast path can come to the
same desk.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from broker.api import bodies, guard, problems
from broker.api.answers import Answer, problem_answer
from broker.api.bodies import BodyRules
from broker.api.conditions import read_if_none_match
from broker.api.gate import Gate
from broker.api.guard import Incoming
from broker.api.limits import Rates, account_of
from broker.api.memo import Parsed, Recall, is_eligible, keep
from broker.api.negotiation import prefers_plain_text
from broker.api.passing import Bases, check_passage, is_passed_on, passage_of
from broker.api.problems import ErrorCode, Problem, ProblemError
from broker.api.proxy_status import proxied
from broker.api.table import Call, Offer, Route, route_for, routes_at
from broker.api.wire import Dates, Writer
from broker.errors import frames_of
from broker.events import (
    Emit,
    EmitServed,
    RequestAnswered,
    RequestRefused,
    TokenServed,
    UnexpectedFailure,
    one_by_one,
)
from broker.policy.peer import Peer
from broker.tokens.calls import Body
from broker.tokens.ports import Clock, Randomness

W = TypeVar("W")

ReadBody = Callable[[], Awaitable[bytes]]
"""Reads the body of a request to its end, under the caps of guard and limits. Raises ProblemError."""

Asked = Sequence[tuple[Recall, Parsed]]
"""Requests that were read before, with the connections that they came on."""

UNROUTED = "unrouted"
"""The route of a request that was refused before its path was looked at, or has none."""

INCIDENT_BYTES = 6
"""48 random bits: enough to find one line in a log."""


async def no_body() -> bytes:
    """Read the body of a request that has none."""
    return b""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderRules:
    """
    The header rules of local-api.md; *hosts*, in lower case, are accepted beside the fixed ones.

    *gates* have the rules of TCP listeners, by the listener's name, in place of these.
    """

    hosts: frozenset[str] = frozenset()
    gates: Mapping[str, Gate] = field(default_factory=dict)

    def check(self, incoming: Incoming, listener: str, *, passing: bool, authority: str | None) -> None:
        """
        Check a request that came to *listener*. Raises ProblemError.

        *passing*: it is passed on to an API; *authority*: the listener stands for one with that host and port.
        """
        gate = self.gates.get(listener)
        others = frozenset() if authority is None else frozenset({authority})
        if gate is None:
            guard.check_headers(incoming, self.hosts | others, passing=passing)
        else:
            gate.check(incoming, others, passing=passing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing(Generic[W]):
    """
    How requests for APIs are answered: by *handler*.

    *bases* are the listeners that stand for one API, *authority* gives host and port of an upstream.
    """

    handler: Callable[[W, Call], Awaitable[Answer]]
    bases: Bases = field(default_factory=dict)
    authority: Callable[[str], str | None] = lambda _name: None


class Desk(Generic[W]):
    """Answers requests of one kind of listener, with the world its handlers need."""

    def __init__(
        self,
        routes: Sequence[Route[W]],
        world: W,
        *,
        header_rules: HeaderRules | None,
        emit: Emit,
        clock: Clock,
        randomness: Randomness,
        rates: Rates | None = None,
        passing: Passing[W] | None = None,
        emit_served: EmitServed | None = None,
    ) -> None:
        """
        Without *header_rules* headers are not looked at, without *rates* nobody is slowed: the ops listener.

        *emit_served* takes several records at a time, where there is a way that costs less than *emit* for each.
        """
        self._passing = passing
        self._routes = tuple(routes)
        self._world = world
        self._header_rules = header_rules
        self._emit = emit
        self._clock = clock
        self._randomness = randomness
        self._rates = rates
        self._dates = Dates(clock)
        self._emit_served = emit_served or one_by_one(emit)
        self._turn = 0

    async def answer(
        self, incoming: Incoming, peer: Peer, read_body: ReadBody = no_body, body: Body | None = None
    ) -> Answer:
        """
        Answer a request; never raises. Its body is read only where the route takes one.

        *body* is that of a request that is passed on to an API; it is read as it goes there.
        """
        started = self._clock.boot()
        route = UNROUTED
        base = None if self._passing is None else self._passing.bases.get(peer.listener)
        passes = self._passing is not None and is_passed_on(incoming.target, base)
        try:
            path, query = self._checked(incoming, peer, base, passes=passes)
            if passes and self._passing is not None:
                passage = passage_of(path, query, base=base)
                route = passage.route
                check_passage(incoming, passage)
                guard.check_body(incoming, takes_body=True, limit=None)
                asked = replace(
                    passage,
                    method=incoming.method,
                    fields=incoming.headers,
                    body=body,
                    takes_chunks=incoming.version >= (1, 1),
                )
                call = Call(peer=peer, name=passage.upstream, passage=asked)
                answer = await self._passing.handler(self._world, call)
            else:
                found = routes_at(self._routes, path)
                route = found[0][0].template
                call_route, call = await self._admit(incoming, peer, found, query, read_body)
                answer = await call_route.handler(self._world, call)
        except ProblemError as refused:
            answer = self._refused(refused, peer, route, passes=passes)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this answer and nothing else
            unexpected = ProblemError(problems.unexpected(self.report_bug("api", error)))
            answer = self._refused(unexpected, peer, route, passes=passes)
        self._answered(route, answer, started)
        return answer

    def learn(self, recall: Recall, piece: bytes, incoming: Incoming, *, last: bool) -> None:
        """
        Keep what *piece* was read as, which has just been answered, if such a request may be answered at once.

        *last*: its connection ends with it.
        """
        peer = recall.peer
        if not is_eligible(incoming) or (self._passing is not None and peer.listener in self._passing.bases):
            return
        try:
            path, query = self._understood(incoming, peer, None, passes=False)
            route, name = route_for(routes_at(self._routes, path), incoming.method)
            if route.at_once is None:
                return
            call = _call(incoming, peer, route, name, query)
        except ProblemError:
            return
        writer = Writer(dates=self._dates, last=last)
        act = route.at_once(self._world, call, writer)
        if act is not None:
            keep(
                recall.known,
                piece,
                Parsed(act=act, account=(account_of(peer), True), route=route.template, writer=writer),
            )

    def turn(self) -> int:
        """Begin a turn of the loop: what is looked at in it need not be looked at twice, for nothing else runs."""
        self._turn += 1
        return self._turn

    def answer_at_once(self, turn: int, asked: Asked) -> Sequence[Offer | None]:
        """
        Answer requests that were read before, and count and report as ``answer`` does; all in this *turn*.

        None, and nothing has happened, for one that ``answer`` has to be asked about. Never raises.
        """
        started = self._clock.boot()
        offers: list[Offer | None] = []
        places: list[int] = []
        served: list[tuple[TokenServed, int | None]] = []
        before, offered = None, None
        for recall, parsed in asked:
            if parsed is not before:
                before, offered = parsed, self._offered(parsed, turn)
            if offered is None or not (self._rates is None or self._rates.take(parsed.account, started)):
                offers.append(None)
                continue
            if offered.record is not None:
                places.append(len(offers))
                served.append((offered.record, recall.peer.pid))
            offers.append(offered)
        if served:
            for unrecorded in self._emit_served(served):
                place = places[unrecorded]
                offers[place] = self._unrecorded(served[unrecorded][0], *asked[place])
        self._count(asked, offers, started)
        return offers

    def _offered(self, parsed: Parsed, turn: int) -> Offer | None:
        """Look what there is; a bug costs this look, and the ordinary way has another try."""
        try:
            return parsed.act(turn)
        except Exception as error:  # noqa: BLE001 - the boundary
            self.report_bug("fast_path", error)
            return None

    def _unrecorded(self, event: TokenServed, recall: Recall, parsed: Parsed) -> Offer:
        """Refuse what could not be recorded."""
        refused = ProblemError(problems.AUDIT_UNAVAILABLE, token=event.token, workload=event.workload)
        answer = self._refused(refused, recall.peer, parsed.route)
        written, last = parsed.writer.answer(answer)
        return Offer(written=written, last=last, outcome=answer.outcome)

    def _count(self, asked: Asked, offers: Sequence[Offer | None], started: float) -> None:
        """Count what was answered in one go: those together that got the very same."""
        duration = self._clock.boot() - started
        for offer in offers if len(offers) == 1 else dict.fromkeys(offers):
            if offer is not None:
                route = asked[offers.index(offer)][1].route
                alike = offers.count(offer)
                self._emit(RequestAnswered(route=route, outcome=offer.outcome, duration=duration, requests=alike))

    def refuse(self, problem: Problem, peer: Peer) -> Answer:
        """Answer a connection on which no request was understood."""
        started = self._clock.boot()
        if problem.error is not ErrorCode.SLOW_DOWN and not self._in_time(peer, understood=False):
            problem = problems.TOO_MANY_MISTAKES
        passes = self._passing is not None and peer.listener in self._passing.bases
        answer = self._refused(ProblemError(problem), peer, UNROUTED, passes=passes)
        self._answered(UNROUTED, answer, started)
        return answer

    def report_bug(self, where: str, error: BaseException) -> str:
        """Report an exception that nobody expected; gives the incident by which its report is found."""
        incident = self._randomness.token(INCIDENT_BYTES)
        self._emit(
            UnexpectedFailure(where=where, incident=incident, error=type(error).__name__, frames=frames_of(error))
        )
        return incident

    def _in_time(self, peer: Peer, *, understood: bool) -> bool:
        """
        Say whether *peer* may ask now.

        What is refused as it stands is counted apart: over TCP callers have no uid, and who does not have the
        secret shall not use up what is left for those who have it.
        """
        return self._rates is None or self._rates.take((account_of(peer), understood), self._clock.boot())

    def _checked(self, incoming: Incoming, peer: Peer, base: str | None, *, passes: bool) -> tuple[str, str]:
        """Give path and query of a request that is one, and comes in time. Raises ProblemError."""
        try:
            path, query = self._understood(incoming, peer, base, passes=passes)
        except ProblemError:
            if self._in_time(peer, understood=False):
                raise
            raise ProblemError(problems.TOO_MANY_MISTAKES) from None
        if not self._in_time(peer, understood=True):
            raise ProblemError(problems.TOO_MANY_REQUESTS)
        return path, query

    def _understood(self, incoming: Incoming, peer: Peer, base: str | None, *, passes: bool) -> tuple[str, str]:
        """Give path and query of a request that is one. Raises ProblemError."""
        guard.check_head(incoming)
        if self._header_rules is not None:
            authority = None if base is None or self._passing is None else self._passing.authority(base)
            self._header_rules.check(incoming, peer.listener, passing=passes, authority=authority)
        return guard.split_target(incoming.target)

    async def _admit(
        self,
        incoming: Incoming,
        peer: Peer,
        found: Sequence[tuple[Route[W], str]],
        query: str,
        read_body: ReadBody,
    ) -> tuple[Route[W], Call]:
        route, name = route_for(found, incoming.method)
        call = _call(incoming, peer, route, name, query)
        if route.body is None:
            return route, call
        if not incoming.has_body:
            return route, replace(call, body=bodies.complete({}, route.body))
        if route.enter is not None:
            route.enter(self._world, call)  # who may not ask for it shall not hold a place by sending slowly
        return route, replace(call, body=await _members(incoming, route.body, read_body))

    def _refused(self, refused: ProblemError, peer: Peer, route: str, *, passes: bool = False) -> Answer:
        problem = proxied(refused.problem) if passes else refused.problem
        answer = replace(problem_answer(problem), after_body=passes)
        if refused.is_recorded:
            return answer
        self._emit(
            RequestRefused(
                listener=peer.listener,
                uid=peer.uid,
                gid=peer.gid,
                pid=peer.pid,
                workload=refused.workload,
                route=route,
                token=refused.token,
                status=problem.status,
                error=problem.error.value,
                reason=str(problem.reason),
            )
        )
        return answer

    def _answered(self, route: str, answer: Answer, started: float) -> None:
        self._emit(RequestAnswered(route=route, outcome=answer.outcome, duration=self._clock.boot() - started))


def _call(incoming: Incoming, peer: Peer, route: Route[W], name: str, query: str) -> Call:
    """Read what *route* takes of a request, but for its body. Raises ProblemError."""
    guard.check_body(incoming, takes_body=route.body is not None)
    numbers, texts = guard.read_query(query, route.parameters, route.texts)
    return Call(
        peer=peer,
        name=name,
        query=numbers,
        texts=texts,
        plain_text=prefers_plain_text(incoming.values("accept")),
        known=read_if_none_match(incoming.values("if-none-match")) if route.conditional else None,
    )


async def _members(incoming: Incoming, rules: BodyRules, read_body: ReadBody) -> Mapping[str, Any]:
    """Read the members of a body; one that turns out to be empty is none."""
    if incoming.content_length is not None:
        bodies.check_media_type(incoming)  # a body is not waited for in vain
    body = await read_body()
    if not body:
        return bodies.complete({}, rules)  # it came in chunks, and there was none
    bodies.check_media_type(incoming)
    return bodies.read_body(body, rules)
