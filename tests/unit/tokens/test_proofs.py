from __future__ import annotations

from dataclasses import replace

import pytest

from broker.errors import LocalError
from broker.oauth.dpop import token_hash
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken
from tests.unit.tokens.dpop import FakeProofKey, proofs_of

SERVER = "https://as.example/token?x=1"
API = "https://as.example/accounts"
"""The same origin: its nonces are apart all the same."""
TOKEN = AccessToken("at")


async def test_every_proof_has_a_jti_of_its_own():
    """A replayed proof is refused; the URL is told without its query."""
    key = FakeProofKey()
    proofs = proofs_of(key)

    first = await proofs.for_server("POST", SERVER, jkt="key-1")
    second = await proofs.for_server("POST", SERVER, jkt="key-1")

    assert [first.reveal(), second.reveal()] == ["proof-key-1-1", "proof-key-1-2"]
    assert key.proved[0]["jti"] != key.proved[1]["jti"]
    assert (key.proved[0]["htm"], key.proved[0]["htu"]) == ("POST", "https://as.example/token")
    assert "ath" not in key.proved[0]
    assert "nonce" not in key.proved[0]


async def test_a_proof_for_an_api_is_tied_to_the_token():
    """Whoever sees it can use it with no other."""
    key = FakeProofKey()

    await proofs_of(key).for_resource("GET", API, TOKEN, jkt="key-1", jti="drawn")

    assert key.proved[0]["ath"] == token_hash(TOKEN)
    assert key.proved[0]["jti"] == "drawn"


async def test_nonces_go_back_to_where_they_came_from_and_nowhere_else():
    """Servers of both kinds are apart, also on one origin (RFC 9449 section 9)."""
    key = FakeProofKey()
    proofs = proofs_of(key)

    assert proofs.note_server(SERVER, [("DPoP-Nonce", "of-server")]) == "of-server"
    assert proofs.note_resource("https://other.example/", [("dpop-nonce", "of-other")]) == "of-other"
    assert proofs.note_resource(API, [("x", "y")]) is None
    await proofs.for_server("POST", SERVER, jkt="key-1")
    await proofs.for_resource("GET", API, TOKEN, jkt="key-1")
    await proofs.for_resource("GET", API, TOKEN, jkt="key-1", nonce="just-asked-for")

    assert [claims.get("nonce") for claims in key.proved] == ["of-server", None, "just-asked-for"]


async def test_nothing_is_proved_any_more_with_a_key_that_is_dropped():
    """By whatever was handed out before that, too."""
    new, old = FakeProofKey(jkt="new"), FakeProofKey(jkt="old")
    dropped: set[str] = set()
    proofs = replace(proofs_of(new, old), dropped=dropped)
    assert proofs.knows("old")

    dropped.add("old")

    assert [proofs.knows(jkt) for jkt in ("old", "new")] == [False, True]
    with pytest.raises(LocalError) as refused:
        await proofs.for_server("POST", SERVER, jkt="old")
    assert refused.value.code == Reason.DPOP_KEY_UNKNOWN
    assert old.proved == []


async def test_what_is_bound_to_an_older_key_is_proved_with_that():
    """And what is bound to one that is gone, or to none, not at all."""
    new, old = FakeProofKey(jkt="new"), FakeProofKey(jkt="old")
    proofs = proofs_of(new, old)

    await proofs.for_resource("GET", API, TOKEN, jkt="old")

    assert (len(old.proved), len(new.proved), proofs.jkt) == (1, 0, "new")
    assert [proofs.knows(jkt) for jkt in ("old", "new", "gone", None)] == [True, True, False, False]
    for jkt in ("gone", None):
        with pytest.raises(LocalError) as refused:
            await proofs.for_resource("GET", API, TOKEN, jkt=jkt)
        assert refused.value.code == Reason.DPOP_KEY_UNKNOWN
