"""
The canary gate: unique secrets in every place a secret can be, none of them in any output.

Every broker of this suite passes the same gate when it ends (``BrokerProcess.sweep``); this test puts the
canaries where only malice would.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.harness import (
    CANARY,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    canaries,
    exchange,
    found,
    sandbox_process,
    wait_until,
)

HEAD = b"Host: localhost\r\nConnection: close\r\n"

HOSTILE: dict[str, bytes] = {
    "a header with a credential": b"GET /v1/tokens/demo HTTP/1.1\r\n" + HEAD + b"Authorization: Bearer CANARY\r\n\r\n",
    "a cookie": b"GET /v1/tokens/unknown HTTP/1.1\r\n" + HEAD + b"Cookie: session=CANARY\r\n\r\n",
    "a malformed header": b"GET /livez HTTP/1.1\r\n" + HEAD + b"Authorization Bearer CANARY\r\n\r\n",
    "a header that is too long": b"GET /livez HTTP/1.1\r\n" + HEAD + b"X-Long: " + b"CANARY" * 3000 + b"\r\n\r\n",
    "a path": b"GET /v1/tokens/CANARY HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a route that is not there": b"GET /CANARY HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a query": b"GET /v1/tokens/demo?access_token=CANARY HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a value of a known parameter": b"GET /v1/tokens/demo?wait=CANARY HTTP/1.1\r\n" + HEAD + b"\r\n",
    "an encoded path": b"GET /v1/tokens/%2e%2e%2fCANARY HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a method": b"CANARY /livez HTTP/1.1\r\n" + HEAD + b"\r\n",
    "a version": b"GET /livez HTTP/CANARY\r\n" + HEAD + b"\r\n",
    "a host": b"GET /livez HTTP/1.1\r\nHost: CANARY\r\nConnection: close\r\n\r\n",
    "an origin": b"GET /livez HTTP/1.1\r\n" + HEAD + b"Origin: https://CANARY\r\n\r\n",
    "a body": b"GET /v1/tokens/demo HTTP/1.1\r\n" + HEAD + b"Content-Length: 17\r\n\r\nCANARY",
    "a chunk": b"GET /v1/tokens HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nCANARY\r\n",
    "no HTTP at all": b"CANARY\r\n\r\n",
    "controls": b"GET /v1/tokens/CANARY\x00\x1b[31m HTTP/1.1\r\n" + HEAD + b"\r\n",
}

AT_THE_SERVER = [
    ("token", "oauth_error", {"error": CANARY, "error_description": f"the refresh token {CANARY} is invalid"}),
    ("token", "oauth_error", {"error": "server_error", "error_description": CANARY, "status": 500}),
    ("token", "alter", {"set": {"access_token": f"{CANARY} \u0007"}}),
    ("token", "alter", {"set": {"token_type": CANARY}}),
    ("token", "alter", {"set": {"scope": f"openid {CANARY}"}}),
    ("token", "alter", {"set": {CANARY: CANARY, "expires_in": CANARY}}),
    ("token", "content_type", {"value": f"text/{CANARY}"}),
    ("token", "status", {"status": 503, "retry_after": CANARY}),
]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("canary"), lifetime=4) as process:
        yield process


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    config = (sandbox.home / "config.toml").read_text() + '\n[log]\nlevel = "debug"\n'
    with broker_process(sandbox, config=config) as process:
        yield process


def test_the_gate_itself_sees_a_secret(sandbox: SandboxProcess):
    """Each private file of the sandbox gives canaries, and a text that holds one is found out."""
    wanted = canaries(sandbox.home)
    key = (sandbox.home / "client.key").read_text().splitlines()[1]

    assert len(wanted) > 10
    assert found(f"... {key} ...", wanted) == {key}
    assert found('{"event":"x","access_token":"eyJhbGciOi"}', wanted) == {"eyJ"}
    assert found("%3DeyJhbGciOiJFUzI1NiJ9.", wanted) == {"eyJ"}
    assert found("kid=fQ5eyJhbGciOi", wanted) == set()
    assert found("nothing", wanted) == set()


@pytest.mark.parametrize("place", HOSTILE)
def test_what_a_caller_sends_comes_back_nowhere(broker: BrokerProcess, place: str):
    """Not in the answer, and (by the gate) not in log, audit or metrics."""
    raw = exchange(broker.socket, HOSTILE[place].replace(b"CANARY", CANARY.encode()))

    assert CANARY.encode() not in raw


@pytest.mark.parametrize(("where", "kind", "parameters"), AT_THE_SERVER, ids=range(len(AT_THE_SERVER)))
def test_what_a_server_says_comes_out_nowhere(
    sandbox: SandboxProcess, broker: BrokerProcess, where: str, kind: str, parameters: dict[str, object]
):
    """The failure is told by a closed code; the caller's answer, the list and readiness say no more."""
    before = len(broker.log("token_refresh_failed"))
    sandbox.control.fault(where, kind, times=1, **parameters)
    wait_until(lambda: len(broker.log("token_refresh_failed")) > before, "the fault is met")
    sandbox.control.clear_faults()

    for target in ("/v1/tokens/demo?wait=0", "/v1/tokens", "/readyz"):
        raw = exchange(broker.socket, f"GET {target} HTTP/1.1\r\n".encode() + HEAD + b"\r\n")
        assert CANARY.encode() not in raw
    for target in ("/metrics", "/readyz"):
        assert CANARY.encode() not in broker.ops(target).body
    wait_until(lambda: broker.token("demo", "?wait=5").status == 200, "the next attempt succeeds")


def test_nothing_came_out_anywhere(sandbox: SandboxProcess, broker: BrokerProcess):
    """Log at its loudest, audit, metrics, process table, and the files beside the socket."""
    tokens = [broker.token("demo", "?wait=10").json()["access_token"] for _ in range(3)]
    broker.sweep()
    texts = broker.said() + broker.audit.read_text() + broker.ops("/metrics").body.decode()

    assert found(texts, set(tokens)) == set()
    for file in Path(sandbox.home).iterdir():
        if file.is_file() and file.name != "control-token":
            assert found(file.read_bytes().decode("latin-1"), set(tokens)) == set(), file
