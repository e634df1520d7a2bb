from __future__ import annotations

from dataclasses import replace

import pytest

from broker.errors import LocalError, Outcome, RemoteError
from broker.oauth.client import ClientSecretEncoding
from broker.oauth.dialect import IRIDIUM, STANDARD, Dialect
from broker.oauth.messages import (
    AssertionSpec,
    BasicSpec,
    BearerSpec,
    CredentialSpec,
    Draft,
    PostSpec,
    Request,
    RequestObjectSpec,
    Response,
)
from broker.oauth.secret import AccessToken, BasicCredentials, ClientSecret, RefreshToken
from broker.tokens.exchange import Exchange
from tests.fakes import Dice, LoopClock
from tests.unit.tokens.dpop import FakeProofKey, challenge, proofs_of
from tests.unit.tokens.world import FakeSession, FakeSigner, json_response

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


DPOP_DRAFT = replace(DRAFT, proves=True)


def proving(session: FakeSession, *keys: FakeProofKey, signer: FakeSigner | None = None) -> Exchange:
    return replace(exchange(session, signer or FakeSigner()), proofs=proofs_of(*(keys or (FakeProofKey(),))))


async def test_a_request_for_bound_tokens_carries_a_proof():
    """Beside the assertion; for the very URL, and with a nonce only after the server has given one."""
    session, key = FakeSession(), FakeProofKey()
    session.script = [json_response({}, headers={"dpop-nonce": "n-1"}), json_response({}, status=500)]
    ours = proving(session, key)

    for _ in range(3):
        await ours.send(DPOP_DRAFT, ours.prepare())

    assert [request.proof.reveal() for request in session.requests if request.proof] == [
        "proof-key-1-1",
        "proof-key-1-2",
        "proof-key-1-3",
    ]
    assert [(claims["htm"], claims["htu"]) for claims in key.proved] == [("POST", DRAFT.url)] * 3
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1", "n-1"]


async def test_a_request_that_needs_a_nonce_is_made_anew_once():
    """Another proof, another jti, another assertion (rules.md R1): the server remembers those that it refused."""
    session, signer, key = FakeSession(), FakeSigner(), FakeProofKey()
    session.script = [challenge("n-1")]
    ours = proving(session, key, signer=signer)
    transmission = ours.prepare()
    first = transmission.jti

    sent = await ours.send(DPOP_DRAFT, transmission)

    assert sent.response.status == 200
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1"]
    assert key.proved[0]["jti"] != key.proved[1]["jti"]
    assert [claims["jti"] for claims in signer.signed] == [first, transmission.jti]
    assert first != transmission.jti


async def test_a_server_that_is_never_content_is_asked_twice():
    """Its answer is given as it is, and the next request begins with the newest nonce."""
    session, key = FakeSession(), FakeProofKey()
    session.script = [challenge("n-1"), challenge("n-2")]
    ours = proving(session, key)

    sent = await ours.send(DPOP_DRAFT, ours.prepare())
    await ours.send(DPOP_DRAFT, ours.prepare())

    assert sent.response.status == 400
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1", "n-2"]


async def test_a_challenge_without_a_nonce_is_not_answered():
    """There is nothing that another try could do better."""
    session = FakeSession(script=[challenge(None)])
    ours = proving(session)

    sent = await ours.send(DPOP_DRAFT, ours.prepare())

    assert (sent.response.status, len(session.requests)) == (400, 1)


async def test_an_answer_to_a_second_request_that_does_not_come_is_of_its_own_outcome():
    """The first was not processed; of the second nobody knows, or it was not sent."""
    session = FakeSession(script=[challenge(), RemoteError("x", "x", outcome=Outcome.NOT_SENT)])
    ours = proving(session)

    with pytest.raises(RemoteError) as failed:
        await ours.send(DPOP_DRAFT, ours.prepare())

    assert failed.value.outcome is Outcome.NOT_SENT


async def test_a_request_that_needs_no_proof_has_none():
    """Revocation, say; and who calls a nonce into it is not listened to."""
    session, key = FakeSession(script=[challenge("n-1")]), FakeProofKey()
    ours = proving(session, key)

    sent = await ours.send(DRAFT, ours.prepare())
    await ours.send(DPOP_DRAFT, ours.prepare())

    assert (sent.response.status, session.requests[0].proof) == (400, None)
    assert "nonce" not in key.proved[0]


async def test_nothing_is_sent_without_the_proof_that_it_needs():
    """What came of it would be a bearer token."""
    session = FakeSession()
    ours = exchange(session, FakeSigner())

    with pytest.raises(TypeError):
        await ours.send(DPOP_DRAFT, ours.prepare())
    failing = proving(session, FakeProofKey(error=LocalError("signing_failed", "no")))
    with pytest.raises(LocalError):
        await failing.send(DPOP_DRAFT, failing.prepare())

    assert session.requests == []


async def test_a_transmission_may_be_made_with_an_older_key():
    """A code is bound to the key of its request; a client without a key has none to choose."""
    session, new, old = FakeSession(), FakeProofKey(jkt="new"), FakeProofKey(jkt="old")
    ours = proving(session, new, old)

    assert ours.prepare().jkt == ours.jkt == "new"
    await ours.send(DPOP_DRAFT, ours.prepare("old"))

    assert (len(new.proved), len(old.proved)) == (0, 1)
    plain = exchange(session, FakeSigner())
    assert (plain.jkt, plain.prepare("old").jkt) == (None, None)
    assert [ours.holds(jkt) for jkt in ("new", "old", "gone", None)] == [True, True, False, False]
    assert [plain.holds(jkt) for jkt in ("new", None)] == [False, True]


GET = Request(method="GET", url="https://as.example/me")


async def test_a_resource_is_asked_with_the_token_and_a_proof_for_it():
    """And again, once, where it wants a nonce: that is a challenge there, among others maybe."""
    session, key = FakeSession(), FakeProofKey()
    headers = {"dpop-nonce": "n-1", "www-authenticate": 'Bearer, dPoP error="use_dpop_nonce"'}
    session.script = [Response(status=401, headers=headers, body=b"")]
    ours = proving(session, key)

    response = await ours.fetch(GET, AccessToken("at"), ours.prepare())

    assert response.status == 200
    assert [request.credential for request in session.requests] == [AccessToken("at")] * 2
    assert [claims.get("nonce") for claims in key.proved] == [None, "n-1"]
    assert all("ath" in claims for claims in key.proved)
    assert key.proved[0]["jti"] != key.proved[1]["jti"]


async def test_a_resource_is_asked_with_a_bearer_token_where_nothing_is_bound():
    """The certificate of the connection is enough, or nothing is."""
    session = FakeSession()
    ours = exchange(session, FakeSigner())

    await ours.fetch(GET, AccessToken("at"), ours.prepare())

    assert (session.requests[0].credential, session.requests[0].proof) == (AccessToken("at"), None)


# --- dialects ---


async def test_an_access_token_stands_for_the_client_where_the_draft_says_so():
    """It is a header; nothing is signed, and the request shows it no more than the draft."""
    session, signer = FakeSession(), FakeSigner()
    ours = exchange(session, signer)
    draft = Draft(url="https://as.example/t", form=(), credential=BearerSpec(access_token=AccessToken("canary")))

    await ours.send(draft, ours.prepare())

    assert session.requests[0].credential == AccessToken("canary")
    assert "canary" not in repr(session.requests)
    assert signer.signed == []


async def test_method_and_placement_are_the_drafts_and_names_the_servers():
    """What a draft says is passed on; renaming holds for each request of the server."""
    session = FakeSession()
    renamed = (("code_verifier", "code_verfier"),)
    ours = replace(exchange(session, None), dialect=Dialect(renamed_parameters=renamed))

    await ours.send(Draft(method="DELETE", url="https://as.example/out", form=None), ours.prepare())
    await ours.send(Draft(url="https://as.example/t", form=(("a", "b"),), in_query=True), ours.prepare())

    logout, query = session.requests
    assert (logout.method, logout.form, logout.in_query) == ("DELETE", None, False)
    assert (query.method, query.form, query.in_query) == ("POST", (("a", "b"),), True)
    assert logout.renamed == query.renamed == renamed


async def test_without_a_dialect_a_request_is_the_standards():
    """Each departure has to be said."""
    session = FakeSession()
    ours = exchange(session, None)

    await ours.send(Draft(url="https://as.example/t", form=()), ours.prepare())

    assert ours.dialect is STANDARD
    assert session.requests[0] == Request(
        method="POST", url="https://as.example/t", headers={"accept": "application/json"}, form=()
    )


@pytest.mark.parametrize("proving", [False, True])
async def test_what_the_server_says_in_its_own_way_comes_out_as_the_standard_has_it(proving: bool):
    """IRI-09, IRI-10: at every endpoint, and nothing of its text comes out."""
    told = json_response({"error": "invalid refresh token: canary", "error_description": ""}, status=400)
    session = FakeSession(script=[told, told])
    proofs = proofs_of(FakeProofKey()) if proving else None
    ours = replace(exchange(session, None), dialect=IRIDIUM, proofs=proofs)

    sent = await ours.send(Draft(url="https://as.example/t", form=()), ours.prepare())
    fetched = await ours.fetch(Request(method="GET", url="https://as.example/me"), AccessToken("at"), ours.prepare())

    assert sent.response.body == fetched.body == b'{"error": "invalid_grant"}'


async def test_a_challenge_for_a_nonce_is_met_before_it_is_understood():
    """The dialect's reading of an error does not keep a request from being sent again with a proof."""
    session = FakeSession(script=[challenge("n-1")])
    ours = replace(exchange(session, None), dialect=IRIDIUM, proofs=proofs_of(FakeProofKey()))

    sent = await ours.send(Draft(url="https://as.example/t", form=(), proves=True), ours.prepare())

    assert sent.response.status == 200
    assert len(session.requests) == 2
