from __future__ import annotations

from dataclasses import replace

import pytest

from broker.oauth.metadata import AuthorizationServer, read_metadata
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.nonces import RECENT
from broker.tokens.proofs import Proofs
from broker.tokens.proving import ProofRefusedError, Proving
from tests.fakes import Dice, HandClock
from tests.unit.tokens.dpop import DPOP_CLIENT, FakeProofKey, proofs_of
from tests.unit.tokens.tokens import issued, spec
from tests.unit.tokens.world import ISSUER as SERVER
from tests.unit.tokens.world import METADATA, FakeMetadata, FakeSession, json_response

API = "https://api.example/accounts"
SPEC = replace(spec(), name="accounts", client="app", dpop_resources=("https://api.example/",))


class Metadata(FakeMetadata):
    """With endpoints of many kinds; they are read anew where *keys* changed."""

    keys = "https://as.example/keys?all"
    read: tuple[str, AuthorizationServer] | None = None

    async def get(self) -> AuthorizationServer:
        if self.read is None or self.read[0] != self.keys:
            more = {"userinfo_endpoint": "https://as.example/me", "jwks_uri": self.keys}
            self.read = self.keys, read_metadata(json_response(METADATA | more), SERVER)
        return self.read[1]


def proving(proofs: Proofs | None, metadata: Metadata | None = None) -> Proving:
    exchange = Exchange(session=FakeSession(), signer=None, proofs=proofs, clock=HandClock(), randomness=Dice())
    registration = Registration(client=DPOP_CLIENT, issuer=SERVER, metadata=metadata or Metadata(), exchange=exchange)
    return Proving([SPEC], {"app": registration})


async def test_a_proof_is_for_the_token_that_is_handed_out():
    """With the key that this very token is bound to, and a jti that is told."""
    old, new = FakeProofKey(jkt="old"), FakeProofKey(jkt="new")
    ours = proving(proofs_of(new, old, clock=HandClock()))
    token = replace(issued(at=0.0), jkt="old")

    await ours.check("accounts", API, nonce=None)
    made = await ours.prove("accounts", token, method="PUT", url=API, nonce=None)

    (claims,) = old.proved
    assert made.proof.reveal() == "proof-old-1"
    assert (claims["htm"], claims["htu"], claims["jti"]) == ("PUT", API, made.jti)
    assert "ath" in claims


@pytest.mark.parametrize(
    "url",
    [
        "https://as.example/token",
        "https://as.example/TOKEN/",
        "https://as.example:8443/token",
        "https://as.example/me",
        "https://as.example/keys",
    ],
)
async def test_no_proof_is_made_for_an_endpoint_of_the_authorization_server(url: str):
    """There the key stands for the client; aliases and what differs by case or a slash are among them (R7)."""
    with pytest.raises(ProofRefusedError) as refused:
        await proving(proofs_of(FakeProofKey(), clock=HandClock())).check("accounts", url, nonce=None)

    assert refused.value.code == "endpoint_of_server"


@pytest.mark.parametrize(
    ("url", "known"),
    [
        ("https://as.example/token", True),
        ("https://as.example/TOKEN/", True),
        ("https://as.example/tok%65n", True),
        ("https://as.example:8443/token", True),
        ("https://as.example/keys", True),
        ("https://as.example/me", False),
        ("https://as.example/tokens", False),
    ],
)
async def test_an_endpoint_of_the_authorization_server_is_told_from_an_api(url: str, known: bool):
    """However it is written; the userinfo endpoint is an API that wants the token."""
    assert await proving(None).is_endpoint("accounts", url) is known


async def test_endpoints_are_those_that_the_server_names_now():
    """Its metadata is fetched anew from time to time."""
    metadata = Metadata()
    ours = proving(None, metadata)
    urls = ("https://as.example/keys", "https://as.example/new-keys")

    before = [await ours.is_endpoint("accounts", url) for url in urls]
    metadata.keys = "https://as.example/new-keys"
    after = [await ours.is_endpoint("accounts", url) for url in urls]

    assert (before, after) == ([True, False], [False, True])


async def test_a_nonce_is_taken_only_if_the_origin_gave_it_lately():
    """What nobody knows here may say anything (rules.md R7)."""
    clock = HandClock()
    proofs = proofs_of(FakeProofKey(), clock=clock)
    ours = proving(proofs)
    proofs.note_resource("https://api.example/x", [("DPoP-Nonce", "known")])
    proofs.note_server("https://api.example/x", [("DPoP-Nonce", "of the other kind")])

    await ours.check("accounts", API, nonce="known")
    for nonce in ("made-up", "of the other kind"):
        with pytest.raises(ProofRefusedError) as refused:
            await ours.check("accounts", API, nonce=nonce)
        assert refused.value.code == "nonce_unknown"
    clock.now += RECENT + 1
    with pytest.raises(ProofRefusedError):
        await ours.check("accounts", API, nonce="known")


async def test_a_token_that_is_not_bound_by_dpop_has_no_proof():
    """Its client has no key; nor is there a token that is not configured."""
    ours = proving(None)

    with pytest.raises(ProofRefusedError) as refused:
        await ours.check("accounts", API, nonce=None)
    assert refused.value.code == "not_dpop"
    with pytest.raises(KeyError):
        await ours.check("another", API, nonce=None)


def test_resources_are_those_of_the_configuration_in_force():
    """And of a token that is gone there are none."""
    ours = proving(None)

    assert ours.resources("accounts") == ("https://api.example/",)
    ours.replace([], {})

    assert ours.resources("accounts") == ()
