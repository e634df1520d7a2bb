"""
Every fault that the sandbox can make, against the real daemon over real TLS.

Ten tokens are refreshed every few seconds, so that one of them meets a fault at once. Whatever the fault:
it is refused for its reason, the last good token goes on being served, and the next attempt succeeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox.fault_kinds import RESOURCES
from broker.sandbox.faults import KINDS
from broker.sandbox.grant_faults import GRANT_KINDS
from tests.daemon.harness import BrokerProcess, SandboxProcess, broker_process, sandbox_process, wait_until

TOKENS = [f"t{number}" for number in range(10)]
LIFETIME = 8
"""Seconds: refreshed after four of them, so that ten tokens make two or three requests a second."""

AT_TOKEN_ENDPOINT: list[tuple[str, dict[str, Any], set[str]]] = [
    ("status", {"status": 503, "retry_after": 2}, {"rate_limited"}),
    ("status", {"status": 503, "retry_after_date": 2}, {"rate_limited"}),
    ("status", {"status": 429, "retry_after": "2"}, {"rate_limited"}),
    ("status", {"status": 500}, {"server_failed"}),
    ("status", {"status": 502}, {"server_failed"}),
    ("status", {"status": 404}, {"unexpected_status"}),
    ("status", {"status": 204}, {"unexpected_status"}),
    ("oauth_error", {"error": "temporarily_unavailable"}, {"server_refused"}),
    ("oauth_error", {"error": "canary free text"}, {"server_refused"}),
    ("html", {}, {"not_json"}),
    ("html", {"status": 400}, {"unexpected_status"}),
    ("empty", {}, {"malformed"}),
    ("half_json", {}, {"malformed"}),
    ("cut", {}, {"connection_lost"}),
    ("content_type", {"value": "text/plain"}, {"not_json"}),
    ("duplicate_member", {}, {"malformed"}),
    ("alter", {"remove": ["access_token"]}, {"invalid_response"}),
    ("alter", {"set": {"access_token": ""}}, {"invalid_response"}),
    ("huge_body", {}, {"too_large"}),
    ("gzip_bomb", {}, {"encoded"}),
    ("garbage", {}, {"protocol_violated"}),
    ("redirect", {}, {"redirected"}),
    ("redirect", {"status": 302}, {"redirected"}),
    ("reset", {}, {"certificate_suspected", "connection_lost"}),
    ("lost_answer", {}, {"certificate_suspected", "connection_lost"}),
    ("lost_answer", {"reset": True}, {"certificate_suspected", "connection_lost"}),
    ("lost_answer", {"status": 504}, {"server_failed"}),
    ("refuse_certificate", {}, {"certificate_suspected"}),
    ("bad_certificate", {"variant": "self_signed"}, {"server_certificate_refused"}),
    ("bad_certificate", {"variant": "wrong_name"}, {"server_certificate_refused"}),
    ("bad_certificate", {"variant": "expired"}, {"server_certificate_refused"}),
    ("wrong_cnf", {}, {"wrong_binding"}),
    ("no_cnf", {}, {"downgraded"}),
    ("wrong_token_type", {}, {"downgraded"}),
    ("wider_scope", {}, {"wider_scope"}),
    ("bad_expires_in", {"value": -1}, {"invalid_response"}),
    ("bad_expires_in", {"value": "soon"}, {"invalid_response"}),
    ("bad_expires_in", {"value": True}, {"invalid_response"}),
    ("bad_expires_in", {"value": 1e12}, {"invalid_response"}),
    ("interim", {"count": 1_000}, {"protocol_violated"}),
    ("wrong_length", {"difference": -1}, {"malformed", "protocol_violated"}),
    ("bad_chunk", {}, {"protocol_violated"}),
    ("gzip", {}, {"encoded"}),
    ("early_answer", {}, {"unexpected_status"}),
    ("use_dpop_nonce", {}, {"server_refused"}),
]

SLOW: list[tuple[str, dict[str, Any], set[str]]] = [
    ("delay", {"delay_seconds": 60}, {"timed_out"}),
    ("drip", {"seconds_per_byte": 0.5}, {"timed_out"}),
    ("slow_head", {"seconds_per_byte": 0.5}, {"timed_out"}),
    ("wrong_length", {"difference": 1}, {"timed_out"}),
]

AT_METADATA: list[tuple[str, dict[str, Any], set[str]]] = [
    ("status", {"status": 503}, {"server_failed"}),
    ("html", {}, {"not_json"}),
    ("half_json", {}, {"malformed"}),
    ("empty", {}, {"malformed"}),
    ("redirect", {}, {"redirected"}),
    ("huge_body", {}, {"too_large"}),
    ("wrong_issuer", {}, {"issuer_mismatch"}),
    ("foreign_endpoint", {"origin": "https://elsewhere.example"}, {"endpoint_refused"}),
    ("alter", {"remove": ["token_endpoint"]}, {"metadata_insufficient", "invalid_response"}),
    ("alter", {"set": {"token_endpoint_auth_methods_supported": ["none"]}}, {"metadata_insufficient"}),
    ("bad_certificate", {"variant": "self_signed"}, {"server_certificate_refused"}),
]

HARMLESS = {"opaque"}
"""Kinds that are no fault for the broker: an opaque token is served, its binding unverified."""


def many_tokens(config: str) -> str:
    """Give the sandbox's configuration with ten tokens for its one client."""
    head, _, rest = config.partition("[token.demo]")
    section, _, tail = rest.partition("[listener.demo]")
    tokens = "\n".join(f"[token.{name}]{section}" for name in TOKENS)
    return f"{head}{tokens}[listener.demo]{tail}".replace('tokens = ["demo"]', f"tokens = {TOKENS!r}".replace("'", '"'))


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("faults"), lifetime=LIFETIME) as process:
        yield process


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    config = many_tokens((sandbox.home / "config.toml").read_text())
    with broker_process(sandbox, config=config) as process:
        yield process


def failures(broker: BrokerProcess) -> list[dict[str, Any]]:
    return broker.log("token_refresh_failed")


def meet(sandbox: SandboxProcess, broker: BrokerProcess, kind: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Put one fault up, and give the failure that it causes."""
    before = len(failures(broker))
    sandbox.control.fault("token", kind, times=1, **parameters)
    wait_until(lambda: len(failures(broker)) > before, f"{kind} is met")
    sandbox.control.clear_faults()
    return failures(broker)[before]


@pytest.mark.parametrize(
    ("kind", "parameters", "reasons"),
    [*AT_TOKEN_ENDPOINT, *SLOW],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_fault_at_the_token_endpoint_is_refused_and_the_last_good_token_served(
    sandbox: SandboxProcess, broker: BrokerProcess, kind: str, parameters: dict[str, Any], reasons: set[str]
):
    """Refused by its reason, counted, retried on schedule; a good token is served meanwhile."""
    failure = meet(sandbox, broker, kind, parameters)
    answer = broker.token(failure["token"])

    assert failure["reason"] in reasons, failure
    assert 1 <= failure["retry_in"] <= 5
    if (kind, parameters) not in [(slow, given) for slow, given, _ in SLOW]:  # those outlast the token
        assert failure["serving"] is True
        assert answer.status == 200
        assert answer.json()["expires_in"] >= 1
    assert "canary" not in str(failure)
    count = f'token_broker_refresh_total{{outcome="{failure["reason"]}",token="{failure["token"]}"}}'
    assert count in broker.ops("/metrics").body.decode()

    def recovered() -> bool:
        return any(
            record["time"] > failure["time"]
            for record in broker.log("token_refreshed")
            if record["token"] == failure["token"]
        )

    wait_until(recovered, "the next attempt succeeds")


def test_no_fault_was_too_much_for_the_daemon(sandbox: SandboxProcess, broker: BrokerProcess):
    """After all of them: no bug, no token ended but by the slow ones, nothing followed a redirect, little memory."""
    assert broker.log("unexpected_failure") == []
    assert sandbox.control.requests("elsewhere") == []
    status = Path(f"/proc/{broker.pid}/status").read_text()
    resident = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert resident < 150_000, f"{resident} KiB at the most"


@pytest.mark.parametrize(
    ("kind", "parameters", "reasons"), AT_METADATA, ids=lambda value: value if isinstance(value, str) else None
)
def test_a_fault_in_the_metadata_keeps_the_token_endpoint_from_being_called(
    tmp_path: Path, sandbox: SandboxProcess, kind: str, parameters: dict[str, Any], reasons: set[str]
):
    """The daemon starts all the same, says why there is no token, and gets one once the metadata is good."""
    config = (
        (sandbox.home / "config.toml")
        .read_text()
        .replace('"api.sock"', f'"{kind}.sock"')
        .replace('file = "audit.log"', f'file = "{tmp_path}/audit.log"')
    )
    config = "\n".join(
        line if not line.startswith("listen = ") else 'listen = "127.0.0.1:0"' for line in config.splitlines()
    )
    sandbox.control.fault("metadata", kind, **parameters)
    with broker_process(sandbox, config=config, start=False, name=f"metadata-{kind}") as broker:
        broker.socket = sandbox.home / f"{kind}.sock"
        sandbox.control.clear_requests()
        broker.up(ready=False)
        failure = broker.wait_for("token_refresh_failed", token="demo")
        answer = broker.token("demo", "?wait=0")
        asked = [request for request in sandbox.control.requests("token") if request["client"] is None]
        sandbox.control.clear_faults()

        assert failure["reason"] in reasons, failure
        assert answer.status in {502, 503}
        assert asked == []
        wait_until(lambda: broker.token("demo", "?wait=5").status == 200, "a token once the metadata is good", 100.0)


def test_every_kind_of_fault_is_tried():
    """A new kind in the sandbox needs a row here; those that only people's grants or APIs meet are not for these."""
    tried = {kind for kind, _, _ in [*AT_TOKEN_ENDPOINT, *SLOW, *AT_METADATA]}
    of_apis = {name for name, kind in KINDS.items() if kind.where == RESOURCES}

    assert set(KINDS) - set(GRANT_KINDS) - of_apis == tried | HARMLESS
