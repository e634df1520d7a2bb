"""metadata.check_capabilities: the server may restrict what the configuration asks for, and weaken nothing."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.client import ClientAuthMethod, Profile, SenderConstraint
from broker.oauth.metadata import AuthorizationServer, check_capabilities
from broker.oauth.reasons import Reason
from tests.unit.oauth.builders import ISSUER_URL, a_client, an_issuer


def a_server(**changes: Any) -> AuthorizationServer:
    ordinary = {
        "issuer": ISSUER_URL,
        "token_endpoint": f"{ISSUER_URL}/token",
        "token_endpoint_auth_methods_supported": ("private_key_jwt", "tls_client_auth"),
        "token_endpoint_auth_signing_alg_values_supported": ("PS256", "ES256"),
        "grant_types_supported": ("client_credentials",),
        "tls_client_certificate_bound_access_tokens": True,
    }
    return AuthorizationServer(**{**ordinary, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"token_endpoint_auth_signing_alg_values_supported": None},
        {"grant_types_supported": None},
        {"tls_client_certificate_bound_access_tokens": None},
    ],
)
def test_what_the_server_offers_or_does_not_mention_is_asked_for(changes: dict[str, Any]) -> None:
    """Its own refusal, and the binding check, tell the rest."""
    check_capabilities(a_server(**changes), a_client(), an_issuer())


@pytest.mark.parametrize(
    ("changes", "member", "key"),
    [
        ({"token_endpoint_auth_methods_supported": ("client_secret_basic",)}, "auth_methods", "client_auth_method"),
        ({"token_endpoint_auth_methods_supported": ()}, "auth_methods", "client_auth_method"),
        ({"token_endpoint_auth_methods_supported": None}, "auth_methods", "profile"),
        ({"token_endpoint_auth_signing_alg_values_supported": ("ES256",)}, "signing_alg_values", "signing_keys"),
        ({"grant_types_supported": ("authorization_code",)}, "grant_types_supported", "grant_type"),
        ({"tls_client_certificate_bound_access_tokens": False}, "certificate_bound", "sender_constraint"),
    ],
)
def test_what_the_server_does_not_offer_is_not_asked_for(changes: dict[str, Any], member: str, key: str) -> None:
    """Nothing is sent; the hint names the member of the metadata and the key of the configuration."""
    with pytest.raises(RemoteError) as caught:
        check_capabilities(a_server(**changes), a_client(), an_issuer())

    assert (caught.value.code, caught.value.outcome) == (Reason.METADATA_INSUFFICIENT, Outcome.NOT_SENT)
    assert caught.value.hint is not None
    assert member in caught.value.hint
    assert key in caught.value.hint


@pytest.mark.parametrize("profile", list(Profile))
def test_an_absent_list_of_methods_is_taken_at_its_word_but_under_plain_oauth2(profile: Profile) -> None:
    """RFC 8414 section 2 says what absence means; many plain servers do not know that."""
    server = a_server(token_endpoint_auth_methods_supported=None)

    if profile is Profile.OAUTH2:
        check_capabilities(server, a_client(), an_issuer(profile=profile))
        return
    with pytest.raises(RemoteError):
        check_capabilities(server, a_client(), an_issuer(profile=profile))


@pytest.mark.parametrize(("alg", "listed"), [("EdDSA", "Ed25519"), ("Ed25519", "EdDSA"), ("EdDSA", "EdDSA")])
def test_eddsa_is_found_under_either_name(alg: str, listed: str) -> None:
    """RFC 9864."""
    server = a_server(token_endpoint_auth_signing_alg_values_supported=(listed,))

    check_capabilities(server, a_client(signing_alg=alg), an_issuer())


def test_what_the_client_does_not_use_does_not_matter() -> None:
    """No signing key, no binding: those members say nothing to it."""
    server = a_server(
        token_endpoint_auth_signing_alg_values_supported=(), tls_client_certificate_bound_access_tokens=False
    )
    client = a_client(signing_alg=None, sender_constraint=SenderConstraint.NONE)

    check_capabilities(server, client, an_issuer())


def test_another_grant_type_can_be_asked_about() -> None:
    """Client credentials are the default, not the only case."""
    check_capabilities(
        a_server(grant_types_supported=("refresh_token",)), a_client(), an_issuer(), grant_type="refresh_token"
    )
    with pytest.raises(RemoteError):
        check_capabilities(a_server(), a_client(), an_issuer(), grant_type="refresh_token")


@pytest.mark.parametrize("method", ClientAuthMethod)
def test_each_method_has_to_be_listed(method: ClientAuthMethod) -> None:
    """By its registered name, and no other stands for it."""
    client = a_client(client_auth_method=method, signing_alg=None)
    others = tuple(other.value for other in ClientAuthMethod if other is not method)

    check_capabilities(a_server(token_endpoint_auth_methods_supported=(method.value,)), client, an_issuer())
    with pytest.raises(RemoteError):
        check_capabilities(a_server(token_endpoint_auth_methods_supported=others), client, an_issuer())


@pytest.mark.parametrize("profile", list(Profile))
def test_a_server_that_lists_no_methods_has_client_secret_basic(profile: Profile) -> None:
    """RFC 8414 section 2, for whoever may use it at all."""
    client = a_client(client_auth_method=ClientAuthMethod.CLIENT_SECRET_BASIC, signing_alg=None)

    check_capabilities(a_server(token_endpoint_auth_methods_supported=None), client, an_issuer(profile=profile))
