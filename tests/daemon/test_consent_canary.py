"""
A person consents, from the request to the revocation, and nothing secret comes out on the way.

Verifier, code, refresh tokens and access tokens are looked for in the log at its loudest, the audit log, the
metrics, the process table and every file of the broker. ID tokens begin with ``eyJ``, which every broker of this
suite is searched for.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from broker.consent.pending import Pending
from broker.keys.sealing import load_sealing_key
from broker.sandbox.person import decide
from broker.storage.vault import Place, open_vault
from broker.tokens.grant import Grant
from tests.daemon.harness import (
    Answer,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    exchange,
    found,
    sandbox_process,
    split,
    wait_until,
)

REDIRECT = "http://127.0.0.1:49152/callback"

PEOPLE = """
[daemon]
state_dir = "people"
[store]
key = { file = "people.key" }
[log]
level = "debug"
[token.person]
client = "demo"
grant_type = "authorization_code"
scope = ["openid", "hello:read", "offline_access"]
userinfo = true
[workload.person]
listener = ["demo"]
uid = [UID]
tokens = ["person"]
may = ["get", "refresh", "authorize", "list", "revoke"]
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("people"), lifetime=8) as running:
        key = running.home / "people.key"
        key.write_bytes(os.urandom(32))
        key.chmod(0o600)
        yield running


@pytest.fixture
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    shutil.rmtree(sandbox.home / "people", ignore_errors=True)
    config = (sandbox.home / "config.toml").read_text()
    with broker_process(sandbox, config=config + PEOPLE.replace("UID", str(os.getuid())), name="people") as made:
        yield made


def call(broker: BrokerProcess, method: str, target: str, body: dict[str, Any] | None = None) -> Answer:
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    head += [] if body is None else ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return split(exchange(broker.socket, "\r\n".join(head).encode() + b"\r\n\r\n" + content))


def in_store(broker: BrokerProcess, copy: Path) -> dict[str, bytes]:
    """Open a copy of the store of a broker that runs, as whoever has the key could."""
    shutil.copytree(broker.config.parent / "people", copy)
    copy.chmod(0o700)
    key = load_sealing_key(broker.config.parent / "people.key")
    vault = open_vault(Place(directory=copy, sealer=key, anchor=None, wall=time.time))
    records = {record.name: record.value for record in vault.records()}
    vault.close()
    return records


def grant_in(records: dict[str, bytes]) -> Grant:
    (serial,) = (value for name, value in records.items() if name.startswith("grant/"))
    return Grant.from_bytes(serial)


def code_requests(sandbox: SandboxProcess) -> int:
    """Count the requests that redeemed a code, or tried to."""
    return sum(request.get("grant_type") == "authorization_code" for request in sandbox.control.requests("token"))


def test_nothing_secret_comes_out_of_a_consent(sandbox: SandboxProcess, broker: BrokerProcess, tmp_path: Path):
    """Asked for, interrupted by a kill, granted, refreshed, restarted and given up."""
    secrets: set[str] = set()
    begun = call(broker, "POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT})
    assert begun.status == 201, begun.body
    started = begun.json()
    (waiting,) = (
        Pending.from_bytes(value)
        for name, value in in_store(broker, tmp_path / "waiting").items()
        if name.startswith("pending/")
    )
    secrets |= {started["binding"], waiting.transaction.code_verifier.reveal()}
    broker.stop(signal.SIGKILL)
    broker.up()

    came = decide(started["authorization_url"], ca_file=sandbox.home / "ca.pem").url
    secrets |= {parse_qs(urlsplit(came).query)[name][0] for name in ("code", "state")}
    back = {"binding": started["binding"], "callback_url": came}
    granted = call(broker, "POST", f"/v1/authorizations/{started['id']}/callback", back)
    assert granted.status == 200, granted.body
    assert granted.json()["subject_verified"] is True
    first = broker.token("person").json()["access_token"]
    before = grant_in(in_store(broker, tmp_path / "granted"))
    broker.stop()
    broker.up()
    assert broker.token("person").json()["access_token"] == first
    sandbox.control.fault("token", "oauth_error", times=1, error="server_error", status=500, grant_type="refresh_token")
    wait_until(lambda: broker.token("person", "?wait=5").json()["access_token"] != first, "another access token")
    second = broker.token("person").json()["access_token"]
    after = grant_in(in_store(broker, tmp_path / "refreshed"))

    for grant in (before, after):
        assert grant.refresh_token is not None
        secrets.add(grant.refresh_token.reveal())
    assert len(secrets) == 6
    secrets |= {first, second}
    broker.secrets |= secrets
    broker.sweep()
    files = [path for path in broker.config.parent.rglob("*") if path.is_file() and path.name != "control-token"]
    assert {path.name: found(path.read_bytes().decode("latin-1"), secrets) for path in files} == {
        path.name: set() for path in files
    }
    given_up = call(broker, "DELETE", f"/v1/grants/{granted.json()['grant']}")
    assert given_up.json()["revoked"] is True
    assert broker.token("person").status == 409
    broker.stop()


def test_an_orderly_stop_waits_for_a_code_that_is_being_redeemed(sandbox: SandboxProcess, broker: BrokerProcess):
    """Though whoever passed it on has hung up: the person need not come again."""
    started = call(broker, "POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT}).json()
    came = decide(started["authorization_url"], ca_file=sandbox.home / "ca.pem").url
    before = code_requests(sandbox)
    sandbox.control.fault("token", "drip", times=1, seconds_per_byte=0.001, grant_type="authorization_code")
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(broker.socket))
        content = json.dumps({"binding": started["binding"], "callback_url": came}).encode()
        head = f"POST /v1/authorizations/{started['id']}/callback HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        caller.sendall(head.encode() + content)
        wait_until(lambda: code_requests(sandbox) > before, "the code is at the server")

    assert broker.stop() == 0
    broker.up()

    assert broker.token("person", "?wait=10").status == 200
    assert code_requests(sandbox) == before + 1


def test_what_fails_on_the_way_back_is_named_and_shown_nowhere(sandbox: SandboxProcess, broker: BrokerProcess):
    """The check is in the answer, the log and the audit log; what failed it is not."""
    before = code_requests(sandbox)
    started = call(broker, "POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT}).json()
    came = decide(started["authorization_url"], ca_file=sandbox.home / "ca.pem").url
    code = parse_qs(urlsplit(came).query)["code"][0]
    forged = came.replace("state=", "state=forged")
    broker.secrets |= {code, started["binding"], "state=forged"}

    refused = call(
        broker,
        "POST",
        f"/v1/authorizations/{started['id']}/callback",
        {"binding": started["binding"], "callback_url": forged},
    )

    assert (refused.status, refused.json()["check"]) == (400, "state")
    (logged,) = broker.log("authorization_failed")
    (recorded,) = broker.records("authorization_failed")[-1:]
    assert (logged["check"], recorded["check"]) == ("state", "state")
    assert code_requests(sandbox) == before
