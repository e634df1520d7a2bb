"""One call: with which token, on which connection, and when it is made again."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from broker.egress.caller import COOLDOWN, MAX_MEMORIES, Caller
from broker.egress.recording import MAX_RECORDED
from broker.errors import LocalError, Outcome, RemoteError
from broker.oauth.dpop import token_hash
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken
from broker.policy.upstreams import Upstream, read_rule
from broker.tokens.calls import ApiCall, ApiReply, ApiRequest, Called, EndpointOfServerError, Line
from broker.tokens.proofs import Proofs
from broker.tokens.serving import Serving, TokenUnavailableError
from tests.fakes import Dice, HandClock
from tests.unit.api.world import serving, unavailable
from tests.unit.tokens.dpop import FakeProofKey, proofs_of

REFUSED = (("WWW-Authenticate", 'Bearer error="invalid_token"'),)
WANTS_NONCE = ("WWW-Authenticate", 'Basic realm="a, b", DPoP error="use_dpop_nonce", algs="ES256"')
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
    failure: RemoteError | None = None
    meanwhile: Callable[[], None] = lambda: None

    async def open(self, request: ApiRequest) -> ApiReply:
        self.requests.append(request)
        if request.body is not None and self.reads:
            self.bodies.append(b"".join([piece async for piece in request.body.pieces()]))
        self.meanwhile()
        if self.failure is not None:
            raise self.failure
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
    newer: Serving | BaseException = field(
        default_factory=lambda: serving(etag="newer", access_token=serving().token.access_token)
    )
    has_line: bool = True
    proofs: Proofs | None = None

    def __post_init__(self) -> None:
        self.caller = Caller(
            lines=FakeLines(self),
            proofs=lambda _token: self.proofs,
            is_endpoint=self.is_endpoint,
            clock=self.clock,
            randomness=Dice(),
        )

    async def is_endpoint(self, token: str, url: str) -> bool:
        return (token, url) == ("t", "https://api.example/v1/token")

    async def renew(self, etag: str) -> Serving:
        self.renewed.append(etag)
        if isinstance(self.newer, BaseException):
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


async def test_the_authorization_server_is_not_called():
    """There the certificate stands for the client, and no ceiling of the configuration would hold."""
    world = World(FakeLine([(200, ())]))

    with pytest.raises(EndpointOfServerError):
        await world.call(path="/token")

    assert world.line.requests == []


async def test_a_token_without_its_certificate_is_not_sent():
    """The API would see it on a connection that it does not belong to."""
    world = World(FakeLine([(200, ())]), has_line=False)

    with pytest.raises(LocalError) as raised:
        await world.call()

    assert raised.value.code == "certificate_gone"
    assert world.line.requests == []


def replaced(outcome: Outcome, *, reads: bool = False, newer: FakeLine | None = None) -> World:
    """Give a world whose line fails with *outcome*, and is replaced by *newer* meanwhile."""
    failure = RemoteError("server_certificate_refused", "no", outcome=outcome)
    world = World(FakeLine([(200, ())], failure=failure, reads=reads))

    def replace_it() -> None:
        world.has_line = newer is not None
        if newer is not None:
            world.line = newer

    world.line.meanwhile = replace_it
    return world


async def test_what_a_replaced_line_could_not_send_goes_out_on_the_one_in_its_place():
    """The server had gone over to another authority while a connection was made; the caller sees nothing of it."""
    newer = FakeLine([(200, ())])
    world = replaced(Outcome.NOT_SENT, newer=newer)
    older = world.line

    called = await world.call(body=Given(b"the body"))

    assert called.reply.status == 200
    assert (newer.bodies, len(older.requests), len(newer.requests)) == ([b"the body"], 1, 1)
    assert world.asked == [("api", "a-thumbprint")] * 2


@pytest.mark.parametrize(
    ("outcome", "reads", "newer"),
    [
        (Outcome.UNKNOWN, False, FakeLine([(200, ())])),
        (Outcome.NOT_SENT, True, FakeLine([(200, ())])),
        (Outcome.NOT_SENT, False, None),
    ],
    ids=["may_have_been_sent", "body_begun", "certificate_gone"],
)
async def test_nothing_else_that_failed_is_sent_on_another_line(outcome: Outcome, reads: bool, newer: FakeLine | None):
    """What may have arrived would arrive twice, and of a body that was begun there is no beginning any more."""
    world = replaced(outcome, reads=reads, newer=newer)

    with pytest.raises(RemoteError, match="no"):
        await world.call(body=Given(b"the body"))

    assert newer is None or newer.requests == []


async def test_a_line_that_is_still_the_one_gets_no_second_try():
    """Its connection would fail again, and the caller waits."""
    failure = RemoteError("connect_failed", "no", outcome=Outcome.NOT_SENT)
    world = World(FakeLine([(200, ())], failure=failure))

    with pytest.raises(RemoteError):
        await world.call()

    assert len(world.line.requests) == 1


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
    await world.call(serving=serving(etag="another"))

    assert world.renewed == ["an-etag", "another"]


@pytest.mark.parametrize("newer", [serving(), unavailable()])
async def test_without_another_token_the_refusal_is_passed_on(newer: Serving | TokenUnavailableError):
    """As it came, with its body unread."""
    world = World(FakeLine([(401, REFUSED)]), newer=newer)

    called = await world.call()

    assert (called.reply.status, len(world.line.requests)) == (401, 1)
    assert world.line.opened[0].closed == 0


@pytest.mark.parametrize("ended", [asyncio.CancelledError(), KeyError("t")])
async def test_a_refusal_is_let_go_if_its_caller_leaves_while_another_token_is_fetched(ended: BaseException):
    """Or if the token is gone by then: a connection that nobody reads from is lost for all others."""
    world = World(FakeLine([(401, REFUSED)]), newer=ended)

    with pytest.raises(type(ended)):
        await world.call()

    assert [body.closed for body in world.line.opened] == [1]


async def test_calls_that_were_under_way_with_a_refused_token_get_the_other_one_too():
    """None fails because another was first; who gives out tokens is asked by each, and fetches one for all."""

    class ByToken(FakeLine):
        async def open(self, request: ApiRequest) -> ApiReply:
            is_old = ("authorization", "Bearer the-access-token") in request.fields
            self.replies = [(401, REFUSED) if is_old else (200, ())]
            return await super().open(request)

    world = World(ByToken([]), newer=serving(etag="newer", access_token=AccessToken("another-token")))

    statuses = [(await world.call()).reply.status for _ in range(3)]

    assert (statuses, world.renewed) == ([200] * 3, ["an-etag"] * 3)


@pytest.mark.parametrize("newer", [serving(), unavailable()])
async def test_a_token_that_could_not_be_replaced_yet_is_replaced_after_the_cooldown(
    newer: Serving | TokenUnavailableError,
):
    """It was fetched a moment ago, or the server was away: that does not make it good for the rest of its life."""
    world = World(FakeLine([(401, REFUSED), (401, REFUSED), (401, REFUSED), (200, ())]), newer=newer)
    await world.call()
    world.newer = serving(etag="newer")
    soon = await world.call()
    assert (soon.reply.status, world.renewed) == (401, ["an-etag"])

    world.clock.now += COOLDOWN
    late = await world.call()

    assert (late.reply.status, world.renewed) == (200, ["an-etag", "an-etag"])


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


def nonce(value: str) -> tuple[str, str]:
    return ("DPoP-Nonce", value)


def wants(value: str) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Give the reply of an API that wants *value* in the proof."""
    return (401, (WANTS_NONCE, nonce(value)))


def key_bound(etag: str = "an-etag", jkt: str = "key-1") -> Serving:
    """Give a token that is bound to a key, and to no certificate."""
    return serving(etag=etag, jkt=jkt, certificate_thumbprint=None, binding="dpop", token_type="DPoP")


def dpop_world(key: FakeProofKey, *replies: tuple[int, tuple[tuple[str, str], ...]], reads: bool = True) -> World:
    """Give a world whose token is bound to *key*."""
    proofs = proofs_of(key, clock=HandClock())
    return World(FakeLine(list(replies), reads=reads), proofs=proofs, newer=key_bound("newer"))


async def test_a_token_that_is_bound_to_a_key_goes_out_with_a_proof_for_the_call():
    """For its method, its URL without the query, and this token; on the line of its client as it is now."""
    key = FakeProofKey()
    world = dpop_world(key, (200, (nonce("n-1"), ("X", "1"))))

    called = await world.call(method="DELETE", serving=key_bound(), fields=(("DPoP", "of-the-caller"),))

    assert world.asked == [("api", None)]
    assert world.line.requests[0].url == "https://api.example/v1/a?b=c"
    assert world.line.requests[0].fields == (("authorization", "DPoP the-access-token"), ("dpop", "proof-key-1-1"))
    (proved,) = key.proved
    assert (proved["htm"], proved["htu"]) == ("DELETE", "https://api.example/v1/a")
    assert proved["ath"] == token_hash(key_bound().token.access_token)
    assert "nonce" not in proved
    assert called.reply.fields == (("X", "1"),)


async def test_a_nonce_that_the_api_wants_is_in_a_second_proof():
    """The whole call is made again, once, with a new proof; the first reply is let go, and no token is replaced."""
    key = FakeProofKey()
    world = dpop_world(key, wants("n-1"), (200, ()))

    called = await world.call(method="POST", body=Given(b"abc"), serving=key_bound())

    assert (called.reply.status, world.renewed) == (200, [])
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1"]
    assert key.proved[0]["jti"] != key.proved[1]["jti"]
    assert world.line.sent("dpop") == ["proof-key-1-1", "proof-key-1-2"]
    assert world.line.bodies == [b"abc", b"abc"]
    assert [body.closed for body in world.line.opened] == [1, 0]


async def test_the_newest_nonce_of_the_api_is_in_the_next_proof():
    """Whichever answer it came with; so that only the first call is made twice."""
    key = FakeProofKey()
    world = dpop_world(key, wants("n-1"), (200, (nonce("n-2"),)), (404, (nonce("n-3"),)), (200, ()))

    for _ in range(3):
        await world.call(serving=key_bound())

    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1", "n-2", "n-3"]


async def test_an_api_that_never_has_enough_of_nonces_is_asked_twice():
    """The second refusal is the caller's affair, but its nonce is kept for the next call."""
    key = FakeProofKey()
    world = dpop_world(key, wants("n-1"), wants("n-2"), (200, ()))

    refused = await world.call(serving=key_bound())
    after = await world.call(serving=key_bound())

    assert (refused.reply.status, after.reply.status) == (401, 200)
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1", "n-2"]
    assert not [name for name, _ in refused.reply.fields if name.lower() == "dpop-nonce"]


@pytest.mark.parametrize(
    "refusal",
    [
        (401, (WANTS_NONCE,)),
        (401, (WANTS_NONCE, nonce("not a nonce"))),
        (401, (WANTS_NONCE, nonce("n-1"), nonce("n-2"))),
        (400, (WANTS_NONCE, nonce("n-1"))),
        (401, (("WWW-Authenticate", 'Bearer error="use_dpop_nonce"'), nonce("n-1"))),
        (401, (("WWW-Authenticate", 'DPoP error="invalid_dpop_proof"'), nonce("n-1"))),
    ],
)
async def test_a_refusal_that_does_not_ask_for_a_nonce_or_gives_none_is_passed_on(
    refusal: tuple[int, tuple[tuple[str, str], ...]],
):
    """A second proof would be as good as the first."""
    world = dpop_world(FakeProofKey(), refusal, (200, ()))

    called = await world.call(serving=key_bound())

    assert (called.reply.status, len(world.line.requests), world.renewed) == (refusal[0], 1, [])


async def test_a_call_whose_body_is_gone_is_not_made_again_for_a_nonce():
    """The caller gets the refusal, unread; the nonce is in its next call."""
    key = FakeProofKey()
    world = dpop_world(key, wants("n-1"), (200, ()), reads=False)

    called = await world.call(method="POST", body=Given(b"abc"), serving=key_bound())
    again = await world.call(method="POST", body=Given(b"abc"), serving=key_bound())

    assert (called.reply.status, again.reply.status) == (401, 200)
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1"]
    assert [body.closed for body in world.line.opened] == [0, 0]


async def test_a_body_that_is_too_large_to_keep_is_sent_once():
    """So that memory stays flat, though all of it was read."""
    world = dpop_world(FakeProofKey(), wants("n-1"), (200, ()))

    called = await world.call(method="POST", body=Given(b"x" * (MAX_RECORDED + 1)), serving=key_bound())

    assert (called.reply.status, len(world.line.requests)) == (401, 1)


async def test_a_key_bound_token_that_is_refused_is_replaced_too():
    """With a proof for the new token; each of the two is challenged for a nonce once at most."""
    key = FakeProofKey()
    refused = (401, (("WWW-Authenticate", 'DPoP error="invalid_token"'), nonce("n-2")))
    world = dpop_world(key, wants("n-1"), refused, wants("n-3"), (200, ()))
    world.newer = serving(
        etag="newer", jkt="key-1", certificate_thumbprint=None, access_token=AccessToken("another-token")
    )

    called = await world.call(method="PUT", body=Given(b"abc"), serving=key_bound())

    assert (called.reply.status, called.serving.token.etag, world.renewed) == (200, "newer", ["an-etag"])
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1", "n-2", "n-3"]
    old, new = token_hash(AccessToken("the-access-token")), token_hash(AccessToken("another-token"))
    assert [claims["ath"] for claims in key.proved] == [old, old, new, new]
    assert world.line.sent("authorization")[2:] == ["DPoP another-token"] * 2
    assert world.line.bodies == [b"abc"] * 4
    assert [body.closed for body in world.line.opened] == [1, 1, 1, 0]


@pytest.mark.parametrize("has_keys", [True, False])
async def test_a_token_whose_key_is_gone_is_not_sent(has_keys: bool):
    """Neither with a proof of another key nor as a bearer token."""
    key = FakeProofKey(jkt="another")
    world = dpop_world(key, (200, ()))
    world.proofs = world.proofs if has_keys else None

    with pytest.raises(LocalError) as raised:
        await world.call(serving=key_bound())

    assert raised.value.code == Reason.DPOP_KEY_UNKNOWN
    assert (world.line.requests, key.proved) == ([], [])


async def test_a_key_that_cannot_sign_keeps_the_call_from_being_made():
    """The API hears nothing."""
    key = FakeProofKey(error=LocalError(Reason.SIGNING_FAILED, "no"))
    world = dpop_world(key, (200, ()))

    with pytest.raises(LocalError) as raised:
        await world.call(serving=key_bound())

    assert (raised.value.code, world.line.requests) == (Reason.SIGNING_FAILED, [])
