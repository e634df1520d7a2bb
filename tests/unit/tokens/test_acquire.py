from __future__ import annotations

import asyncio

import pytest

from broker.errors import RemoteError
from broker.oauth.reasons import Reason
from broker.tokens.acquire import Acquirer, Attempt, Registration
from broker.tokens.exchange import Exchange
from broker.tokens.spec import IssuedToken, TokenSpec
from tests.fakes import WALL_AT_BOOT, Dice, LoopClock
from tests.unit.tokens.tokens import spec
from tests.unit.tokens.world import (
    CLIENT,
    ISSUER,
    OTHER_THUMBPRINT,
    THUMBPRINT,
    FakeMetadata,
    FakeSession,
    FakeSigner,
    json_response,
    token_body,
)


async def acquire(session: FakeSession, wanted: TokenSpec | None = None) -> IssuedToken:
    clock, randomness = LoopClock(), Dice()
    exchange = Exchange(session=session, signer=FakeSigner(), clock=clock, randomness=randomness)
    registration = Registration(client=CLIENT, issuer=ISSUER, metadata=FakeMetadata(), exchange=exchange)
    attempt = Attempt(
        number=3,
        spec=wanted or spec(),
        registration=registration,
        transmission=exchange.prepare(),
        started_at=clock.boot(),
    )
    acquirer = Acquirer(clock=clock, randomness=randomness, fingerprint=lambda _: "fp")
    return await acquirer.obtain(await acquirer.draft(attempt.spec, registration), attempt)


async def test_the_request_goes_to_the_alias_of_the_mutual_tls_host():
    """A client that presents a certificate uses mtls_endpoint_aliases (RFC 8705 section 5)."""
    session = FakeSession()

    await acquire(session)

    assert session.requests[0].url == "https://as.example:8443/token"


async def test_a_token_is_anchored_at_the_start_of_the_request():
    """With an answer that takes 20 s, 20 s of the lifetime are gone."""
    session = FakeSession(delay=20.0)
    before = asyncio.get_running_loop().time()

    token = await acquire(session)

    assert token.obtained_at == before
    assert token.expires_at == before + 300.0
    assert token.expires_at_wall == WALL_AT_BOOT + before + 300.0
    assert (token.generation, token.binding, token.certificate_thumbprint) == (3, "certificate", THUMBPRINT)


async def test_a_token_ends_no_later_than_its_certificate():
    """Without its certificate a bound token is useless (rules.md R8)."""
    now = asyncio.get_running_loop().time()
    session = FakeSession(not_after=WALL_AT_BOOT + now + 100.0)

    token = await acquire(session)

    assert token.lifetime == pytest.approx(100.0)


async def test_a_token_for_a_certificate_that_has_ended_is_not_a_token():
    """The clock or the certificate is wrong; serving it would help nobody."""
    now = asyncio.get_running_loop().time()
    session = FakeSession(not_after=WALL_AT_BOOT + now - 1.0)

    with pytest.raises(RemoteError) as caught:
        await acquire(session)

    assert caught.value.code == Reason.CERTIFICATE_EXPIRED


async def test_an_answer_that_took_longer_than_the_token_lives_is_a_failure():
    """It is told as one, with a reason, and backed off from."""
    with pytest.raises(RemoteError) as caught:
        await acquire(FakeSession(delay=400.0))

    assert caught.value.code == Reason.TIMED_OUT


async def test_a_missing_lifetime_is_the_configured_one():
    """expires_in is optional (RFC 6749 section 5.1)."""
    body = token_body()
    del body["expires_in"]
    session = FakeSession(script=[json_response(body)])

    token = await acquire(session, spec(default_lifetime=77.0))

    assert token.lifetime == pytest.approx(77.0)


async def test_scope_is_as_granted_or_as_asked():
    """A server that says nothing granted what was asked; one that says less granted less."""
    silent = await acquire(FakeSession(), TokenSpec(name="a", client="app", scope=("read", "write")))
    narrower = await acquire(
        FakeSession(script=[json_response({**token_body(), "scope": "read"})]),
        TokenSpec(name="a", client="app", scope=("read", "write")),
    )

    assert silent.scope == ("read", "write")
    assert narrower.scope == ("read",)


async def test_a_token_for_another_certificate_is_refused():
    """It could not be used, or worse."""
    session = FakeSession(script=[json_response(token_body(thumbprint=OTHER_THUMBPRINT))])

    with pytest.raises(RemoteError) as caught:
        await acquire(session)

    assert caught.value.code == Reason.WRONG_BINDING
