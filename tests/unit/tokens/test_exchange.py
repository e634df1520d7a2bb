from __future__ import annotations

import pytest

from broker.errors import LocalError
from broker.oauth.client import ClientSecretEncoding
from broker.oauth.messages import AssertionSpec, BasicSpec, CredentialSpec, Draft, PostSpec, RequestObjectSpec
from broker.oauth.secret import BasicCredentials, ClientSecret, RefreshToken
from broker.tokens.exchange import Exchange
from tests.fakes import Dice, LoopClock
from tests.unit.tokens.world import FakeSession, FakeSigner

DRAFT = Draft(
    url="https://as.example/token",
    form=(("grant_type", "client_credentials"),),
    credential=AssertionSpec(client_id="app-1", audience="https://as.example"),
)


def exchange(session: FakeSession, signer: FakeSigner | None, *, secret: ClientSecret | None = None) -> Exchange:
    return Exchange(session=session, signer=signer, secret=secret, clock=LoopClock(), randomness=Dice())


async def test_every_transmission_has_an_assertion_of_its_own():
    """A replayed jti is refused by strict servers, so the same draft is signed anew each time."""
    session, signer = FakeSession(), FakeSigner()
    ours = exchange(session, signer)

    await ours.send(DRAFT, ours.prepare())
    await ours.send(DRAFT, ours.prepare())

    first, second = signer.signed
    assert first["jti"] != second["jti"]
    assert first["aud"] == "https://as.example"
    assertions = [request.credential for request in session.requests]
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


async def test_a_draft_without_a_credential_is_sent_without():
    """A client that its connection identifies adds nothing, and there is no jti to tell it by."""
    session = FakeSession()
    ours = exchange(session, None)
    transmission = ours.prepare()

    await ours.send(Draft(url="https://as.example/token", form=()), transmission)

    assert session.requests[0].credential is None
    assert session.requests[0].method == "POST"
    assert transmission.jti is None


async def test_a_secret_goes_where_the_draft_says():
    """Into the form as it is, or into a header; never shown by the request either way."""
    session = FakeSession()
    ours = exchange(session, None, secret=ClientSecret("canary"))
    header = BasicSpec(client_id="app", encoding=ClientSecretEncoding.FORM)

    for credential in (PostSpec(), header):
        draft = Draft(url="https://as.example/token", form=(), credential=credential)
        await ours.send(draft, ours.prepare())

    assert [request.credential for request in session.requests] == [
        ClientSecret("canary"),
        BasicCredentials("Basic YXBwOmNhbmFyeQ=="),
    ]
    assert "canary" not in repr(session.requests)
    assert "YXBwOmNhbmFyeQ" not in repr(session.requests)


@pytest.mark.parametrize(
    "credential",
    [
        AssertionSpec(client_id="app", audience="https://as.example"),
        BasicSpec(client_id="app", encoding=ClientSecretEncoding.FORM),
        PostSpec(),
    ],
)
async def test_a_client_that_lacks_its_credential_sends_nothing(credential: CredentialSpec):
    """A request without it would be that of another client, a public one."""
    session = FakeSession()
    ours = exchange(session, None)

    with pytest.raises(TypeError):
        await ours.send(Draft(url="https://as.example/token", form=(), credential=credential), ours.prepare())

    assert session.requests == []


async def test_a_key_that_cannot_sign_sends_nothing():
    """The error is ours, and the server is not asked."""
    session = FakeSession()
    ours = exchange(session, FakeSigner(error=LocalError("signing_failed", "no")))

    with pytest.raises(LocalError):
        await ours.send(DRAFT, ours.prepare())

    assert session.requests == []


async def test_a_request_object_is_signed_anew_for_each_transmission():
    """Its times and its jti belong to one transmission; it is sent as ``request`` and shown by nothing."""
    session, signer = FakeSession(), FakeSigner()
    ours = exchange(session, signer)
    spec = RequestObjectSpec(claims={"aud": "https://as.example", "login_hint": "canary"})
    draft = Draft(url="https://as.example/par", form=(("client_id", "app-1"),), request_object=spec)

    await ours.send(draft, ours.prepare())
    await ours.send(draft, ours.prepare())

    first, second = signer.signed
    assert first["typ"] == "oauth-authz-req+jwt"
    assert first["jti"] != second["jti"]
    assert first["exp"] - first["iat"] == 300
    assert first["iat"] - first["nbf"] == 10
    assert [[name for name, _ in request.secret_fields] for request in session.requests] == [["request"], ["request"]]
    assert "canary" not in repr((draft, session.requests))
    assert "assertion-1" not in repr(session.requests)


async def test_without_a_key_no_request_object_is_made():
    """A client that has none is not to be asked for one; the configuration sees to that."""
    session = FakeSession()
    draft = Draft(url="https://as.example/par", form=(), request_object=RequestObjectSpec(claims={}))
    ours = exchange(session, None)

    with pytest.raises(TypeError):
        await ours.send(draft, ours.prepare())

    assert session.requests == []


async def test_secret_fields_go_along_unseen():
    """A refresh token is in the form on the wire, and in no printed form of the request."""
    session = FakeSession()
    ours = exchange(session, None)
    draft = Draft(url="https://as.example/token", form=(), secret_fields=(("refresh_token", RefreshToken("canary")),))

    await ours.send(draft, ours.prepare())

    assert session.requests[0].secret_fields == (("refresh_token", RefreshToken("canary")),)
    assert "canary" not in repr(session.requests)
