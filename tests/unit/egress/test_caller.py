"""One call: with which token, on which connection, and when it is made again."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from broker.egress.caller import COOLDOWN, MAX_MEMORIES, Caller
from broker.errors import LocalError, RemoteError
from broker.policy.upstreams import Upstream, read_rule
from broker.tokens.calls import ApiCall, ApiReply, ApiRequest, Called, Line
from broker.tokens.proofs import Proofs
from broker.tokens.serving import Serving, TokenUnavailableError
from tests.fakes import Dice, HandClock
from tests.unit.api.world import serving, unavailable

REFUSED = (("WWW-Authenticate", 'Bearer error="invalid_token"'),)
API = Upstream(name="api", base_url="https://api.example/v1", token="t", allow=(read_rule("* /**"),))


@dataclass
class FakeBody:
    closed: int = 0

    async def read(self) -> bytes:
        return b""

    async def close(self) -> None:
        self.closed += 1


@dataclass
class FakeLine:
    """Replies with what it is given, and reads what it is sent."""

    replies: list[tuple[int, tuple[tuple[str, str], ...]]]
    requests: list[ApiRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    opened: list[FakeBody] = field(default_factory=list)
    reads: bool = True

    async def open(self, request: ApiRequest) -> ApiReply:
        self.requests.append(request)
        if request.body is not None and self.reads:
            self.bodies.append(b"".join([piece async for piece in request.body.pieces()]))
        status, fields = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        body = FakeBody()
        self.opened.append(body)
        return ApiReply(status=status, fields=fields, length=0, body=body)

    def sent(self, name: str) -> list[str]:
        return [value for request in self.requests for given, value in request.fields if given == name]


class Given:
    def __init__(self, content: bytes) -> None:
        self.length: int | None = len(content)
        self._content = content

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self._content


@dataclass
class FakeLines:
    world: World

    def line(self, upstream: str, thumbprint: str | None) -> Line | None:
        self.world.asked.append((upstream, thumbprint))
        return self.world.line if self.world.has_line else None


@dataclass
class World:
    line: FakeLine
    clock: HandClock = field(default_factory=HandClock)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    newer: Serving | Exception = field(
        default_factory=lambda: serving(etag="newer", access_token=serving().token.access_token)
    )
    has_line: bool = True
    proofs: Proofs | None = None

    def __post_init__(self) -> None:
        self.caller = Caller(
            lines=FakeLines(self), proofs=lambda _token: self.proofs, clock=self.clock, randomness=Dice()
        )

    async def renew(self, etag: str) -> Serving:
        self.renewed.append(etag)
        if isinstance(self.newer, Exception):
            raise self.newer
        return self.newer

    async def call(self, **changes: Any) -> Called:
        call = ApiCall(
            upstream=API,
            method="GET",
            path="/a",
            query="b=c",
            fields=(),
            body=None,
            serving=serving(),
            renew=self.renew,
        )
        return await self.caller.call(replace(call, **changes))


async def test_a_call_goes_out_with_the_token_on_the_line_of_its_certificate():
    """To the URL as it was asked for, with what passes of the caller's fields."""
    world = World(FakeLine([(200, (("X", "1"), ("Set-Cookie", "a")))]))

    called = await world.call(fields=(("Accept", "x"), ("Authorization", "Bearer of-the-caller")))

    assert world.asked == [("api", "a-thumbprint")]
    (request,) = world.line.requests
    assert (request.method, request.url) == ("GET", "https://api.example/v1/a?b=c")
    assert request.fields == (("Accept", "x"), ("authorization", "Bearer the-access-token"))
    assert called.reply.fields == (("X", "1"),)
    assert "the-access-token" not in repr(request)


async def test_a_token_without_its_certificate_is_not_sent():
    """The API would see it on a connection that it does not belong to."""
    world = World(FakeLine([(200, ())]), has_line=False)

    with pytest.raises(LocalError) as raised:
        await world.call()

    assert raised.value.code == "certificate_gone"
    assert world.line.requests == []


@pytest.mark.parametrize(("configured", "given", "ids"), [(True, (), 1), (True, ("x",), 0), (False, (), 0)])
async def test_an_interaction_id_is_added_where_it_is_configured_and_missing(
    configured: bool, given: tuple[str, ...], ids: int
):
    """A UUID of its own for each call."""
    world = World(FakeLine([(200, ())]))
    for _ in range(2):
        await world.call(
            upstream=replace(API, interaction_id=configured),
            fields=tuple(("X-FAPI-Interaction-ID", value) for value in given),
        )

    sent = world.line.sent("x-fapi-interaction-id")
    assert len(sent) == len(set(sent)) == 2 * ids
    assert all(uuid.UUID(value).version == 4 for value in sent)


async def test_a_refused_token_is_replaced_and_the_call_made_again():
    """With all of its body; the first reply is let go."""
    world = World(FakeLine([(401, REFUSED), (200, ())]))

    called = await world.call(method="POST", body=Given(b"abc"))

    assert world.renewed == ["an-etag"]
    assert called.reply.status == 200
    assert called.serving.token.etag == "newer"
    assert world.line.bodies == [b"abc", b"abc"]
    assert [body.closed for body in world.line.opened] == [1, 0]


async def test_a_fresh_token_that_is_refused_is_the_callers_affair():
    """Once is enough."""
    world = World(FakeLine([(401, REFUSED)]))

    called = await world.call()

    assert (called.reply.status, len(world.line.requests)) == (401, 2)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (("WWW-Authenticate", "Bearer"),),
        (("WWW-Authenticate", 'Bearer error="insufficient_scope"'),),
        (("WWW-Authenticate", 'Basic error="invalid_token"'),),
    ],
)
async def test_a_refusal_that_does_not_speak_of_the_token_is_passed_on(fields: tuple[tuple[str, str], ...]):
    """Another token would not help."""
    world = World(FakeLine([(401, fields)]))

    called = await world.call()

    assert (called.reply.status, world.renewed, len(world.line.requests)) == (401, [], 1)


async def test_an_api_that_refuses_every_token_gets_one_more_in_a_cooldown():
    """Else it would drive the authorization server."""
    world = World(FakeLine([(401, REFUSED)]))
    await world.call()
    await world.call(serving=serving(etag="another"))
    assert world.renewed == ["an-etag"]

    world.clock.now += COOLDOWN
    await world.call()
    assert world.renewed == ["an-etag"], "a token that was refused before is not asked for again"
    await world.call(serving=serving(etag="another"))

    assert world.renewed == ["an-etag", "another"]


@pytest.mark.parametrize("newer", [serving(), unavailable()])
async def test_without_another_token_the_refusal_is_passed_on(newer: Serving | TokenUnavailableError):
    """As it came, with its body unread."""
    world = World(FakeLine([(401, REFUSED)]), newer=newer)

    called = await world.call()

    assert (called.reply.status, len(world.line.requests)) == (401, 1)
    assert world.line.opened[0].closed == 0


async def test_a_call_whose_body_is_gone_is_not_made_again():
    """Half of it would be."""
    world = World(FakeLine([(401, REFUSED)], reads=False))

    called = await world.call(body=Given(b"abc"))

    assert (called.reply.status, world.renewed) == (401, [])


async def test_what_is_remembered_has_an_end():
    """A minute later it is of no use."""
    world = World(FakeLine([(401, REFUSED)]))
    for number in range(MAX_MEMORIES):
        await world.call(grant=f"g{number}", serving=serving(etag=f"{number}"))
    world.clock.now += COOLDOWN

    await world.call(grant="last", serving=serving(etag="last"))

    assert len(world.caller._refused) == 1


async def test_what_keeps_a_call_from_being_made_comes_out():
    """The API hears nothing else."""

    class Broken(FakeLine):
        async def open(self, request: ApiRequest) -> ApiReply:
            raise RemoteError("connect_failed", "no", outcome=None)  # type: ignore[arg-type]

    with pytest.raises(RemoteError):
        await World(Broken([])).call()
