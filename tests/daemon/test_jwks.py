"""What is registered of a client is fetched from the broker, and is what the broker works with."""

from __future__ import annotations

import signal
import ssl
from base64 import b64decode
from pathlib import Path
from typing import Any

from tests.daemon.harness import CANARY, BrokerProcess, broker_process, get, sandbox_process, wait_until

SELF_SIGNED = """
[client.compared]
issuer = "sandbox"
client_id = "compared"
client_auth_method = "self_signed_tls_client_auth"
certificate = "demo"
sender_constraint = "certificate"
"""


def keys(broker: BrokerProcess, client: str) -> list[dict[str, Any]]:
    answer = get(broker.socket, f"/v1/jwks/{client}")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/jwk-set+json"
    found: list[dict[str, Any]] = answer.json()["keys"]
    return found


def test_the_keys_are_those_in_force_and_nothing_private_is_among_them(tmp_path: Path):
    """The one that signs, with the kid that the server knows; after a reload the next one."""
    with sandbox_process(tmp_path, lifetime=600) as sandbox:
        config = (sandbox.home / "config.toml").read_text()
        with broker_process(sandbox, config=config + SELF_SIGNED) as broker:
            (before,) = keys(broker, "demo")
            (certificate,) = keys(broker, "compared")
            unknown = get(broker.socket, f"/v1/jwks/{CANARY}")

            broker.config.write_text(config.replace(f'kid = "{before["kid"]}"', 'kid = "the-next-one"'))
            assert broker.process is not None
            broker.process.send_signal(signal.SIGHUP)
            wait_until(lambda: len(broker.log("configuration_loaded")) == 2, "the configuration is loaded")
            (after,) = keys(broker, "demo")
            gone = get(broker.socket, "/v1/jwks/compared")

        first = (sandbox.home / "client.pem").read_text().partition("-----END CERTIFICATE-----")
        leaf = ssl.PEM_cert_to_DER_cert(first[0] + first[1])

    assert f'kid = "{before["kid"]}"' in config
    assert (before["use"], before["alg"]) == ("sig", "PS256")
    assert after == before | {"kid": "the-next-one"}
    assert b64decode(certificate["x5c"][0]) == leaf
    assert {"d", "p", "q", "dp", "dq", "qi", "k"}.isdisjoint(before.keys() | certificate.keys())
    assert (unknown.status, gone.status) == (403, 403)
    assert unknown.json()["hint"] == "this caller may see the keys of: demo, compared"
    assert gone.json()["hint"] == "this caller may see the keys of: demo"
