"""Tests of ``broker/sandbox/token_endpoint.py``."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from broker.sandbox.clients import ASSERTION_TYPE, RegisteredClient, SenderConstraint
from broker.sandbox.dpop import Nonces, Possession, ProofReader
from broker.sandbox.families import Families
from broker.sandbox.faults import read_fault
from broker.sandbox.jose import JsonWebKey, SigningAlg, generate_private_key_pem, read_private, sign, verify
from broker.sandbox.keyring import Keyring
from broker.sandbox.options import NonceMode, Options
from broker.sandbox.token_endpoint import Answer, TokenEndpoint, TokenRequest
from tests.unit.sandbox.talking import Prover

NONCES = Nonces(options=Options(), mode=lambda: NonceMode.OFF, new_value=lambda: "nonce")
NOW = 1_790_000_000.5
ISSUER = "https://localhost:1"
API, OTHER_API = "https://localhost:3", "https://api.sandbox.example/"


def new_key() -> JsonWebKey:
    return read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))


CLIENT_KEY, SERVER_KEY = new_key(), new_key()


def endpoint(**options: Any) -> TokenEndpoint:
    client = RegisteredClient(client_id="app", keys=(CLIENT_KEY,), scope=("read", "write"), resources=(API, OTHER_API))
    numbers = count()
    rules = Options(id_token_alg="ES256")
    return TokenEndpoint(
        issuer=ISSUER,
        signing_key=SERVER_KEY,
        clients={"app": client, "dpop": replace(client, client_id="dpop", sender_constraint=SenderConstraint.DPOP)},
        new_jti=lambda: "token-1",
        families=Families(options=rules, new_value=lambda: f"value-{next(numbers)}"),
        keyring=Keyring(access_token_key=SERVER_KEY, keys={SigningAlg.ES256: SERVER_KEY}),
        options=rules,
        proofs=ProofReader(nonces=NONCES, options=rules),
        **options,
    )


def request(*extra: tuple[str, str], without: str | None = None, client: str = "app", **options: Any) -> TokenRequest:
    """Make a good request with *extra* fields."""
    claims = {"iss": client, "sub": client, "aud": ISSUER, "jti": "1", "iat": NOW, "exp": NOW + 60}
    fields = (
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", sign(CLIENT_KEY, "JWT", claims)),
        *extra,
    )
    form = tuple(field for field in fields if field[0] != without)
    return TokenRequest(**{"form": form, "certificate_thumbprint": "thumb", **options})


def asked(token_request: TokenRequest, **options: Any) -> Answer:
    return endpoint().answer(token_request, now=NOW, **options)


def claims_of(answer: Answer) -> dict[str, Any]:
    return verify(SERVER_KEY, answer.body["access_token"])[1]


def test_a_token_is_an_rfc_9068_token_bound_to_the_certificate():
    """Every claim of it."""
    answer = asked(request())

    assert (answer.status, answer.outcome) == (200, "issued")
    assert claims_of(answer) == {
        "iss": ISSUER,
        "sub": "app",
        "client_id": "app",
        "aud": API,
        "scope": "read",
        "jti": "token-1",
        "iat": 1_790_000_000,
        "exp": 1_790_000_060,
        "cnf": {"x5t#S256": "thumb"},
    }


def test_the_answer_agrees_with_the_token():
    """expires_in and scope are those of the claims."""
    answer = asked(request(("scope", "write read")))

    assert answer.body["scope"] == claims_of(answer)["scope"] == "write read"
    assert answer.body["expires_in"] == 60
    assert answer.body["token_type"] == "Bearer"


def test_the_lifetime_may_be_changed_while_it_runs():
    """From the next token on."""
    served = endpoint(lifetime=60)
    served.lifetime = 5

    answer = served.answer(request(), now=NOW)

    assert answer.body["expires_in"] == 5
    assert claims_of(answer)["exp"] - claims_of(answer)["iat"] == 5


@pytest.mark.parametrize(
    ("asked_for", "audience"),
    [
        ([("resource", OTHER_API)], OTHER_API),
        ([("audience", OTHER_API)], OTHER_API),
        ([("resource", API), ("resource", OTHER_API)], [API, OTHER_API]),
        ([("resource", API), ("audience", API)], API),
    ],
)
def test_resource_and_audience_choose_who_the_token_is_for(asked_for: list[tuple[str, str]], audience: Any):
    """RFC 8707 section 2; both may be repeated."""
    assert claims_of(asked(request(*asked_for)))["aud"] == audience


@pytest.mark.parametrize(
    ("token_request", "status", "error"),
    [
        (request(form=None), 400, "invalid_request"),
        (request(("scope", "read"), ("scope", "read")), 400, "invalid_request"),
        (request(("client_secret", "s")), 400, "invalid_request"),
        (request(authorization_header=True), 400, "invalid_request"),
        (request(without="client_assertion"), 401, "invalid_client"),
        (request(without="client_assertion_type"), 401, "invalid_client"),
        (request(without="grant_type"), 400, "unsupported_grant_type"),
        (request(certificate_thumbprint=None), 400, "invalid_grant"),
        (request(("scope", "admin")), 400, "invalid_scope"),
        (request(("scope", "read admin")), 400, "invalid_scope"),
        (request(("scope", "")), 400, "invalid_scope"),
        (request(("scope", "read  write")), 400, "invalid_scope"),
        (request(("resource", "https://unknown.example")), 400, "invalid_target"),
        (request(("resource", API), ("resource", "https://unknown.example")), 400, "invalid_target"),
    ],
)
def test_a_wrong_request_gets_an_oauth_error(token_request: TokenRequest, status: int, error: str):
    """RFC 6749 section 5.2, RFC 8707 section 2."""
    answer = asked(token_request)

    assert (answer.status, answer.body["error"], answer.outcome) == (status, error, error)
    assert "access_token" not in answer.body


def test_a_refusal_does_not_echo_the_request():
    """Descriptions are constants."""
    answer = asked(request(("scope", "<script>")))

    assert "<script>" not in str(answer.body)


def test_a_twist_changes_the_token_before_it_is_signed():
    """And the answer still agrees with it."""
    answer = asked(request(), fault=read_fault({"where": "token", "kind": "wider_scope"}))

    assert claims_of(answer)["scope"] == answer.body["scope"] == "read admin"


def test_neither_form_nor_token_has_a_printed_form():
    """So that a failing test, or a log, does not show them."""
    token_request = request()
    answer = asked(token_request)

    assert "client_assertion" not in repr(token_request)
    assert answer.body["access_token"] not in repr(answer)


PROVER = Prover()
URL = f"{ISSUER}/token"


def proof(**changes: Any) -> Possession:
    made = PROVER.prove("POST", URL, **{"iat": int(NOW), **changes})
    return Possession(method="POST", url=URL, proofs=(made,))


@pytest.mark.parametrize(
    ("client", "certificate", "cnf"),
    [
        ("dpop", None, {"jkt": PROVER.jkt}),
        ("dpop", "thumb", {"jkt": PROVER.jkt}),
        ("app", "thumb", {"x5t#S256": "thumb", "jkt": PROVER.jkt}),
    ],
)
def test_a_proof_binds_the_token_to_its_key(client: str, certificate: str | None, cnf: dict[str, str]):
    """RFC 9449 section 5; beside the certificate where the client's tokens are bound to that anyway."""
    answer = asked(request(client=client, certificate_thumbprint=certificate, possession=proof()))

    assert (answer.status, answer.body["token_type"]) == (200, "DPoP")
    assert claims_of(answer)["cnf"] == cnf


def test_a_client_for_dpop_has_to_bring_a_proof():
    """No token that is bound to nothing, and no downgrade."""
    answer = asked(request(client="dpop"))

    assert (answer.status, answer.outcome) == (400, "invalid_grant")


@pytest.mark.parametrize("changes", [{"ath": "a"}, {"htm": "GET"}, {"nonce": "n"}, {"iat": int(NOW) - 61}])
@pytest.mark.parametrize("client", ["app", "dpop"])
def test_a_wrong_proof_is_refused_whoever_brings_it(client: str, changes: dict[str, Any]):
    """A client that needs none does not get away with a wrong one."""
    answer = asked(request(client=client, possession=proof(**changes)))

    assert (answer.status, answer.outcome) == (400, "invalid_dpop_proof")


def test_a_token_for_a_key_can_be_bound_to_one_that_nobody_has():
    """The fault does not turn it into another sort of token."""
    fault = read_fault({"where": "token", "kind": "wrong_cnf"})

    answer = asked(request(client="dpop", possession=proof()), fault=fault)

    assert answer.body["token_type"] == "DPoP"
    assert set(claims_of(answer)["cnf"]) == {"jkt"}
    assert claims_of(answer)["cnf"]["jkt"] != PROVER.jkt
