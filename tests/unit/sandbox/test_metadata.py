"""Tests of ``broker/sandbox/metadata.py``."""

from __future__ import annotations

from broker.sandbox.metadata import Addresses, metadata_document
from broker.sandbox.options import Options

ADDRESSES = Addresses(
    issuer="https://localhost:1",
    mtls="https://localhost:2",
    resource="https://localhost:3",
    elsewhere="https://127.0.0.1:4",
    control="http://127.0.0.1:5",
)


def test_the_metadata_says_that_it_is_a_sandbox():
    """A broker refuses it unless its configuration expects a sandbox (rules.md R10)."""
    assert metadata_document(ADDRESSES, Options())["token_broker_sandbox"] is True


def test_mutual_tls_endpoints_are_aliases_on_another_origin():
    """RFC 8705 section 5: the ordinary endpoint stays beside them."""
    document = metadata_document(ADDRESSES, Options())

    assert document["token_endpoint"] == "https://localhost:1/token"
    assert document["mtls_endpoint_aliases"] == {
        "token_endpoint": "https://localhost:2/token",
        "pushed_authorization_request_endpoint": "https://localhost:2/request",
        "revocation_endpoint": "https://localhost:2/token/revocation",
        "userinfo_endpoint": "https://localhost:2/userinfo",
    }
    for name in document["mtls_endpoint_aliases"]:
        assert document[name].startswith("https://localhost:1/")
    assert document["tls_client_certificate_bound_access_tokens"] is True


def test_the_metadata_promises_what_is_done_and_no_more():
    """No RS256, no secrets, no plain PKCE, no tokens through the browser."""
    document = metadata_document(ADDRESSES, Options())

    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt", "none"]
    assert document["token_endpoint_auth_signing_alg_values_supported"] == ["PS256", "ES256", "EdDSA"]
    assert document["dpop_signing_alg_values_supported"] == ["PS256", "ES256", "EdDSA"]
    assert document["grant_types_supported"] == ["client_credentials", "authorization_code", "refresh_token"]
    assert document["response_types_supported"] == ["code"]
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert document["id_token_signing_alg_values_supported"] == ["PS256", "ES256"]


def test_the_metadata_says_what_the_options_say():
    """RFC 9126 section 5, RFC 9101 section 10.5, RFC 9207 section 3."""
    strict = metadata_document(ADDRESSES, Options(require_par=True, require_request_object=True, iss_parameter=False))
    usual = metadata_document(ADDRESSES, Options())

    names = (
        "require_pushed_authorization_requests",
        "require_signed_request_object",
        "authorization_response_iss_parameter_supported",
    )
    assert [strict[name] for name in names] == [True, True, False]
    assert [usual[name] for name in names] == [False, False, True]


def test_the_origin_that_records_is_not_in_the_metadata():
    """Who calls it was led there by a fault."""
    assert ADDRESSES.elsewhere not in str(metadata_document(ADDRESSES, Options()))
