"""What callers get from the real daemon while its server is there, restarts, or is gone."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.daemon.harness import BrokerProcess, SandboxProcess, broker_process, get, sandbox_process, wait_until


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path, lifetime=6) as process:
        yield process


def test_a_workload_with_nothing_but_curl_gets_a_bound_token(sandbox: SandboxProcess):
    """The whole contract of one answer, and the bare form for shells."""
    with broker_process(sandbox) as broker:
        answer = broker.token()
        bare = get(broker.socket, "/v1/tokens/demo", {"Accept": "text/plain"})

    body = answer.json()
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert set(body) == {
        "access_token",
        "token_type",
        "expires_in",
        "expires_at",
        "scope",
        "issuer",
        "stale",
        "cnf",
    }
    assert body["token_type"] == "Bearer"
    assert 1 <= body["expires_in"] <= 6
    assert abs(body["expires_at"] - time.time() - body["expires_in"]) < 2
    assert body["issuer"] == sandbox.control.addresses["issuer"]
    assert re.fullmatch(r"[\w-]{43}", body["cnf"]["x5t#S256"])
    assert bare.body.decode() == body["access_token"]
    assert bare.headers["content-type"].startswith("text/plain")


def test_two_hundred_callers_on_an_empty_cache_cause_one_token_request(sandbox: SandboxProcess):
    """They come while the first request is held up at the server, and all get the token that it brings."""
    sandbox.control.fault("token", "delay", delay_seconds=2, times=1)
    with broker_process(sandbox, ready=False) as broker, ThreadPoolExecutor(200) as callers:
        answers = list(callers.map(lambda _: broker.token("demo", "?wait=20"), range(200)))
        asked = sandbox.control.count("token")

    assert {answer.status for answer in answers} == {200}
    assert len({answer.json()["access_token"] for answer in answers}) == 1
    assert asked == 1


def test_an_outage_from_before_expiry_until_after_recovery(sandbox: SandboxProcess):
    """Every call gets a valid token or a clear 503, none an expired one; the first good one comes within a backoff."""
    ends: dict[str, float] = {}
    served: list[tuple[float, str, bool]] = []
    refused: list[tuple[float, int]] = []

    def call(broker: BrokerProcess) -> None:
        answer = broker.token("demo", "?wait=0")
        now = time.time()
        body = answer.json()
        if answer.status == 200:
            ends.setdefault(body["access_token"], body["expires_at"])
            assert body["expires_in"] >= 1
            served.append((now, body["access_token"], body["stale"]))
        else:
            assert (answer.status, body["error"]) == (503, "temporarily_unavailable")
            refused.append((now, int(answer.headers["retry-after"])))

    with broker_process(sandbox) as broker:
        call(broker)
        sandbox.stop(signal.SIGKILL)
        stopped_at = time.time()
        while time.time() < stopped_at + 10:
            call(broker)
            time.sleep(0.05)
        sandbox.up(keep=True)
        back_at = time.time()

        def recovered() -> bool:
            call(broker)
            return served[-1][0] > back_at

        wait_until(recovered, "a token after recovery", 62.0)
        first = served[-1][0] - back_at

    assert all(now < ends[token] + 1 for now, token, _ in served), "an expired token was served"
    assert any(stale for now, _, stale in served if now > stopped_at), "the last good token was served as stale"
    assert refused
    assert all(1 <= retry_after <= 60 for _, retry_after in refused)
    assert first <= 60
    print(f"\n{len(served)} served, {len(refused)} refused, first good one {first:.1f} s after recovery")


def test_the_daemon_boots_with_its_server_down(sandbox: SandboxProcess):
    """It serves its socket, says that it is not ready and why, and becomes ready by itself."""
    sandbox.stop()
    with broker_process(sandbox, ready=False) as broker:
        wait_until(lambda: bool(broker.log("token_refresh_failed")), "the first attempt")
        ready = get(broker.socket, "/readyz")
        alive = get(broker.socket, "/livez")
        answer = broker.token("demo", "?wait=0")

        sandbox.up(keep=True)
        wait_until(lambda: get(broker.socket, "/readyz").status == 200, "ready", 62.0)

    assert (ready.status, alive.status, answer.status) == (503, 200, 503)
    assert ready.json()["tokens"]["demo"]["reason"] == "connect_failed"


def test_a_token_is_replaced_before_it_ends_again_and_again(sandbox: SandboxProcess):
    """Over several lifetimes there is a good token at every moment, and each is used for half of its life at least."""
    with broker_process(sandbox) as broker:
        tokens = set()
        end = time.monotonic() + 15
        while time.monotonic() < end:
            answer = broker.token("demo", "?wait=0")
            assert answer.status == 200
            tokens.add(answer.json()["access_token"])
            time.sleep(0.1)

    assert 4 <= len(tokens) <= 7


def test_the_resource_accepts_the_token_with_the_broker_s_certificate_only(sandbox: SandboxProcess):
    """The token is bound: with another certificate of the same authority it is refused."""
    import http.client
    import ssl
    from urllib.parse import urlsplit

    def call(token: str, certificate: str) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(sandbox.home / "ca.pem")
        context.load_cert_chain(sandbox.home / f"{certificate}.pem", sandbox.home / f"{certificate}.key")
        url = urlsplit(sandbox.control.addresses["resource"])
        connection = http.client.HTTPSConnection(url.netloc, context=context, timeout=10)
        connection.request("GET", "/api/hello", headers={"Authorization": f"Bearer {token}"})
        status = connection.getresponse().status
        connection.close()
        return status

    with broker_process(sandbox) as broker:
        token = broker.token().json()["access_token"]

        assert call(token, "client") == 200
        assert call(token, "other") == 401
