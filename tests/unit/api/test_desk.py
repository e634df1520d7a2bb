"""From a request to an answer, and what is reported of it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.api import problems
from broker.api.answers import Answer
from broker.api.desk import UNROUTED, Desk, HeaderRules
from broker.api.guard import Incoming
from broker.api.problems import ProblemError
from broker.api.table import Call, Route
from broker.events import RequestAnswered, RequestRefused, UnexpectedFailure
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
)


class Bench:
    """A desk with everything around it."""

    def __init__(self, header_rules: HeaderRules | None = None, *, without_rules: bool = False) -> None:
        self.clock = HandClock()
        self.world = World(self.clock)
        self.events = Events()
        rules = None if without_rules else header_rules or HeaderRules()
        self.desk = Desk(ROUTES, self.world, header_rules=rules, emit=self.events, clock=self.clock, randomness=Dice())

    async def answer(self, target: str = "/things/a", *headers: tuple[str, str], **changes: Any) -> Answer:
        members: dict[str, Any] = {
            "method": "GET",
            "target": target,
            "version": (1, 1),
            "headers": (("Host", "localhost"), *headers),
            "head_size": 80,
            "has_body": False,
            "content_length": None,
        }
        return await self.desk.answer(Incoming(**{**members, **changes}), PEER)


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
