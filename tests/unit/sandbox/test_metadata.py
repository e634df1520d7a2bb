"""Tests of ``broker/sandbox/metadata.py``."""

from __future__ import annotations

from broker.sandbox.metadata import Addresses, metadata_document

ADDRESSES = Addresses(
    issuer="https://localhost:1",
    mtls="https://localhost:2",
    resource="https://localhost:3",
    elsewhere="https://127.0.0.1:4",
    control="http://127.0.0.1:5",
)


def test_the_metadata_says_that_it_is_a_sandbox():
    """A broker refuses it unless its configuration expects a sandbox (rules.md R10)."""
    assert metadata_document(ADDRESSES)["token_broker_sandbox"] is True


def test_mutual_tls_endpoints_are_aliases_on_another_origin():
    """RFC 8705 section 5: the ordinary endpoint stays beside them."""
    document = metadata_document(ADDRESSES)

    assert document["token_endpoint"] == "https://localhost:1/token"
    assert document["mtls_endpoint_aliases"] == {"token_endpoint": "https://localhost:2/token"}
    assert document["tls_client_certificate_bound_access_tokens"] is True


def test_the_metadata_promises_what_is_done_and_no_more():
    """No RS256, no secrets, one grant."""
    document = metadata_document(ADDRESSES)

    assert document["token_endpoint_auth_methods_supported"] == ["private_key_jwt"]
    assert document["token_endpoint_auth_signing_alg_values_supported"] == ["PS256", "ES256", "EdDSA"]
    assert document["grant_types_supported"] == ["client_credentials"]


def test_the_origin_that_records_is_not_in_the_metadata():
    """Who calls it was led there by a fault."""
    assert ADDRESSES.elsewhere not in str(metadata_document(ADDRESSES))
