"""
People's grants by the real daemon at a real, strict server: pushed and signed requests, every way to answer,
refresh tokens that rotate, revocation. One broker has a client and a token for each row of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import Answer, BrokerProcess, get, wait_until
from tests.daemon.test_consent import send
from tests.interop.brokers import broker_at, certificate_section, key_section, running
from tests.interop.person import consent
from tests.interop.rig import SCOPE, Rig, assertion_registration, tls_registration
from tests.interop.test_bound_tokens import call_api

REDIRECT_URI = "https://app.example/callback"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is asked for."""

    method: str = "private_key_jwt"
    request_object: str = "auto"
    demanded: bool = False
    response_mode: str = "query"

    @property
    def name(self) -> str:
        """The name of its client and its token."""
        parts = (self.method, self.request_object, "demanded" if self.demanded else "", self.response_mode)
        return "-".join(part.replace("_", "") for part in parts if part)

    @property
    def is_signed(self) -> bool:
        """Whether its request has to be a signed object."""
        return self.request_object == "always"


ROWS = (
    Row(),
    Row(request_object="always"),
    Row(request_object="always", demanded=True),
    Row(response_mode="jwt", request_object="always"),
    Row(response_mode="form_post"),
    Row(method="tls_client_auth"),
    Row(method="tls_client_auth", request_object="always", response_mode="jwt"),
)

WORKLOAD = """
[workload.app]
listener = ["app"]
tokens = [{tokens}]
may = ["get", "authorize", "list", "revoke", "refresh"]
"""

EACH = """
[client.{name}]
issuer = "real"
client_id = "{name}"
client_auth_method = "{method}"
signing_keys = ["app"]
certificate = "app"
redirect_uris = ["{redirect_uri}"]
request_object = "{request_object}"
response_mode = "{response_mode}"
id_token_signed_response_alg = "ES256"
{more}

[token.{name}]
client = "{name}"
grant_type = "authorization_code"
scope = ["openid", "accounts"]
resource = ["{resource}"]
grants = "many"
"""


def registered(row: Row, rig: Rig) -> dict[str, Any]:
    """The metadata of the client of a row."""
    key = rig.signing_keys["PS256"]
    signing = assertion_registration(row.name, key)
    return {
        **(tls_registration(row.name, rig.app) if row.method == "tls_client_auth" else signing),
        "jwks": signing["jwks"],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "redirect_uris": [REDIRECT_URI],
        "scope": f"openid {SCOPE}",
        "request_object_signing_alg": "PS256",
        "require_signed_request_object": row.demanded,
        "authorization_signed_response_alg": "ES256",
    }


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.start(
        tmp_path_factory.mktemp("rig"), people=True, clients=lambda made: [registered(row, made) for row in ROWS]
    ) as started:
        yield started


@pytest.fixture(scope="module")
def broker(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    names = ", ".join(f'"{row.name}"' for row in ROWS)
    common = (
        WORKLOAD.format(tokens=names) + certificate_section(rig.app) + key_section("app", rig.signing_keys["PS256"])
    )
    each = [
        EACH.format(
            name=row.name,
            method=row.method,
            redirect_uri=REDIRECT_URI,
            request_object=row.request_object,
            response_mode=row.response_mode,
            resource=rig.resource,
            more='authorization_signed_response_alg = "ES256"' if row.response_mode == "jwt" else "",
        )
        for row in ROWS
    ]
    home = tmp_path_factory.mktemp("broker") / "home"
    with running(broker_at(rig, home, common + "".join(each), of_issuer='refresh_rotation = "strict"')) as process:
        yield process


def granted(broker: BrokerProcess, rig: Rig, row: Row, login: str = "alice") -> str:
    """Have a person consent, as an application does it that forwards its callback; gives the grant."""
    begun = send(broker.socket, "POST", "/v1/authorizations", {"token": row.name, "redirect_uri": REDIRECT_URI})
    assert begun.status == 201, begun.body
    url = begun.json()["authorization_url"]
    back = consent(url, redirect_uri=REDIRECT_URI, ca_file=rig.ca_file, login=login)
    body: dict[str, Any] = {"binding": begun.json()["binding"], "callback_url": back.url}
    if back.form is not None:
        body["form"] = back.form
    done = send(broker.socket, "POST", f"/v1/authorizations/{begun.json()['id']}/callback", body)
    assert done.status == 200, done.body
    assert done.json()["subject"] == login
    assert done.json()["subject_verified"] is True
    grant: str = done.json()["grant"]
    return grant


def token_of(broker: BrokerProcess, grant: str) -> Answer:
    return get(broker.socket, f"/v1/grants/{grant}/token?wait=10")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_person_consents_in_every_way_and_the_api_takes_the_token(
    row: Row, rig: Rig, broker: BrokerProcess, record_property: Callable[[str, object], None]
):
    """PKCE and PAR always; a signed request where it is wanted or demanded; the answer as it was asked for."""
    before = len(rig.calls())

    grant = granted(broker, rig, row)
    token = token_of(broker, grant).json()
    pushed = [call for call in rig.calls()[before:] if call["path"] == "/request"]

    assert [(call["status"], call["signed"]) for call in pushed] == [(201, row.is_signed)]
    assert token["cnf"] == {"x5t#S256": rig.app.thumbprint}
    assert call_api(rig, token["access_token"], "app") == 200
    exchanged = [seen for seen in rig.token_requests() if seen.client_id == row.name]
    assert [(seen.grant_type, seen.status, seen.auth_method) for seen in exchanged] == [
        ("authorization_code", 200, row.method)
    ]
    assert exchanged[0].thumbprint == rig.app.thumbprint
    record_property(
        "table",
        f"{row.method:16} request object {row.request_object:6} {'demanded' if row.demanded else '':8} "
        f"answer {row.response_mode:9} -> pushed {'signed' if pushed[0]['signed'] else 'plain':6}, "
        f"bound token, API 200",
    )


def test_a_refresh_token_rotates_twice_through_restarts_and_is_revoked(rig: Rig, broker: BrokerProcess):
    """Each of the newer ones works, which a strict server says only of the last; after the end none does."""
    row = ROWS[0]
    rig.set_lifetime(6)
    try:
        grant = granted(broker, rig, row, "bob")
        tokens = [token_of(broker, grant).json()["access_token"]]
        for _ in range(2):
            wait_until(lambda: token_of(broker, grant).json()["access_token"] not in tokens, "another token")
            tokens.append(token_of(broker, grant).json()["access_token"])
            assert call_api(rig, tokens[-1], "app") == 200
            broker.stop()
            broker.up()
        wait_until(lambda: token_of(broker, grant).json()["access_token"] not in tokens, "a token after the restarts")
        refreshed = [seen for seen in rig.token_requests() if seen.grant_type == "refresh_token"]
        assert len(refreshed) >= 3
        assert {seen.status for seen in refreshed} == {200}

        ended = send(broker.socket, "DELETE", f"/v1/grants/{grant}").json()
        assert ended["revoked"] is True
        assert ended["end_session_url"].startswith(rig.issuer)
        assert token_of(broker, grant).status == 404
        assert [call["status"] for call in rig.calls() if call["path"] == "/token/revocation"] == [200]
    finally:
        rig.set_lifetime(300)


def test_the_same_token_is_of_no_use_with_another_certificate(rig: Rig, broker: BrokerProcess):
    """What a person granted is bound to the broker's certificate."""
    grant = granted(broker, rig, ROWS[5])
    token = token_of(broker, grant).json()["access_token"]

    assert call_api(rig, token, "app") == 200
    assert call_api(rig, token, "other") == 401


def test_an_answer_is_good_once(rig: Rig, broker: BrokerProcess, tmp_path: Path):
    """Brought again it finds a finished authorization, and the server sees no second exchange."""
    begun = send(broker.socket, "POST", "/v1/authorizations", {"token": ROWS[0].name, "redirect_uri": REDIRECT_URI})
    back = consent(begun.json()["authorization_url"], redirect_uri=REDIRECT_URI, ca_file=rig.ca_file)
    target = f"/v1/authorizations/{begun.json()['id']}/callback"
    body = {"binding": begun.json()["binding"], "callback_url": back.url}
    first = send(broker.socket, "POST", target, body)
    rig.forget()

    again = send(broker.socket, "POST", target, body)

    assert (first.status, again.status) == (200, 410)
    assert [seen for seen in rig.token_requests() if seen.grant_type == "authorization_code"] == []
