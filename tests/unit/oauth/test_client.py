"""client: the defaults are the strict ones, the names those of the specifications."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from broker.oauth.client import (
    CERTIFICATE_METHODS,
    SECRET_METHODS,
    AssertionAudience,
    ClientAuthMethod,
    ClientSecretEncoding,
    Discovery,
    Issuer,
    Profile,
    SenderConstraint,
)
from tests.unit.oauth.builders import a_client


def test_an_issuer_that_says_nothing_is_held_to_the_strictest_rules() -> None:
    """Every switch that weakens something has to be written down."""
    issuer = Issuer(name="as", issuer="https://as.example")

    assert issuer.profile is Profile.FAPI2
    assert issuer.discovery is Discovery.AUTO
    assert issuer.assertion_audience is AssertionAudience.ISSUER
    assert issuer.endpoint_hosts == frozenset()
    assert (issuer.sandbox, issuer.allow_insecure_loopback) == (False, False)


def test_the_values_are_those_that_operators_write() -> None:
    """They are an interface: configuration files hold them."""
    assert [*Profile] == ["fapi2", "fapi1_advanced", "oidc", "oauth2"]
    assert [*Discovery] == ["auto", "oidc", "oauth2"]
    assert [*AssertionAudience] == ["issuer", "target"]
    assert [*SenderConstraint] == ["certificate", "dpop", "none"]
    assert [*ClientAuthMethod] == [
        "private_key_jwt",
        "tls_client_auth",
        "self_signed_tls_client_auth",
        "client_secret_basic",
        "client_secret_post",
        "none",
    ]
    assert [*ClientSecretEncoding] == ["form", "raw"]


def test_each_method_is_of_one_kind() -> None:
    """What needs a secret needs no certificate; a new method has to be thought about here."""
    others = {ClientAuthMethod.PRIVATE_KEY_JWT, ClientAuthMethod.NONE}

    assert SECRET_METHODS | CERTIFICATE_METHODS | others == {*ClientAuthMethod}
    assert not SECRET_METHODS & CERTIFICATE_METHODS


def test_a_client_does_not_change() -> None:
    """What was checked at start stays as it was checked."""
    client = a_client()

    with pytest.raises(FrozenInstanceError):
        client.sender_constraint = SenderConstraint.NONE  # type: ignore[misc]
