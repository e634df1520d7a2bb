"""
DPoP by the real daemon at a real, strict server, with nonces and without: node-oidc-provider in its FAPI 2.0 profile.

A token that the broker obtained is bound to the key of its proofs, and an API that checks this accepts it with a
proof that the broker made, once, for that very request.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon.harness import Answer, BrokerProcess, wait_until
from tests.daemon.test_consent import send
from tests.daemon.test_reload import reload
from tests.interop.brokers import broker_at, key_section, running
from tests.interop.credentials import make_signing_key
from tests.interop.person import consent
from tests.interop.rig import SCOPE, Rig, assertion_registration

ALGS = ("PS256", "ES256", "EdDSA")
MACHINES = ("made", "own-ps256", "own-es256", "own-eddsa")
"""Tokens without a person: with a key that the broker makes, and with one of each algorithm."""

PERSON = "person"
REDIRECT_URI = "https://app.example/callback"

WORKLOAD = """
[workload.app]
listener = ["app"]
tokens = [{tokens}]
may = ["get", "refresh", "dpop", "authorize", "list"]
"""

CLIENT = """
[client.{name}]
issuer = "real"
client_id = "{name}"
client_auth_method = "private_key_jwt"
signing_keys = ["auth"]
sender_constraint = "dpop"
{of_client}

[token.{name}]
client = "{name}"
resource = ["{resource}"]
dpop_resources = ["{api}"]
{of_token}
"""

OF_PEOPLE = f"""
redirect_uris = ["{REDIRECT_URI}"]
id_token_signed_response_alg = "ES256"
"""

CONSENTED = """
grant_type = "authorization_code"
scope = ["openid", "accounts"]
"""


def dpop_registration(rig: Rig, client_id: str) -> dict[str, Any]:
    """The metadata of a client whose tokens are bound by DPoP."""
    return {
        **assertion_registration(client_id, rig.signing_keys["PS256"], bound=False),
        "dpop_bound_access_tokens": True,
    }


def person_registration(rig: Rig) -> dict[str, Any]:
    """The same for one that people consent to, with the details that pushed requests need."""
    return {
        **dpop_registration(rig, PERSON),
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [REDIRECT_URI],
        "scope": f"openid {SCOPE}",
    }


@pytest.fixture(scope="module", params=[False, True], ids=["without nonces", "with nonces"])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.start(
        tmp_path_factory.mktemp("rig"),
        dpop_nonces=request.param,
        people=True,
        clients=lambda made: [*(dpop_registration(made, name) for name in MACHINES), person_registration(made)],
    ) as started:
        yield started


def configure(rig: Rig, home: Path) -> BrokerProcess:
    """Write the configuration of a broker with a client whose key it makes, one for each algorithm, and a person's."""
    home.mkdir(mode=0o700)
    names = ", ".join(f'"{name}"' for name in (*MACHINES, PERSON))
    text = WORKLOAD.format(tokens=names) + key_section("auth", rig.signing_keys["PS256"])
    own = {f"own-{alg.lower()}": make_signing_key(home, alg) for alg in ALGS}
    for name, proof_key in own.items():
        text += f'\n[key.{name}]\nfile = "{proof_key.file}"\nalg = "{proof_key.alg}"\n'
    for name in (*MACHINES, PERSON):
        chosen = f'dpop_key = "{name}"' if name in own else ""
        text += CLIENT.format(
            name=name,
            resource=rig.resource,
            api=rig.api_url.removesuffix("/accounts"),
            of_client=OF_PEOPLE if name == PERSON else chosen,
            of_token=CONSENTED if name == PERSON else 'scope = ["accounts"]',
        )
    return broker_at(rig, home, text)


@pytest.fixture(scope="module")
def broker(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with running(configure(rig, tmp_path_factory.mktemp("broker") / "home")) as process:
        yield process


def call_api(rig: Rig, token: str, proof: str | None) -> tuple[int, str | None]:
    """Call the API with *token* and *proof*; give the status, and the nonce that was handed out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(rig.ca_file)
    url = urlsplit(rig.api_url)
    connection = http.client.HTTPSConnection(url.netloc, context=context, timeout=10)
    try:
        headers = {"Authorization": f"DPoP {token}"} | ({} if proof is None else {"DPoP": proof})
        connection.request("GET", f"{url.path}?page=2", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers.get("DPoP-Nonce")
    finally:
        connection.close()


def ask(broker: BrokerProcess, token: str, url: str, **more: str) -> Answer:
    """Ask for a token with a proof."""
    return send(broker.socket, "POST", "/v1/dpop", {"token": token, "htm": "GET", "htu": url, **more})


@pytest.mark.parametrize("name", MACHINES)
def test_tokens_are_bound_to_the_key_of_the_proofs(rig: Rig, broker: BrokerProcess, name: str):
    """With a key that the broker makes and with one of each algorithm; a challenge costs one request, once."""
    body = broker.token(name, "?wait=20").json()

    assert body["token_type"] == "DPoP"
    assert list(body["cnf"]) == ["jkt"]
    mine = [seen for seen in rig.token_requests() if seen.client_id == name]
    assert mine[-1].status == 200
    assert all(seen.proof is not None and "ath" not in seen.proof for seen in mine)
    assert len({seen.proof["jti"] for seen in mine if seen.proof}) == len(mine)
    refused = [seen.error for seen in mine if seen.status != 200]
    assert refused in ([], ["use_dpop_nonce"])


def test_the_api_takes_a_proof_of_the_broker_once(rig: Rig, broker: BrokerProcess):
    """For this token, method and URL; a caller without the key gets nowhere with the token alone."""
    broker.token("made", "?wait=20")
    answer = ask(broker, "made", rig.api_url)
    assert answer.status == 200, answer.json()
    body = answer.json()

    status, nonce = call_api(rig, body["access_token"], body["proof"])

    assert body["token_type"] == "DPoP"
    assert status == (200 if nonce is None else 401)  # an API that wants nonces is not one that the broker has called
    assert call_api(rig, body["access_token"], body["proof"])[0] == 401
    assert call_api(rig, body["access_token"], None)[0] == 401


def test_no_proof_is_made_for_the_authorization_server(rig: Rig, broker: BrokerProcess):
    """Nor for any URL that the token is not configured for."""
    for url in (rig.token_endpoint, f"{rig.issuer}/", "https://elsewhere.example/"):
        assert ask(broker, "made", url).status == 403


def test_a_consent_is_bound_to_the_key_from_the_first_request_on(rig: Rig, broker: BrokerProcess):
    """Pushed request, code and two refreshes: each with a proof of the same key, at a server that insists."""
    rig.set_lifetime(6)
    try:
        begun = send(broker.socket, "POST", "/v1/authorizations", {"token": PERSON, "redirect_uri": REDIRECT_URI})
        back = consent(begun.json()["authorization_url"], redirect_uri=REDIRECT_URI, ca_file=rig.ca_file)
        sent = {"binding": begun.json()["binding"], "callback_url": back.url}
        answer = send(broker.socket, "POST", f"/v1/authorizations/{begun.json()['id']}/callback", sent)
        assert answer.status == 200, answer.json()
        seen = [broker.token(PERSON).json()]
        for _ in range(2):
            tokens = [one["access_token"] for one in seen]
            wait_until(lambda: broker.token(PERSON).json()["access_token"] not in tokens, "another token")  # noqa: B023
            seen.append(broker.token(PERSON).json())
    finally:
        rig.set_lifetime(300)

    assert {one["token_type"] for one in seen} == {"DPoP"}
    assert len({one["cnf"]["jkt"] for one in seen}) == 1
    assert [call["status"] for call in rig.calls() if call["path"] == "/request"][-1] == 201
    mine = [request for request in rig.token_requests() if request.client_id == PERSON]
    refreshes = [request.grant_type for request in mine if request.status == 200]
    assert refreshes[:3] == ["authorization_code", "refresh_token", "refresh_token"]
    assert all(request.error in {None, "use_dpop_nonce"} for request in mine)


def test_a_key_that_the_broker_made_outlives_the_process(rig: Rig, tmp_path: Path):
    """It is sealed in the store, and the next process asks for tokens that are bound to the same."""
    process = configure(rig, tmp_path / "home")
    try:
        process.up()
        before = process.token("made", "?wait=20").json()
        process.stop()
        process.up()
        after = process.token("made", "?wait=20").json()
    finally:
        process.stop()

    assert before["cnf"] == after["cnf"]
    assert before["access_token"] != after["access_token"]


def test_another_key_is_put_to_use_while_the_old_token_is_served(rig: Rig, tmp_path: Path):
    """SIGHUP: the token is served, and can be proved, until its successor is there; no caller is turned away."""
    process = configure(rig, tmp_path / "home")
    try:
        process.up()
        before = process.token("own-es256", "?wait=20").json()
        reload(process, ('dpop_key = "own-es256"', 'dpop_key = "other"'), more=another_key(tmp_path / "home"))

        def moved() -> bool:
            served, proved = process.token("own-es256"), ask(process, "own-es256", rig.api_url)
            assert (served.status, proved.status) == (200, 200)
            return bool(served.json()["cnf"] != before["cnf"])

        wait_until(moved, "a token that is bound to the other key")
        told = process.records("dpop_key_in_use")
        in_use = [record["thumbprint"] for record in told if record["client"] == "own-es256"]
    finally:
        process.stop()

    assert in_use[0] == before["cnf"]["jkt"]
    assert len(in_use) == 2


def another_key(home: Path) -> str:
    """Make a key and give its section."""
    (home / "other").mkdir()
    return f'\n[key.other]\nfile = "{make_signing_key(home / "other", "ES256").file}"\nalg = "ES256"\n'
