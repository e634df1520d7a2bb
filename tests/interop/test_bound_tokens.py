"""
The real daemon against a real server: node-oidc-provider with its FAPI 2.0 profile, over mutual TLS.

A token that the broker obtained with private_key_jwt is bound to the broker's certificate, and an API that
checks this accepts it on a connection with that certificate and on no other.
"""

from __future__ import annotations

import http.client
import shutil
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.daemon.harness import BrokerProcess, get, wait_until
from tests.interop.brokers import broker_at, certificate_section, key_section, running
from tests.interop.rig import Rig

ALGORITHMS = ("PS256", "ES256", "EdDSA")

WORKLOAD = """
[workload.app]
listener = ["app"]
tokens = ["ps256", "es256", "eddsa"]
may = ["get"]
"""

CLIENT = """
[client.{name}]
issuer = "real"
client_id = "{client_id}"
client_auth_method = "private_key_jwt"
signing_keys = ["{name}"]
certificate = "app"
sender_constraint = "certificate"

[token.{name}]
client = "{name}"
scope = [{scope}]
resource = ["{resource}"]
required = true
"""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.start(tmp_path_factory.mktemp("rig"), lifetime=60) as started:
        yield started


def configure(rig: Rig, directory: Path, *, certificate: str = "app") -> BrokerProcess:
    """Write the configuration of a broker with a client for each algorithm."""
    text = WORKLOAD + certificate_section(getattr(rig, certificate))
    for alg in ALGORITHMS:
        text += key_section(alg.lower(), rig.signing_keys[alg]) + CLIENT.format(
            name=alg.lower(),
            client_id=rig.client_id(alg),
            scope=", ".join(f'"{one}"' for one in rig.scope.split()),
            resource=rig.resource,
        )
    return broker_at(rig, directory, text)


@pytest.fixture(scope="module")
def broker(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with running(configure(rig, tmp_path_factory.mktemp("broker") / "home")) as process:
        yield process


def call_api(rig: Rig, token: str, certificate: str | None) -> int:
    """Call the API with *token* on a connection with *certificate*; give the status, or 0 if the server hung up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(rig.ca_file)
    if certificate is not None:
        identity = getattr(rig, certificate)
        context.load_cert_chain(identity.cert_file, identity.key_file)
    url = urlsplit(rig.api_url)
    connection = http.client.HTTPSConnection(url.netloc, context=context, timeout=10)
    try:
        connection.request("GET", url.path or "/", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    except (ssl.SSLError, ConnectionError):
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_a_token_for_each_algorithm_is_bound_to_the_broker_s_certificate(rig: Rig, broker: BrokerProcess, alg: str):
    """private_key_jwt with PS256, ES256 and EdDSA; the server saw our certificate and accepted the assertion."""
    body = broker.token(alg.lower(), "?wait=20").json()

    assert body["cnf"] == {"x5t#S256": rig.app.thumbprint}
    assert body["token_type"] == "Bearer"
    assert body["issuer"] == rig.issuer
    mine = [seen for seen in rig.token_requests() if seen.client_id == rig.client_id(alg)]
    assert mine
    assert all((seen.status, seen.mtls, seen.thumbprint) == (200, True, rig.app.thumbprint) for seen in mine)


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_the_api_accepts_the_token_with_the_broker_s_certificate_and_refuses_it_with_any_other(
    rig: Rig, broker: BrokerProcess, alg: str
):
    """The same token: 200 with its certificate, refused with another of the same authority, a foreign one, or none."""
    token = broker.token(alg.lower(), "?wait=20").json()["access_token"]

    assert call_api(rig, token, "app") == 200
    assert call_api(rig, token, "other") == 401
    assert call_api(rig, token, "rogue") in {0, 401}
    assert call_api(rig, token, None) in {0, 401}


def test_the_server_is_asked_no_more_than_needed(rig: Rig, broker: BrokerProcess):
    """A hundred callers later there is still one request for each token."""
    before = len(rig.token_requests())

    for _ in range(100):
        assert get(broker.socket, "/v1/tokens/es256").status == 200

    assert len(rig.token_requests()) - before <= len(ALGORITHMS)  # one each, should their time have come


def test_a_certificate_that_the_server_does_not_trust_is_suspected(rig: Rig, tmp_path: Path):
    """TLS 1.3 tells it only at the first read, as a reset: it is told apart from a network that fails."""
    process = configure(rig, tmp_path / "rogue", certificate="rogue")
    try:
        process.up(ready=False)
        failure = process.wait_for("token_refresh_failed")
        suspended = process.wait_for("client_suspended")
    finally:
        process.stop()

    assert failure["reason"] == "certificate_suspected"
    assert suspended["reason"] == "certificate_suspected"


def test_tokens_go_on_through_a_restart_of_the_server(rig: Rig, tmp_path: Path):
    """The server is gone for longer than a refresh takes; no caller notices, and new tokens come afterwards."""
    rig.set_lifetime(12)
    process = configure(rig, tmp_path / "restart")
    try:
        process.up()
        first = {alg: process.token(alg.lower()).json()["access_token"] for alg in ALGORITHMS}
        rig.stop()
        stopped_at = time.monotonic()
        statuses = set()
        while time.monotonic() - stopped_at < 4:
            statuses |= {process.token(alg.lower(), "?wait=0").status for alg in ALGORITHMS}
            time.sleep(0.1)
        rig.start_again()

        def renewed() -> bool:
            answers = [process.token(alg.lower(), "?wait=0") for alg in ALGORITHMS]
            return all(
                answer.status == 200 and answer.json()["access_token"] != first[alg]
                for alg, answer in zip(ALGORITHMS, answers, strict=True)
            )

        wait_until(renewed, "new tokens after the restart", 70.0)
        process.sweep()
    finally:
        process.stop(signal.SIGTERM)
        rig.set_lifetime(60)
        shutil.rmtree(tmp_path / "restart")

    assert statuses == {200}
