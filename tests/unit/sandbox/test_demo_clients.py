"""Tests of ``broker/sandbox/demo_clients.py``: what each client gets, with proofs of possession over real TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.demo_clients import DPOP_CLIENT_ID, PUBLIC_CLIENT_ID
from broker.sandbox.jose import SigningAlg, unverified_claims
from tests.unit.sandbox.talking import Heard, Prover, Talker, answered, talking

pytestmark = pytest.mark.real_time

DPOP = {"iss": DPOP_CLIENT_ID, "sub": DPOP_CLIENT_ID}
PUBLIC: dict[str, Any] = {"client_id": PUBLIC_CLIENT_ID, "client_assertion": None, "client_assertion_type": None}


async def issued(talker: Talker, prover: Prover, **form: Any) -> Heard:
    """Ask for a token as the client for DPoP, without a certificate."""
    return await talker.token(claims=DPOP, certificate=None, prover=prover, **form)


async def granted(talker: Talker, prover: Prover, client: dict[str, Any], **parameters: Any) -> Heard:
    """Push, let a person allow it, and redeem the code, with proofs on the way."""
    public = client is PUBLIC
    name = PUBLIC_CLIENT_ID if public else DPOP_CLIENT_ID
    form = client if public else {"claims_of_assertion": client}
    pushed = await talker.push(prover=prover, **{**parameters, "client_id": name, **form})
    url = talker.authorization_url(client_id=name, request_uri=pushed.body["request_uri"])
    code = answered(await talker.decide(url))["code"]
    return await talker.redeem(code, prover=prover, **(client if public else {"claims": client}))


@pytest.mark.parametrize("alg", list(SigningAlg))
async def test_a_token_for_a_key_is_good_with_proofs_of_it(prepared: Path, tmp_path: Path, alg: SigningAlg):
    """By every algorithm, and on a connection without a certificate."""
    prover = Prover(alg=alg)
    async with talking(prepared, tmp_path) as talker:
        got = await issued(talker, prover)
        token = got.body["access_token"]
        hello = await talker.hello(token, certificate=None, prover=prover)

        assert (got.body["token_type"], hello.status) == ("DPoP", 200)
        assert unverified_claims(token)["cnf"] == {"jkt": prover.jkt}
        (entry,) = talker.sandbox.journal.entries("resource")
        assert (entry.jkt, entry.proof_nonce, entry.matched) == (prover.jkt, False, True)
        assert "DPoP-Nonce" not in hello.headers


async def test_a_token_for_a_key_is_good_for_nothing_else(prepared: Path, tmp_path: Path):
    """Not as a bearer token, not with another key."""
    async with talking(prepared, tmp_path) as talker:
        prover = Prover()
        token = (await issued(talker, prover)).body["access_token"]

        refused = [await talker.hello(token), await talker.hello(token, prover=Prover())]

        assert [heard.status for heard in refused] == [401, 401]
        assert all(heard.headers["WWW-Authenticate"].startswith("DPoP ") for heard in refused)
        assert talker.sandbox.journal.count("resource.unmatched") == 2


async def test_the_client_for_dpop_gets_nothing_without_a_proof(prepared: Path, tmp_path: Path):
    """Though it has a certificate."""
    async with talking(prepared, tmp_path) as talker:
        assert (await talker.token(claims=DPOP)).body["error"] == "invalid_grant"


async def test_the_first_client_may_have_both(prepared: Path, tmp_path: Path):
    """A token that is bound to its certificate and to its key is good with both, and with neither alone."""
    async with talking(prepared, tmp_path) as talker:
        prover = Prover()
        token = (await talker.token(prover=prover)).body["access_token"]

        assert set(unverified_claims(token)["cnf"]) == {"x5t#S256", "jkt"}
        assert (await talker.hello(token, prover=prover)).status == 200
        assert (await talker.hello(token, prover=prover, certificate="other")).status == 401
        assert (await talker.hello(token)).status == 401


@pytest.mark.parametrize("mode", ["steady", "rotating"])
async def test_nonces_are_asked_for_at_both_servers(prepared: Path, tmp_path: Path, mode: str):
    """One refusal at each, then every answer brings what the next request needs; they are not the same."""
    prover = Prover()
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.set_options(dpop_nonces=mode, resource_dpop_nonces=mode)
        first, second, third = [await issued(talker, prover) for _ in range(3)]
        token = third.body["access_token"]
        answers = [await talker.hello(token, prover=prover) for _ in range(3)]

        assert [heard.status for heard in (first, second, third)] == [400, 200, 200]
        assert first.body["error"] == "use_dpop_nonce"
        assert [heard.status for heard in answers] == [401, 200, 200]
        assert 'error="use_dpop_nonce"' in answers[0].headers["WWW-Authenticate"]
        told = [heard.headers["DPoP-Nonce"] for heard in (first, second, third, *answers)]
        assert len(set(told)) == (6 if mode == "rotating" else 2)
        assert [entry.proof_nonce for entry in talker.sandbox.journal.entries("token")] == [False, True, True]


async def test_a_nonce_of_one_server_is_none_of_the_other(prepared: Path, tmp_path: Path):
    """They are kept by origin."""
    prover = Prover()
    async with talking(prepared, tmp_path) as talker:
        talker.sandbox.set_options(dpop_nonces="steady", resource_dpop_nonces="steady")
        await issued(talker, prover)
        token = (await issued(talker, prover)).body["access_token"]
        addresses = talker.sandbox.addresses
        prover.nonces[addresses.resource] = prover.nonces[addresses.mtls]

        assert (await talker.hello(token, prover=prover)).status == 401
        assert (await talker.hello(token, prover=prover)).status == 200


async def test_a_code_is_spent_by_no_refusal_for_a_nonce(prepared: Path, tmp_path: Path):
    """The client sends it again, with a new assertion and a new proof."""
    prover = Prover()
    async with talking(prepared, tmp_path) as talker:
        pushed = await talker.push(prover=prover, client_id=DPOP_CLIENT_ID, claims_of_assertion=DPOP)
        url = talker.authorization_url(client_id=DPOP_CLIENT_ID, request_uri=pushed.body["request_uri"])
        code = answered(await talker.decide(url))["code"]
        talker.sandbox.fault("token", "use_dpop_nonce", times=1)

        first = await talker.redeem(code, prover=prover, claims=DPOP)
        second = await talker.redeem(code, prover=prover, claims=DPOP)

        assert (first.status, first.body["error"]) == (400, "use_dpop_nonce")
        assert (second.status, second.body["token_type"]) == (200, "DPoP")


@pytest.mark.parametrize("where", ["resource", "userinfo"])
async def test_a_resource_may_ask_for_a_nonce_on_command(prepared: Path, tmp_path: Path, where: str):
    """Though it wants none: the one that it gives is taken."""
    prover = Prover()
    async with talking(prepared, tmp_path) as talker:
        token = (await granted(talker, prover, DPOP)).body["access_token"]
        addresses = talker.sandbox.addresses
        url = addresses.hello if where == "resource" else f"{addresses.mtls}/userinfo"
        talker.sandbox.fault(where, "use_dpop_nonce", times=1)

        headers = {"Authorization": f"DPoP {token}"}
        first, second = [await talker.send("GET", url, None, headers=headers, prover=prover) for _ in range(2)]

        assert (first.status, first.body["error"]) == (401, "use_dpop_nonce")
        assert 'DPoP realm="sandbox", error="use_dpop_nonce"' in first.headers["WWW-Authenticate"]
        assert second.status == 200


@pytest.mark.parametrize("client", [DPOP, PUBLIC], ids=["confidential", "public"])
async def test_a_grant_is_bound_to_a_key(prepared: Path, tmp_path: Path, client: dict[str, Any]):
    """Its access tokens for both clients; its refresh tokens only for the one that proves nothing else."""
    prover, other = Prover(), Prover()
    public = client is PUBLIC
    async with talking(prepared, tmp_path) as talker:
        answer = await granted(talker, prover, client)
        form = client if public else {"claims": client}
        refreshed = await talker.refresh(answer.body["refresh_token"], prover=prover, **form)
        by_other = await talker.refresh(refreshed.body["refresh_token"], prover=other, **form)

        for heard in (answer, refreshed):
            assert heard.body["token_type"] == "DPoP"
            assert unverified_claims(heard.body["access_token"])["cnf"] == {"jkt": prover.jkt}
        assert by_other.status == (400 if public else 200)


async def test_a_code_is_only_for_the_key_that_was_pushed(prepared: Path, tmp_path: Path):
    """By the proof of the pushed request, or by ``dpop_jkt``."""
    prover = Prover()
    async with talking(prepared, tmp_path) as talker:
        for with_proof in (prover, None):
            named = None if with_proof else prover.jkt
            pushed = await talker.push(
                prover=with_proof, dpop_jkt=named, client_id=DPOP_CLIENT_ID, claims_of_assertion=DPOP
            )
            url = talker.authorization_url(client_id=DPOP_CLIENT_ID, request_uri=pushed.body["request_uri"])
            code = answered(await talker.decide(url))["code"]

            refused = await talker.redeem(code, prover=Prover(), claims=DPOP)

            assert (refused.status, refused.body["error"]) == (400, "invalid_grant")


async def test_a_wrong_proof_is_refused_where_a_request_is_pushed(prepared: Path, tmp_path: Path):
    """As at the token endpoint."""
    async with talking(prepared, tmp_path) as talker:
        headers = {"DPoP": Prover().prove("POST", f"{talker.sandbox.addresses.issuer}/request")}
        url = f"{talker.sandbox.addresses.mtls}/request"

        refused = await talker.send("POST", url, "client", headers=headers, data=PUBLIC_REQUEST)

        assert (refused.status, refused.body["error"]) == (400, "invalid_dpop_proof")


PUBLIC_REQUEST = {"client_id": PUBLIC_CLIENT_ID}


async def test_a_public_client_has_no_tokens_of_its_own(prepared: Path, tmp_path: Path):
    """RFC 6749 section 4.4: client_credentials is for confidential clients."""
    async with talking(prepared, tmp_path) as talker:
        refused = await talker.token(prover=Prover(), **PUBLIC)

        assert (refused.status, refused.body["error"]) == (400, "unauthorized_client")
