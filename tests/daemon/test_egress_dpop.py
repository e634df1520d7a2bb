"""
Calls of an API with a token that is bound to a key: with a proof for each, and the nonces that both servers want.

Each answer of either server hands out another nonce, and eight earlier ones are good: a call that meets a nonce
which the broker has not heard of is made a second time, if all of its body is still there.
"""

from __future__ import annotations

import hashlib
import http.client
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.daemon.egress_place import EgressPlace, Reply, UnixConnection, config_with
from tests.daemon.harness import PATIENCE, broker_process, sandbox_process
from tests.daemon.test_consent import send

KEPT = 8
"""Earlier nonces that the API still takes."""

COOLDOWN = 60
"""Seconds in which a token is fetched once for callers who say that it is refused (local-api.md)."""

DPOP = """
[client.dpop]
issuer = "sandbox"
client_id = "sandbox-dpop"
client_auth_method = "private_key_jwt"
signing_keys = ["demo"]
sender_constraint = "dpop"

[token.dpop]
client = "dpop"
required = true
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EgressPlace]:
    with sandbox_process(tmp_path_factory.mktemp("egress"), lifetime=3_600) as sandbox:
        sandbox.control.set(dpop_nonces="rotating", resource_dpop_nonces="rotating", dpop_nonces_kept=KEPT)
        config = config_with(sandbox).replace('token = "demo"', 'token = "dpop"') + DPOP
        config = config.replace('tokens = ["demo"]', 'tokens = ["demo", "dpop"]')
        config = config.replace('may = ["get", "egress"]', 'may = ["get", "egress", "dpop"]')
        (sandbox.directory / "ahead").write_text("0")
        with broker_process(sandbox, config=config, start=False) as broker:
            broker.command = (sys.executable, "-m", "tests.daemon.hurried", str(sandbox.directory / "ahead"))
            broker.up()
            yield EgressPlace(sandbox, broker)


@pytest.fixture
def at(place: EgressPlace) -> Iterator[EgressPlace]:
    """Give the place; whatever a test does through the broker, no token comes without a proof of its key."""
    place.sandbox.control.clear_faults()
    place.sandbox.control.clear_requests()
    yield place
    assert place.sandbox.control.count("resource.unmatched") == 0


def directly(at: EgressPlace, method: str, target: str, headers: dict[str, str]) -> Reply:
    """Call the API as somebody who has neither certificate nor key."""
    context = ssl.create_default_context(cafile=at.sandbox.home / "ca.pem")
    origin = urlsplit(at.sandbox.control.addresses["resource"]).netloc
    connection = http.client.HTTPSConnection(origin, context=context, timeout=PATIENCE)
    try:
        connection.request(method, f"/api{target}", headers=headers)
        answer = connection.getresponse()
        return Reply(answer.status, tuple(answer.getheaders()), answer.read())
    finally:
        connection.close()


def outdate(at: EgressPlace) -> None:
    """Let the API hand out so many nonces to others that none which the broker knows is good any more."""
    for _ in range(KEPT + 2):
        assert directly(at, "GET", "/hello", {}).status == 401
    at.sandbox.control.clear_requests()


def outcomes(at: EgressPlace) -> list[str]:
    return [one["outcome"] for one in at.reached()]


def proof(at: EgressPlace, path: str, method: str = "GET") -> dict[str, Any]:
    """Have a token and a proof from the broker."""
    url = f"{at.sandbox.control.addresses['resource']}/api{path}"
    answer = send(at.broker.socket, "POST", "/v1/dpop", {"token": "dpop", "htm": method, "htu": url})
    assert answer.status == 200, answer.body
    body: dict[str, Any] = answer.json()
    return body


def test_only_the_first_of_many_calls_is_made_twice(at: EgressPlace):
    """Each takes the nonce that the answer before it brought; the caller sees none of that."""
    outdate(at)

    replies = [at.ask("GET", "/hello?page=2") for _ in range(5)]
    replies += [at.ask("POST", "/count", b"x" * 1_000) for _ in range(3)]

    assert {reply.status for reply in replies} == {200}
    assert replies[0].json()["client_id"] == "sandbox-dpop"
    assert [reply.json()["bytes"] for reply in replies[5:]] == [1_000] * 3
    assert outcomes(at) == ["use_dpop_nonce", *["ok"] * 8]
    assert not [name for reply in replies for name, _ in reply.fields if name.lower() == "dpop-nonce"]
    assert len({one["jkt"] for one in at.reached()}) == 1


def test_a_body_is_sent_twice_where_a_nonce_is_wanted(at: EgressPlace):
    """The whole of it, with its length or in chunks: as much as is kept of one."""
    for chunked in (False, True):
        content = bytes(range(256)) * 256
        outdate(at)
        body = iter([b"10000\r\n" + content + b"\r\n", b"0\r\n\r\n"]) if chunked else content
        reply = at.ask("POST", "/echo", body, {"Transfer-Encoding": "chunked"} if chunked else {})

        assert (reply.status, len(reply.body)) == (200, 65_536)
        assert hashlib.sha256(reply.body).digest() == hashlib.sha256(content).digest()
        assert outcomes(at) == ["use_dpop_nonce", "ok"]


def test_a_large_body_is_sent_once_and_the_next_call_has_the_nonce(at: EgressPlace):
    """The refusal of the API is the reply: who sent the body has it still, and can send it again."""
    outdate(at)

    refused = at.ask("POST", "/count", b"x" * 1_000_000)
    again = at.ask("POST", "/count", b"x" * 1_000_000)

    assert refused.status == 401
    assert any("use_dpop_nonce" in value for value in refused.values("WWW-Authenticate"))
    assert refused.json()["error"] == "use_dpop_nonce"
    assert refused.values("Proxy-Status") == []
    assert (again.status, again.json()["bytes"]) == (200, 1_000_000)
    assert outcomes(at) == ["use_dpop_nonce", "ok"]


def test_calls_at_the_same_time_share_the_nonces(at: EgressPlace):
    """As long as the API still takes those that are under way."""
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: at.ask("POST", "/count", b"abc").status, range(60)))

    assert set(statuses) == {200}
    assert outcomes(at).count("ok") == 60


def test_a_base_url_makes_proofs_too(at: EgressPlace):
    """For the URL that is called, not for the one that the program knows."""
    connection = UnixConnection(at.base)
    statuses = [connection.ask("GET", "/hello").status, connection.ask("POST", "/echo", b"abc").status]
    connection.close()

    assert statuses == [200, 200]


@pytest.mark.parametrize("path", ["/request/a%20b", "/request/~!$&'()*+,=:@-._", "/request/%C3%BC", "/request/x/"])
def test_the_proof_has_the_path_as_it_is_sent(at: EgressPlace, path: str):
    """Letter by letter; a query, whatever it is made of, is no part of it."""
    for query in ("", "?a=b&c=%2F..%2F", "?x=/../", "?a[]=1|2"):
        reply = at.ask("GET", path + query)
        assert (reply.status, reply.json()["target"]) == (200, f"/api{path}{query}"), reply.body


@pytest.mark.parametrize(("path", "status"), [(".", 400), ("./x", 400), (".x", 200), ("*", 200), ("%41", 200)])
def test_every_path_is_called_or_refused(at: EgressPlace, path: str, status: int):
    """One that no proof can be made for is the caller's mistake, and no fault of the broker."""
    assert at.ask("GET", f"/request/{path}").status == status


def test_after_a_call_a_caller_s_own_proof_has_the_nonce(at: EgressPlace):
    """It is good for one request; the broker keeps to one pool of nonces for both."""
    at.ask("GET", "/hello")
    made = proof(at, "/hello")
    headers = {"Authorization": f"DPoP {made['access_token']}", "DPoP": made["proof"]}

    first = directly(at, "GET", "/hello", headers)
    replayed = directly(at, "GET", "/hello", headers)
    elsewhere = directly(at, "GET", "/request", headers)

    assert (first.status, replayed.status, elsewhere.status) == (200, 401, 401)
    assert outcomes(at)[1:] == ["ok", "invalid_dpop_proof", "invalid_dpop_proof"]


def test_the_token_alone_opens_nothing(place: EgressPlace):
    """Neither as a bearer token nor without a proof."""
    place.sandbox.control.clear_requests()
    token = place.broker.token("dpop").json()["access_token"]

    statuses = [
        directly(place, "GET", "/hello", {"Authorization": f"{scheme} {token}"}).status for scheme in ("Bearer", "DPoP")
    ]

    assert statuses == [401, 401]
    assert {one["matched"] for one in place.reached()} == {False}


def test_a_refused_token_is_replaced_and_proved_anew(at: EgressPlace):
    """Once, with the whole body, also where the API wants a nonce beside; the caller sees the end of it only."""
    before = at.broker.token("dpop").json()["access_token"]
    ahead = at.sandbox.directory / "ahead"
    ahead.write_text(str(int(ahead.read_text()) + COOLDOWN + 1))
    at.sandbox.control.fault("resource", "invalid_token", times=1)

    reply = at.ask("POST", "/echo", b"abc")

    assert (reply.status, reply.body) == (200, b"abc")
    assert at.sandbox.control.count("token.issued") == 1
    assert at.broker.token("dpop").json()["access_token"] != before
    assert len({one["token"] for one in at.reached()}) == 2
    assert outcomes(at)[0] == "fault"
    assert outcomes(at)[-1] == "ok"
