"""capabilities.disagreements and remarks: all at once what check_capabilities refuses one by one, and the rest."""

from __future__ import annotations

from typing import Any

import pytest

from broker.oauth.capabilities import disagreements, remarks
from broker.oauth.client import SenderConstraint
from broker.oauth.metadata import read_metadata
from tests.unit.oauth.builders import ISSUER_URL, a_client, an_answer, an_issuer
from tests.unit.oauth.test_capabilities import a_server

ALIASES = {"token_endpoint": f"{ISSUER_URL}/mtls/token"}


def test_a_server_that_offers_everything_agrees() -> None:
    """Nothing to say, nothing to remark."""
    server = a_server(mtls_endpoint_aliases=ALIASES)

    assert disagreements(server, a_client(), an_issuer()) == ()
    assert remarks(server, a_client()) == ()


def test_all_disagreements_are_given_at_once_and_each_once() -> None:
    """Also where several tokens have grants of their own."""
    server = a_server(
        token_endpoint_auth_methods_supported=("client_secret_basic",),
        token_endpoint_auth_signing_alg_values_supported=("RS256",),
        grant_types_supported=(),
        tls_client_certificate_bound_access_tokens=False,
    )

    found = disagreements(server, a_client(), an_issuer(), grant_types=("client_credentials", "client_credentials"))

    assert [sentence.split()[0] for sentence in found] == [
        "token_endpoint_auth_methods_supported",
        "token_endpoint_auth_signing_alg_values_supported",
        "grant_types_supported",
        "tls_client_certificate_bound_access_tokens",
    ]


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"mtls_endpoint_aliases": {}}, "mtls_endpoint_aliases"),
        ({"tls_client_certificate_bound_access_tokens": None}, "tls_client_certificate_bound_access_tokens"),
        ({"require_pushed_authorization_requests": True}, "require_pushed_authorization_requests"),
        ({"require_signed_request_object": True}, "require_signed_request_object"),
    ],
)
def test_what_refuses_nothing_is_remarked(changes: dict[str, Any], member: str) -> None:
    """An operator wants to know it before it matters."""
    server = a_server(**{"mtls_endpoint_aliases": ALIASES, **changes})

    assert [remark.split()[0] for remark in remarks(server, a_client())] == [member]
    assert disagreements(server, a_client(), an_issuer()) == ()


def test_a_client_without_a_certificate_needs_no_alias() -> None:
    """And no binding."""
    client = a_client(presents_certificate=False, sender_constraint=SenderConstraint.NONE)

    assert remarks(a_server(tls_client_certificate_bound_access_tokens=None), client) == ()


@pytest.mark.parametrize(("value", "required"), [(True, True), (False, False), ("true", False), (1, False)])
def test_a_requirement_that_is_written_wrongly_costs_no_token(value: object, required: bool) -> None:
    """What serves an operator's eyes only must not spoil the document."""
    document = {
        "issuer": ISSUER_URL,
        "token_endpoint": f"{ISSUER_URL}/token",
        "require_pushed_authorization_requests": value,
    }

    assert read_metadata(an_answer(document), an_issuer()).require_pushed_authorization_requests is required
