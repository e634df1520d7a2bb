from __future__ import annotations

import pytest

from broker.errors import LocalError
from broker.oauth.messages import AssertionSpec, Draft
from broker.tokens.exchange import Exchange
from tests.fakes import Dice, LoopClock
from tests.unit.tokens.world import FakeSession, FakeSigner

DRAFT = Draft(
    url="https://as.example/token",
    form=(("grant_type", "client_credentials"),),
    assertion=AssertionSpec(client_id="app-1", audience="https://as.example"),
)


def exchange(session: FakeSession, signer: FakeSigner | None) -> Exchange:
    return Exchange(session=session, signer=signer, clock=LoopClock(), randomness=Dice())


async def test_every_transmission_has_an_assertion_of_its_own():
    """A replayed jti is refused by strict servers, so the same draft is signed anew each time."""
    session, signer = FakeSession(), FakeSigner()
    ours = exchange(session, signer)

    await ours.send(DRAFT, ours.prepare())
    await ours.send(DRAFT, ours.prepare())

    first, second = signer.signed
    assert first["jti"] != second["jti"]
    assert first["aud"] == "https://as.example"
    assertions = [request.client_assertion for request in session.requests]
    assert [assertion.reveal() for assertion in assertions if assertion] == ["assertion-1", "assertion-2"]


async def test_the_jti_is_known_before_it_is_sent():
    """A failure that brings no answer is still told with the jti that the server may have seen."""
    session, signer = FakeSession(default=LocalError("x", "x")), FakeSigner()
    ours = exchange(session, signer)
    transmission = ours.prepare()

    with pytest.raises(LocalError):
        await ours.send(DRAFT, transmission)

    assert signer.signed[0]["jti"] == transmission.jti


async def test_the_start_is_taken_before_the_request():
    """A slow answer does not lengthen the life of the token in it."""
    session = FakeSession(delay=7.0)
    ours = exchange(session, FakeSigner())
    before = ours.clock.boot()

    sent = await ours.send(DRAFT, ours.prepare())

    assert sent.started_at == before
    assert ours.clock.boot() == before + 7.0


async def test_a_draft_without_an_assertion_is_sent_without():
    """A client that authenticates otherwise has no signer."""
    session = FakeSession()
    ours = exchange(session, None)

    await ours.send(Draft(url="https://as.example/token", form=()), ours.prepare())

    assert session.requests[0].client_assertion is None
    assert session.requests[0].method == "POST"


async def test_a_key_that_cannot_sign_sends_nothing():
    """The error is ours, and the server is not asked."""
    session = FakeSession()
    ours = exchange(session, FakeSigner(error=LocalError("signing_failed", "no")))

    with pytest.raises(LocalError):
        await ours.send(DRAFT, ours.prepare())

    assert session.requests == []
