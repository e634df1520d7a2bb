"""
Calls of an API through the real daemon, at a real, strict server: node-oidc-provider, and an API that checks bindings.

Tokens that are bound to the certificate go out on connections with that; those that are bound to a key go out with
proofs, for which both servers want nonces: those of the API change with every answer. Programs hold neither.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon.egress_place import Reply, UnixConnection
from tests.daemon.harness import BrokerProcess, get
from tests.daemon.test_consent import send
from tests.interop.brokers import broker_at, certificate_section, key_section, running
from tests.interop.person import consent
from tests.interop.rig import SCOPE, ApiCall, Rig, assertion_registration

REDIRECT_URI = "https://app.example/callback"

COOLDOWN = 60
"""Seconds in which a token is fetched once for callers who say that it is refused (local-api.md)."""

BOUND, PROVED = "bound", "proved"
"""The clients and tokens without a person: by certificate, and by key."""
BOUND_PERSON, PROVED_PERSON = "bound-person", "proved-person"
"""The same with one."""
MACHINES, PEOPLE = (BOUND, PROVED), (BOUND_PERSON, PROVED_PERSON)

WORKLOAD = """
[workload.app]
listener = ["app", "bound", "proved"]
tokens = [{names}]
upstreams = [{names}]
may = ["get", "dpop", "authorize", "egress"]
"""

EACH = """
[client.{name}]
issuer = "real"
client_id = "{name}"
client_auth_method = "private_key_jwt"
signing_keys = ["auth"]
{binding}
{of_client}

[token.{name}]
client = "{name}"
resource = ["{resource}"]
{of_token}

[upstream.{name}]
base_url = "{api}"
token = "{name}"
ca_file = "{ca_file}"
allow = ["GET /accounts", "GET /accounts/*", "POST /payments"]
interaction_id = true
"""

BASE = """
[listener.{name}]
path = "{name}.sock"
mode = "0600"
upstream = "{name}"
"""

BY_CERTIFICATE = 'certificate = "app"\nsender_constraint = "certificate"'
BY_KEY = 'sender_constraint = "dpop"'

OF_PEOPLE = f"""
redirect_uris = ["{REDIRECT_URI}"]
id_token_signed_response_alg = "ES256"
"""

CONSENTED = """
grant_type = "authorization_code"
scope = ["openid", "accounts"]
grants = "many"
"""


def registered(rig: Rig, name: str) -> dict[str, Any]:
    """Give the metadata of a client, as the server has it."""
    by_key = name in (PROVED, PROVED_PERSON)
    of_person = {
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [REDIRECT_URI],
        "scope": f"openid {SCOPE}",
    }
    return {
        **assertion_registration(name, rig.signing_keys["PS256"], bound=not by_key),
        "dpop_bound_access_tokens": by_key,
        **(of_person if name in PEOPLE else {}),
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.start(
        tmp_path_factory.mktemp("rig"),
        lifetime=3_600,
        people=True,
        dpop_nonces=True,
        clients=lambda made: [registered(made, name) for name in (*MACHINES, *PEOPLE)],
    ) as started:
        yield started


@pytest.fixture(scope="module")
def broker(server: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    home = tmp_path_factory.mktemp("broker") / "home"
    process = configure(server, home)
    process.command = (sys.executable, "-m", "tests.daemon.hurried", str(home / "ahead"))
    with running(process):
        for name in MACHINES:
            assert process.token(name, "?wait=20").status == 200
        yield process


@pytest.fixture
def rig(server: Rig, broker: BrokerProcess) -> Rig:
    """Give the server, when the broker has its first tokens; what came there so far is forgotten."""
    server.forget()
    return server


def configure(rig: Rig, home: Path) -> BrokerProcess:
    """Write the configuration of a broker with an upstream for each way in which a token is bound and obtained."""
    home.mkdir(mode=0o700)
    (home / "ahead").write_text("0")
    text = WORKLOAD.format(names=", ".join(f'"{name}"' for name in (*MACHINES, *PEOPLE)))
    text += certificate_section(rig.app) + key_section("auth", rig.signing_keys["PS256"])
    for name in (*MACHINES, *PEOPLE):
        text += EACH.format(
            name=name,
            binding=BY_KEY if name in (PROVED, PROVED_PERSON) else BY_CERTIFICATE,
            resource=rig.resource,
            api=rig.api_url.removesuffix("/accounts"),
            ca_file=rig.ca_file,
            of_client=OF_PEOPLE if name in PEOPLE else "",
            of_token=CONSENTED if name in PEOPLE else 'scope = ["accounts"]',
        )
    text += "".join(BASE.format(name=name) for name in MACHINES)
    return broker_at(rig, home, text)


def call(broker: BrokerProcess, name: str, method: str, path: str, body: bytes | None = None) -> Reply:
    """Call the API through the broker, by the name of the upstream or by that of a grant and the upstream."""
    grant, _, upstream = name.rpartition("/")
    connection = UnixConnection(broker.socket)
    try:
        return connection.ask(method, f"/v1/{f'grants/{grant}/' if grant else ''}egress/{upstream}{path}", body)
    finally:
        connection.close()


def call_base(broker: BrokerProcess, name: str, method: str, path: str, body: bytes | None = None) -> Reply:
    """Call the API through the listener that stands for it."""
    connection = UnixConnection(broker.socket.parent / f"{name}.sock")
    try:
        return connection.ask(method, path, body)
    finally:
        connection.close()


def directly(
    rig: Rig, method: str, path: str, headers: Mapping[str, str], *, certificate: str | None = None
) -> tuple[int, str]:
    """Call the API past the broker, with one of the rig's certificates or none; status, and what is wrong."""
    context = ssl.create_default_context(cafile=rig.ca_file)
    if certificate is not None:
        identity = getattr(rig, certificate)
        context.load_cert_chain(identity.cert_file, identity.key_file)
    connection = http.client.HTTPSConnection(urlsplit(rig.api_url).netloc, context=context, timeout=10)
    try:
        connection.request(method, path, body=b"abc" if method == "POST" else None, headers=dict(headers))
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw).get("why", "")
    finally:
        connection.close()


def granted(broker: BrokerProcess, rig: Rig, name: str, login: str) -> str:
    """Have a person consent; gives the grant."""
    begun = send(broker.socket, "POST", "/v1/authorizations", {"token": name, "redirect_uri": REDIRECT_URI})
    assert begun.status == 201, begun.body
    url = begun.json()["authorization_url"]
    back = consent(url, redirect_uri=REDIRECT_URI, ca_file=rig.ca_file, login=login)
    sent = {"binding": begun.json()["binding"], "callback_url": back.url}
    done = send(broker.socket, "POST", f"/v1/authorizations/{begun.json()['id']}/callback", sent)
    assert done.status == 200, done.body
    grant: str = done.json()["grant"]
    return grant


def later(broker: BrokerProcess) -> None:
    """Let the cooldown pass in which no caller has a token replaced."""
    ahead = broker.directory / "ahead"
    ahead.write_text(str(int(ahead.read_text()) + COOLDOWN + 1))


def proof(broker: BrokerProcess, rig: Rig, method: str = "GET") -> dict[str, str]:
    """Have a token and a proof for one request of one's own, as headers."""
    wanted = {"token": PROVED, "htm": method, "htu": rig.api_url}
    answer = send(broker.socket, "POST", "/v1/dpop", wanted)
    assert answer.status == 200, answer.body
    return {"Authorization": f"DPoP {answer.json()['access_token']}", "DPoP": answer.json()["proof"]}


def statuses(calls: list[ApiCall]) -> list[tuple[int, str | None]]:
    return [(seen.status, seen.error) for seen in calls]


def nonces(calls: list[ApiCall]) -> list[str | None]:
    return [None if seen.proof is None else seen.proof.get("nonce") for seen in calls]


BODY = bytes(range(256)) * 200
DIGEST = {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
EMPTY = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}


@pytest.mark.parametrize("way", [call, call_base])
def test_calls_go_out_on_connections_with_the_certificate_of_the_token(rig: Rig, broker: BrokerProcess, way: Any):
    """By the name of the API and by its base URL; the caller sends a plain request, and its body comes whole."""
    got = way(broker, BOUND, "GET", "/accounts/7?page=2")
    posted = way(broker, BOUND, "POST", "/payments", BODY)

    assert (got.status, posted.status) == (200, 200), (got.body, posted.body)
    assert (got.json()["client_id"], got.json()["thumbprint"]) == (BOUND, rig.app.thumbprint)
    assert (got.json()["body"], posted.json()["body"]) == (EMPTY, DIGEST)
    seen = rig.api_calls()
    assert [(one.method, one.path, one.scheme) for one in seen] == [
        ("GET", "/accounts/7?page=2", "Bearer"),
        ("POST", "/payments", "Bearer"),
    ]
    assert {one.thumbprint for one in seen} == {rig.app.thumbprint}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_token_of_these_calls_is_of_no_use_with_another_certificate(rig: Rig, broker: BrokerProcess, method: str):
    """Another one of the same authority, one that nobody trusts, an expired one, or none."""
    assert call(broker, BOUND, "GET", "/accounts").status == 200
    headers = {"Authorization": f"Bearer {broker.token(BOUND).json()['access_token']}"}

    outcome = {
        certificate: directly(rig, method, "/accounts", headers, certificate=certificate)
        for certificate in ("app", "other", "rogue", "expired", None)
    }

    assert outcome == {
        "app": (200, ""),
        "other": (401, "bound to another certificate"),
        "rogue": (401, "no certificate that is in order"),
        "expired": (401, "no certificate that is in order"),
        None: (401, "no certificate that is in order"),
    }


def test_what_the_allow_list_does_not_name_does_not_reach_the_api(rig: Rig, broker: BrokerProcess):
    """Whatever the token would be good for."""
    refused = [call(broker, name, "DELETE", "/accounts") for name in MACHINES]
    refused += [call(broker, name, "GET", "/accounts/7/../../payments") for name in MACHINES]

    assert [reply.status for reply in refused] == [403, 403, 400, 400]
    assert rig.api_calls() == []


@pytest.mark.parametrize("name", PEOPLE)
def test_calls_are_made_with_the_grant_of_the_person_that_they_name(rig: Rig, broker: BrokerProcess, name: str):
    """Each with the token of its own, bound in either way; one that names none, or a stranger's, is not made."""
    grants = {login: granted(broker, rig, name, f"{name}-{login}") for login in ("alice", "bob")}
    rig.forget()

    for login, grant in grants.items():
        got = call(broker, f"{grant}/{name}", "GET", "/accounts")
        posted = call(broker, f"{grant}/{name}", "POST", "/payments", BODY)
        assert (got.status, posted.status) == (200, 200), (got.body, posted.body)
        assert {reply.json()["sub"] for reply in (got, posted)} == {f"{name}-{login}"}
        assert posted.json()["body"] == DIGEST
    assert call(broker, name, "GET", "/accounts").status == 400
    assert call(broker, f"{grants['alice']}/{BOUND}", "GET", "/accounts").status == 404

    let_in = [seen for seen in rig.api_calls() if seen.status == 200]
    assert len(let_in) == 4
    bound = name == BOUND_PERSON
    assert {seen.thumbprint for seen in let_in} == {rig.app.thumbprint if bound else None}
    assert {(seen.scheme, seen.proof is None) for seen in let_in} == {("Bearer", True) if bound else ("DPoP", False)}


def test_nonces_of_both_servers_change_between_calls_and_no_call_fails(rig: Rig, broker: BrokerProcess):
    """A call is made twice when others have used up the nonces; each later one has that of the answer before."""
    for _ in range(3):  # two are good at a time
        assert directly(rig, "GET", "/accounts", {})[0] == 401
    rig.forget()

    replies = [call(broker, PROVED, "GET", "/accounts?page=2") for _ in range(4)]
    replies += [call_base(broker, PROVED, "GET", "/accounts") for _ in range(2)]
    replies += [call(broker, PROVED, "POST", "/payments", BODY) for _ in range(4)]

    assert [reply.status for reply in replies] == [200] * 10, [reply.body for reply in replies]
    assert [reply.json()["body"] for reply in replies] == [EMPTY] * 6 + [DIGEST] * 4
    seen = rig.api_calls()
    assert statuses(seen) == [(401, "use_dpop_nonce"), *[(200, None)] * 10]
    assert len(set(nonces(seen)[1:])) == 10
    assert None not in nonces(seen)[1:]
    proofs = [one.proof for one in seen if one.proof is not None]
    assert len({one["jti"] for one in proofs}) == 11
    assert {(one["htm"], one["htu"].removeprefix(rig.api_url.removesuffix("/accounts"))) for one in proofs} == {
        ("GET", "/accounts"),
        ("POST", "/payments"),
    }
    assert {one.thumbprint for one in seen} == {None}
    assert not [name for reply in replies for name, _ in reply.fields if name.lower() == "dpop-nonce"]


def test_a_body_is_sent_again_with_the_nonce_that_is_wanted(rig: Rig, broker: BrokerProcess):
    """Whole, where it is small; a large one gets the API's own refusal, and is sent when its sender sends it again."""
    large = b"x" * 1_000_000
    for _ in range(3):
        directly(rig, "GET", "/accounts", {})
    small = call(broker, PROVED, "POST", "/payments", BODY)
    for _ in range(3):
        directly(rig, "GET", "/accounts", {})
    refused = call(broker, PROVED, "POST", "/payments", large)
    again = call(broker, PROVED, "POST", "/payments", large)

    assert (small.status, small.json()["body"]) == (200, DIGEST)
    assert (refused.status, refused.json()["error"]) == (401, "use_dpop_nonce")
    assert (again.status, again.json()["body"]["bytes"]) == (200, 1_000_000)
    proved = [seen for seen in rig.api_calls() if seen.proof is not None]
    assert [seen.status for seen in proved] == [401, 200, 401, 200]


def test_a_proof_of_one_s_own_has_the_nonce_of_the_last_call(rig: Rig, broker: BrokerProcess):
    """It is good once, for one method and URL; the token is worth nothing without, nor with a certificate."""
    assert call(broker, PROVED, "GET", "/accounts").status == 200
    mine = proof(broker, rig)
    token = mine["Authorization"].partition(" ")[2]

    assert directly(rig, "GET", "/accounts", mine) == (200, "")
    assert directly(rig, "GET", "/accounts", mine) == (401, "jti")
    assert call(broker, PROVED, "GET", "/accounts").status == 200
    assert directly(rig, "POST", "/accounts", proof(broker, rig)) == (401, "htm or htu")
    assert call(broker, PROVED, "GET", "/accounts").status == 200
    assert directly(rig, "GET", "/accounts/7", proof(broker, rig)) == (401, "htm or htu")
    assert directly(rig, "GET", "/accounts", {"Authorization": mine["Authorization"]})[0] == 401
    bearer = {"Authorization": f"Bearer {token}"}
    assert directly(rig, "GET", "/accounts", bearer) == (401, "no certificate that is in order")
    assert directly(rig, "GET", "/accounts", bearer, certificate="app") == (401, "bound to another key")


def test_a_proof_of_the_broker_is_of_no_use_with_another_token(rig: Rig, broker: BrokerProcess):
    """It names the token that it was made for."""
    assert call(broker, PROVED, "GET", "/accounts").status == 200
    mine = proof(broker, rig)
    other = broker.token(BOUND).json()["access_token"]

    assert directly(rig, "GET", "/accounts", {**mine, "Authorization": f"DPoP {other}"}) == (401, "ath")


@pytest.mark.parametrize("name", MACHINES)
def test_a_token_that_the_api_takes_no_more_is_replaced_at_once(rig: Rig, broker: BrokerProcess, name: str):
    """One request for another token, and the call is made again with that; the caller sees that it succeeded."""
    assert call(broker, name, "GET", "/accounts").status == 200
    before = broker.token(name).json()["access_token"]
    rig.revoke(name)
    rig.forget()
    later(broker)

    reply = call(broker, name, "POST", "/payments", BODY)
    after = call(broker, name, "GET", "/accounts")

    assert (reply.status, reply.json()["body"], after.status) == (200, DIGEST, 200)
    assert broker.token(name).json()["access_token"] != before
    assert [seen.error for seen in rig.api_calls() if seen.status == 401] == ["invalid_token"]
    issued = [seen for seen in rig.token_requests() if seen.status == 200]
    assert [(seen.client_id, seen.grant_type) for seen in issued] == [(name, "client_credentials")]
    assert [seen.proof is not None and "nonce" in seen.proof for seen in issued] == [name == PROVED]


def test_of_many_calls_with_a_token_that_is_taken_no_more_none_fails(rig: Rig, broker: BrokerProcess):
    """One of them has it replaced, and the others have their calls made again with the same new one."""
    assert call(broker, BOUND, "GET", "/accounts").status == 200
    rig.revoke(BOUND)
    rig.forget()
    later(broker)

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: call(broker, BOUND, "POST", "/payments", BODY), range(32)))

    assert [reply.status for reply in replies] == [200] * 32
    assert len([seen for seen in rig.token_requests() if seen.client_id == BOUND]) == 1


@pytest.mark.parametrize("name", PEOPLE)
def test_a_person_s_token_that_the_api_takes_no_more_is_refreshed_at_once(rig: Rig, broker: BrokerProcess, name: str):
    """The grant stays the same, and nobody is asked."""
    grant = granted(broker, rig, name, f"carol-{name}")
    assert call(broker, f"{grant}/{name}", "GET", "/accounts").status == 200
    rig.revoke(name)
    rig.forget()
    later(broker)

    reply = call(broker, f"{grant}/{name}", "POST", "/payments", BODY)

    assert (reply.status, reply.json()["body"], reply.json()["sub"]) == (200, DIGEST, f"carol-{name}")
    issued = [seen for seen in rig.token_requests() if seen.status == 200 and seen.client_id == name]
    assert [seen.grant_type for seen in issued] == ["refresh_token"]
    assert get(broker.socket, f"/v1/grants/{grant}/token").status == 200


def test_a_token_that_is_refused_when_it_is_fresh_is_the_caller_s_affair(rig: Rig, broker: BrokerProcess):
    """Within the cooldown the refusal of the API is the reply, and the authorization server hears nothing."""
    assert call(broker, BOUND, "GET", "/accounts").status == 200
    later(broker)
    rig.revoke(BOUND)
    first = call(broker, BOUND, "GET", "/accounts")
    rig.revoke(BOUND)
    rig.forget()
    second = call(broker, BOUND, "GET", "/accounts")

    assert (first.status, second.status) == (200, 401)
    assert second.json()["why"] == "revoked"
    assert rig.token_requests() == []
    later(broker)
    assert call(broker, BOUND, "GET", "/accounts").status == 200
