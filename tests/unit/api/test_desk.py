"""From a request to an answer, and what is reported of it."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest

from broker.api import problems
from broker.api.answers import JSON, Answer, problem_answer
from broker.api.bodies import BodyRules
from broker.api.conditions import Known
from broker.api.desk import UNROUTED, Desk, HeaderRules, Passing, ReadBody, no_body
from broker.api.guard import Incoming
from broker.api.limits import Rates
from broker.api.memo import Parsed, Recall
from broker.api.problems import ProblemError
from broker.api.table import Call, Offer, Route
from broker.api.wire import Dates, Writer
from broker.events import EmitServed, RequestAnswered, RequestRefused, TokenServed, UnexpectedFailure
from broker.policy.peer import Peer
from tests.fakes import Dice, Events, HandClock

PEER = Peer(listener="api", uid=1000, gid=1001, pid=12)
CANARY = "canary-81c0"


class World:
    """Notes the calls that got through, and does what it is told."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.calls: list[Call] = []
        self.error: Exception | None = None


async def handle(world: World, call: Call) -> Answer:
    world.calls.append(call)
    world.clock.now += 0.25
    if world.error is not None:
        raise world.error
    return Answer(body=b"{}")


ROUTES = (
    Route(method="GET", template="/things/{name}", handler=handle, summary="", parameters={"wait": range(61)}),
    Route(method="GET", template="/health", handler=handle, summary=""),
    Route(method="GET", template="/poll", handler=handle, summary="", conditional=True),
    Route(method="POST", template="/form", handler=handle, summary="", body=BodyRules(members={"name": str})),
    Route(method="GET", template="/quick/{name}", handler=handle, summary="", at_once=lambda *_: lambda _turn: None),
)


class Bench:
    """A desk with everything around it."""

    def __init__(
        self,
        header_rules: HeaderRules | None = None,
        *,
        without_rules: bool = False,
        rates: Rates | None = None,
        passing: Passing[World] | None = None,
    ) -> None:
        self.clock = HandClock()
        self.world = World(self.clock)
        self.events = Events()
        self.read = 0
        rules = None if without_rules else header_rules or HeaderRules()
        self.desk = Desk(
            ROUTES,
            self.world,
            header_rules=rules,
            emit=self.events,
            clock=self.clock,
            randomness=Dice(),
            rates=rates,
            passing=passing,
        )

    async def post(self, body: bytes | ProblemError, *, chunked: bool = False, media_type: str = JSON) -> Answer:
        async def read() -> bytes:
            self.read += 1
            if isinstance(body, ProblemError):
                raise body
            return body

        length = None if chunked or isinstance(body, ProblemError) else len(body)
        changes: dict[str, Any] = {"method": "POST", "has_body": length != 0, "content_length": length}
        return await self.answer("/form", ("Content-Type", media_type), read_body=read, **changes)

    async def answer(
        self,
        target: str = "/things/a",
        *headers: tuple[str, str],
        read_body: ReadBody = no_body,
        peer: Peer = PEER,
        **changes: Any,
    ) -> Answer:
        members: dict[str, Any] = {
            "method": "GET",
            "target": target,
            "version": (1, 1),
            "headers": (("Host", "localhost"), *headers),
            "head_size": 80,
            "has_body": False,
            "content_length": None,
        }
        return await self.desk.answer(Incoming(**{**members, **changes}), peer, read_body)


async def test_a_good_request_reaches_its_handler():
    """With all that the guard has read."""
    bench = Bench()

    answer = await bench.answer("/things/a?wait=3", ("Accept", "text/plain"))

    assert answer.status == 200
    assert bench.world.calls == [Call(peer=PEER, name="a", query={"wait": 3}, plain_text=True)]


async def test_an_answer_is_counted_by_its_template_and_how_long_it_took():
    """No caller can make a new label."""
    bench = Bench()

    await bench.answer(f"/things/{CANARY}")

    assert bench.events.seen == [RequestAnswered(route="/things/{name}", outcome="ok", duration=0.25)]


async def test_a_refusal_is_audited_and_counted():
    """What the handler knew about it is in the record."""
    bench = Bench()
    denied = problems.access_denied("not_granted", "this caller may get: a")
    bench.world.error = ProblemError(denied, token="a", workload="app")

    answer = await bench.answer()

    assert answer.status == 403
    assert bench.events.seen == [
        RequestRefused(
            listener="api",
            uid=1000,
            gid=1001,
            pid=12,
            workload="app",
            route="/things/{name}",
            token="a",
            status=403,
            error="access_denied",
            reason="not_granted",
        ),
        RequestAnswered(route="/things/{name}", outcome="access_denied", duration=0.25),
    ]


@pytest.mark.parametrize(
    ("target", "changes", "status", "route", "reason"),
    [
        ("/nowhere", {}, 404, UNROUTED, "route_unknown"),
        ("/things/a/b", {}, 404, UNROUTED, "route_unknown"),
        ("/things/../x", {}, 400, UNROUTED, "target_refused"),
        ("/things/a", {"version": (2, 0)}, 400, UNROUTED, "version_unsupported"),
        ("/things/a", {"head_size": 8_193}, 431, UNROUTED, "headers_too_large"),
        ("/things/a", {"headers": ()}, 400, UNROUTED, "host_refused"),
        ("/things/a", {"method": "POST"}, 405, "/things/{name}", "method_not_allowed"),
        ("/things/a", {"method": "HEAD"}, 405, "/things/{name}", "method_not_allowed"),
        ("/things/a", {"has_body": True, "content_length": 3}, 400, "/things/{name}", "body_not_allowed"),
        ("/things/a", {"has_body": True, "content_length": 70_000}, 413, "/things/{name}", "body_too_large"),
        ("/things/a?x=1", {}, 400, "/things/{name}", "query_refused"),
        ("/health?wait=1", {}, 400, "/health", "query_refused"),
    ],
)
async def test_a_refused_request_reaches_no_handler(
    target: str, changes: dict[str, Any], status: int, route: str, reason: str
):
    """And its record says where it got to and why no further."""
    bench = Bench()

    answer = await bench.answer(target, **changes)

    (record,) = bench.events.of(RequestRefused)
    assert (answer.status, record.status, record.route, record.reason) == (status, status, route, reason)
    assert bench.world.calls == []


async def test_a_method_is_looked_at_before_a_body():
    """A POST to a route that has none is told about the method, not about its body."""
    answer = await Bench().answer(method="POST", has_body=True, content_length=5)

    assert answer.status == 405


async def test_configured_hosts_pass():
    """As the header rules say."""
    bench = Bench(HeaderRules(hosts=frozenset({"broker.internal"})))

    assert (await bench.answer(headers=(("Host", "Broker.Internal"),))).status == 200


async def test_without_header_rules_headers_are_not_looked_at():
    """The ops listener: a scraper sends what it wants."""
    bench = Bench(without_rules=True)

    assert (await bench.answer(headers=(("Host", "10.0.0.1:9400"), ("Via", "1.1 x"), ("Origin", "x")))).status == 200


async def test_a_bug_is_an_answer_and_a_report():
    """The answer names the incident; the report has types and lines, and no message."""
    bench = Bench()
    bench.world.error = ValueError(CANARY)

    answer = await bench.answer()

    (failure,) = bench.events.of(UnexpectedFailure)
    assert answer.status == 500
    assert answer.close
    assert failure.incident.encode() in answer.body
    assert (failure.where, failure.error) == ("api", "ValueError")
    assert CANARY not in repr(bench.events.seen)
    assert CANARY.encode() not in answer.body


async def test_a_connection_without_a_request_is_refused_in_the_same_way():
    """Its record has no route, for nobody knows what it wanted."""
    bench = Bench()

    answer = bench.desk.refuse(problems.TOO_SLOW, PEER)

    (record,) = bench.events.of(RequestRefused)
    (counted,) = bench.events.of(RequestAnswered)
    assert answer.status == record.status == 408
    assert record.route == counted.route == UNROUTED


HOSTILE = [
    (f"/things/{CANARY}/x", {}),
    (f"/{CANARY}", {}),
    (f"/things/a?{CANARY}=1", {}),
    (f"/things/a?wait={CANARY}", {}),
    (f"/things/..{CANARY}", {}),
    ("/things/a", {"headers": (("Host", CANARY),)}),
    ("/things/a", {"headers": (("Host", "localhost"), ("Origin", CANARY))}),
    ("/things/a", {"headers": (("Host", "localhost"), (f"Sec-Fetch-{CANARY}", "x"))}),
    ("/things/a", {"method": CANARY}),
]


@pytest.mark.parametrize(("target", "changes"), HOSTILE)
async def test_nothing_that_was_sent_comes_back_or_is_reported(target: str, changes: dict[str, Any]):
    """Neither in the answer nor in an event."""
    bench = Bench()

    answer = await bench.answer(target, **changes)

    assert answer.status >= 400
    assert CANARY not in answer.body.decode()
    assert CANARY not in repr(answer.headers)
    assert CANARY not in repr(bench.events.seen)


async def test_what_a_caller_has_already_is_read_where_the_route_looks_at_it():
    """All lines of the header are one list; other routes do not care, whatever it is."""
    bench = Bench()

    await bench.answer("/poll", ("If-None-Match", 'W/"a"'), ("if-none-match", '"b"'))
    await bench.answer("/poll")
    await bench.answer("/health", ("If-None-Match", CANARY))

    assert [call.known for call in bench.world.calls] == [Known(tags=frozenset({"a", "b"})), None, None]


async def test_a_condition_that_cannot_be_read_is_refused():
    """It is not taken for none, or the caller would never learn of its mistake."""
    bench = Bench()

    answer = await bench.answer("/poll", ("If-None-Match", CANARY))

    assert (answer.status, bench.world.calls) == (400, [])
    assert CANARY.encode() not in answer.body
    assert bench.events.of(RequestRefused)[0].reason == "condition_refused"


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_body_of_a_route_that_takes_one_reaches_its_handler(chunked: bool):
    """Read once."""
    bench = Bench()

    answer = await bench.post(b'{"name":"x"}', chunked=chunked)

    assert (answer.status, bench.read) == (200, 1)
    assert bench.world.calls == [Call(peer=PEER, body={"name": "x"})]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_need_not_be_there(chunked: bool):
    """One of no bytes is none, whatever it says to be."""
    bench = Bench()

    answer = await bench.post(b"", chunked=chunked, media_type="application/x-www-form-urlencoded")

    assert answer.status == 200
    assert bench.world.calls == [Call(peer=PEER)]


@pytest.mark.parametrize(
    ("body", "options", "status", "reason", "read"),
    [
        (b'{"name":1}', {}, 400, "body_refused", 1),
        (b"{", {"chunked": True}, 400, "body_refused", 1),
        (b"{}", {"media_type": "text/plain"}, 415, "media_type_refused", 0),
        (b"{}", {"media_type": "text/plain", "chunked": True}, 415, "media_type_refused", 1),
        (b"{" * 70_000, {}, 413, "body_too_large", 0),
        (ProblemError(problems.TOO_SLOW), {}, 408, "too_slow", 1),
    ],
)
async def test_a_body_that_is_refused_reaches_no_handler(
    body: bytes | ProblemError, options: dict[str, Any], status: int, reason: str, read: int
):
    """And is not read where its announcement is enough."""
    bench = Bench()

    answer = await bench.post(body, **options)

    assert (answer.status, bench.read, bench.world.calls) == (status, read, [])
    assert bench.events.of(RequestRefused)[0].reason == reason


async def test_whoever_asks_too_often_is_told_so_before_anything_is_done():
    """429 with a time to wait; a second later there is room again, and others never noticed."""
    bench = Bench(rates=Rates(2))

    answers = [await bench.answer("/health") for _ in range(5)]
    handled = len(bench.world.calls)
    other = await bench.answer("/health", peer=Peer(listener="api", uid=1001))
    bench.clock.now += 1.0
    later = await bench.answer("/health")

    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert handled == 3  # a quarter of a second each: the bucket gained one meanwhile
    assert dict(answers[-1].headers)["Retry-After"] == "1"
    assert json.loads(answers[-1].body)["error"] == "slow_down"
    assert not answers[-1].close
    assert (other.status, later.status) == (200, 200)
    _, refused = bench.events.of(RequestRefused)
    assert (refused.status, refused.reason, refused.uid, refused.route) == (429, "too_many_requests", 1000, UNROUTED)


async def test_refusals_are_counted_like_anything_else():
    """Whoever may have nothing cannot make more records than others."""
    bench = Bench(rates=Rates(3))

    answers = [await bench.answer("/nothing-here") for _ in range(5)]

    assert [answer.status for answer in answers] == [404, 404, 404, 429, 429]


async def test_what_is_refused_as_it_stands_is_counted_apart():
    """Over TCP nobody has a uid: who lacks the secret uses up nothing of those who have it."""
    bench = Bench(rates=Rates(3))
    nobody = Peer(listener="api")

    refused = [await bench.answer("//", peer=nobody) for _ in range(5)]
    good = await bench.answer("/health", peer=nobody)

    assert [answer.status for answer in refused] == [400, 400, 400, 429, 429]
    assert refused[-1].close
    assert good.status == 200


def test_what_was_not_understood_at_all_is_counted_too():
    """And what says already that there is too much is left as it is."""
    bench = Bench(rates=Rates(3))

    answers = [bench.desk.refuse(problems.MALFORMED, PEER) for _ in range(5)]
    full = bench.desk.refuse(problems.TOO_MANY_CONNECTIONS, PEER)

    assert [answer.status for answer in answers] == [400, 400, 400, 429, 429]
    assert all(answer.close for answer in answers)
    assert full.body == problem_answer(problems.TOO_MANY_CONNECTIONS).body


async def test_without_a_rate_nobody_is_slowed():
    """The ops listener: scrapers have no uid."""
    bench = Bench()

    answers = [await bench.answer("/health") for _ in range(2_000)]

    assert {answer.status for answer in answers} == {200}


async def test_a_refusal_that_has_an_event_of_its_own_is_not_told_twice():
    """It is answered and counted like any other."""
    bench = Bench()
    bench.world.error = ProblemError(problems.DRAINING, is_recorded=True)

    answer = await bench.answer("/health")

    assert answer.status == 503
    assert not bench.events.of(RequestRefused)
    assert [event.outcome for event in bench.events.of(RequestAnswered)] == ["temporarily_unavailable"]


async def test_whatever_is_refused_at_a_base_url_says_that_it_is_the_brokers():
    """Also what was no request: a program there expects answers of an API (RFC 9209)."""
    bench = Bench(passing=Passing(handler=handle, bases={PEER.listener: "api"}))
    elsewhere = Bench(passing=Passing(handler=handle, bases={"another": "api"}))

    refused = [bench.desk.refuse(problem, PEER) for problem in (problems.MALFORMED, problems.TOO_MANY_CONNECTIONS)]
    not_passed_on = await bench.answer("/", method="TRACE")
    plain = elsewhere.desk.refuse(problems.MALFORMED, PEER)

    told = [dict(answer.headers).get("Proxy-Status") for answer in (*refused, not_passed_on, plain)]
    assert told == ["token-broker; error=http_request_error"] * 3 + [None]


# --- requests that were read before ---


RECORD = TokenServed(
    listener="api", uid=1, gid=1, pid=None, workload="app", token="a", fingerprint="f", generation=1, stale=False
)
TOKEN = Offer(written=b"a token", last=False, outcome="ok", record=RECORD)
KNOWN = Offer(written=b"known", last=True, outcome="not_modified")


class Quick:
    """A desk whose requests have all been read before: each is answered with what stands under its letter."""

    def __init__(self, bench: Bench, emit_served: EmitServed | None = None, *, rates: Rates | None = None) -> None:
        self.bench = bench
        self.offers: dict[str, Offer | Exception | None] = {"t": TOKEN, "k": KNOWN, "-": None, "!": ValueError(CANARY)}
        self.desk = Desk(
            ROUTES,
            bench.world,
            header_rules=None,
            emit=bench.events,
            clock=bench.clock,
            randomness=Dice(),
            rates=rates,
            emit_served=emit_served,
        )
        self.looks: list[tuple[str, int]] = []

    def parsed(self, letter: str) -> Parsed:
        def act(turn: int) -> Offer | None:
            self.looks.append((letter, turn))
            self.bench.clock.now += 0.25
            offer = self.offers[letter]
            if isinstance(offer, Exception):
                raise offer
            return offer

        writer = Writer(dates=Dates(self.bench.clock), last=False)
        return Parsed(act=act, account=(PEER.uid, True), route="/things/{name}", writer=writer)

    def ask(self, letters: str) -> list[Offer | None]:
        """Ask for each letter on a connection of its own; neighbours that are alike have sent the same request."""
        one_each = {letter: self.parsed(letter) for letter in letters}
        recalls = [Recall(OrderedDict(), replace(PEER, pid=pid)) for pid in range(len(letters))]
        asked = [(recall, one_each[letter]) for recall, letter in zip(recalls, letters, strict=True)]
        return list(self.desk.answer_at_once(self.desk.turn(), asked))


def test_requests_of_one_turn_are_answered_recorded_and_counted_each():
    """Each token with the pid of its connection; what is alike is told of once."""
    quick = Quick(Bench())

    assert quick.ask("ttkt-") == [TOKEN, TOKEN, KNOWN, TOKEN, None]
    assert [event.pid for event in quick.bench.events.of(TokenServed)] == [0, 1, 3]
    counted = {event.outcome: event.requests for event in quick.bench.events.of(RequestAnswered)}
    assert counted == {"ok": 3, "not_modified": 1}
    assert {event.route for event in quick.bench.events.of(RequestAnswered)} == {"/things/{name}"}


def test_a_turn_has_a_number_of_its_own():
    """By which whoever looks knows that nothing can have changed."""
    quick = Quick(Bench())
    quick.ask("tt")
    quick.ask("t")

    (_, first), *_, (_, last) = quick.looks
    assert first != last


def test_what_is_left_to_the_ordinary_way_has_not_happened():
    """It is counted and recorded there."""
    quick = Quick(Bench(), rates=Rates(1))

    assert quick.ask("--") == [None, None]
    assert not quick.bench.events.seen
    assert quick.ask("t") == [TOKEN]


def test_who_asks_too_often_is_left_to_the_ordinary_way():
    """Before there is a record of a token."""
    quick = Quick(Bench(), rates=Rates(2))

    assert quick.ask("ttt") == [TOKEN, TOKEN, None]
    assert len(quick.bench.events.of(TokenServed)) == 2


def test_a_bug_in_a_look_is_reported_and_left_to_the_ordinary_way():
    """The others are answered."""
    quick = Quick(Bench())

    assert quick.ask("!t") == [None, TOKEN]
    (bug,) = quick.bench.events.of(UnexpectedFailure)
    assert bug.where == "fast_path"


def test_without_its_record_a_token_is_refused():
    """It alone, with the names that are recorded."""
    quick = Quick(Bench(), lambda served: [place for place, (_, pid) in enumerate(served) if pid == 2])

    first, known, refused = quick.ask("tkt")

    assert (first, known) == (TOKEN, KNOWN)
    assert refused is not None
    assert refused.written.startswith(b"HTTP/1.1 503 ")
    assert refused.record is None
    (event,) = quick.bench.events.of(RequestRefused)
    assert (event.reason, event.token, event.workload, event.pid) == ("audit_unavailable", "a", "app", 2)
    counted = {event.outcome: event.requests for event in quick.bench.events.of(RequestAnswered)}
    assert counted == {"ok": 1, "not_modified": 1, refused.outcome: 1}


def test_only_what_may_be_answered_at_once_is_learned():
    """Of routes that have a way to, and of requests that are all head."""
    bench, recall = Bench(), Recall(OrderedDict(), PEER)
    plain: dict[str, Any] = {"version": (1, 1), "head_size": 80, "has_body": False, "content_length": None}
    headers = (("Host", "localhost"),)
    for target, more in (("/quick/a", ()), ("/things/a", ()), ("/quick/b", (("Cookie", "x"),)), ("/nowhere", ())):
        incoming = Incoming(method="GET", target=target, headers=(*headers, *more), **plain)
        bench.desk.learn(recall, target.encode(), incoming, last=True)

    assert list(recall.known) == [b"/quick/a"]
    (parsed,) = recall.known.values()
    assert (parsed.route, parsed.writer.last, parsed.account) == ("/quick/{name}", True, (1000, True))
