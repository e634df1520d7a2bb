"""capabilities.check_capabilities: the server may restrict what the configuration asks for, and weaken nothing."""

from __future__ import annotations

from typing import Any

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.capabilities import check_capabilities, disagreements, remarks
from broker.oauth.client import (
    AliasedEndpoint,
    Client,
    ClientAuthMethod,
    Profile,
    RequestObjectUse,
    ResponseMode,
    SenderConstraint,
)
from broker.oauth.metadata import AuthorizationServer
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


def test_the_algorithm_of_proofs_has_to_be_listed_where_there_is_a_list() -> None:
    """``dpop_signing_alg_values_supported`` (RFC 9449 section 5.1); where it is absent, the first token tells."""
    client = a_client(sender_constraint=SenderConstraint.DPOP, dpop_alg="EdDSA")

    check_capabilities(a_server(), client, an_issuer())
    check_capabilities(a_server(dpop_signing_alg_values_supported=("Ed25519",)), client, an_issuer())
    with pytest.raises(RemoteError) as caught:
        check_capabilities(a_server(dpop_signing_alg_values_supported=("ES256",)), client, an_issuer())

    assert caught.value.code == Reason.METADATA_INSUFFICIENT
    assert "dpop_signing_alg_values_supported" in str(caught.value.hint)
    assert any("dpop_signing_alg_values_supported is absent" in text for text in remarks(a_server(), client))
    assert not any("dpop" in text for text in remarks(a_server(), a_client()))


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


# --- where a person is asked ---


def an_asking_server(**changes: Any) -> AuthorizationServer:
    return a_server(
        **{
            "grant_types_supported": ("authorization_code", "refresh_token"),
            "authorization_endpoint": f"{ISSUER_URL}/authorize",
            "jwks_uri": f"{ISSUER_URL}/jwks",
            "pushed_authorization_request_endpoint": f"{ISSUER_URL}/par",
            "revocation_endpoint": f"{ISSUER_URL}/revoke",
            "require_pushed_authorization_requests": True,
            "require_signed_request_object": True,
            **changes,
        }
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"code_challenge_methods_supported": ("S256", "plain"), "response_modes_supported": ("query",)},
        {"authorization_response_iss_parameter_supported": True},
    ],
)
def test_a_server_that_asks_people_as_we_do_is_used(changes: dict[str, Any]) -> None:
    """It demands what we do anyway."""
    server = an_asking_server(**changes)

    check_capabilities(server, a_client(), an_issuer(), grant_type="authorization_code")

    assert disagreements(server, a_client(), an_issuer(), grant_types=("authorization_code", "refresh_token")) == ()


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"authorization_endpoint": None}, "authorization_endpoint"),
        ({"code_challenge_methods_supported": ("plain",)}, "code_challenge_methods_supported"),
        ({"pushed_authorization_request_endpoint": None}, "pushed_authorization_request_endpoint"),
        ({"grant_types_supported": ("client_credentials",)}, "grant_types_supported"),
    ],
)
def test_a_server_that_does_not_ask_as_we_do_is_not_used(changes: dict[str, Any], member: str) -> None:
    """And none of it matters to tokens that nobody is asked for."""
    server = an_asking_server(**changes)

    with pytest.raises(RemoteError) as caught:
        check_capabilities(server, a_client(), an_issuer(), grant_type="authorization_code")

    assert (caught.value.code, caught.value.outcome) == (Reason.METADATA_INSUFFICIENT, Outcome.NOT_SENT)
    assert member in str(caught.value.hint)


@pytest.mark.parametrize(
    ("client", "member"),
    [
        (a_client(response_mode=ResponseMode.JWT), "response_modes_supported"),
        (a_client(response_mode=ResponseMode.FORM_POST), "response_modes_supported"),
        (a_client(request_object=RequestObjectUse.NEVER), "require_signed_request_object"),
        (a_client(signing_alg=None), "require_signed_request_object"),
    ],
)
def test_a_client_that_does_not_ask_as_the_server_wants_is_named(client: Client, member: str) -> None:
    """Before a person is sent anywhere."""
    server = an_asking_server(response_modes_supported=("query",))

    (found,) = disagreements(server, client, an_issuer(), grant_types=("authorization_code",))

    assert found.startswith(f"{member} ")


@pytest.mark.parametrize(
    ("profile", "client", "named", "is_good"),
    [
        (Profile.OIDC, a_client(shares_redirect_uri=True), False, False),
        (Profile.OIDC, a_client(shares_redirect_uri=True), True, True),
        (Profile.OIDC, a_client(shares_redirect_uri=True, response_mode=ResponseMode.JWT), False, True),
        (Profile.OIDC, a_client(), False, True),
        (Profile.FAPI2, a_client(shares_redirect_uri=True), False, True),
    ],
)
def test_a_redirect_uri_of_two_issuers_needs_to_know_who_answers(
    profile: Profile, client: Client, named: bool, is_good: bool
) -> None:
    """By ``iss``, which FAPI 2.0 insists on anyway, or by a signature (rules.md R5)."""
    server = an_asking_server(authorization_response_iss_parameter_supported=named)

    found = disagreements(server, client, an_issuer(profile=profile), grant_types=("authorization_code",))

    assert (found == ()) is is_good


@pytest.mark.parametrize(("mode", "is_good"), [(ResponseMode.QUERY, False), (ResponseMode.JWT, True)])
def test_fapi_1_protects_the_request_or_the_answer(mode: ResponseMode, is_good: bool) -> None:
    """By PAR or by JARM; FAPI 1.0 part 2 section 5.2.2 knows the plain code flow with the latter only."""
    server, issuer = (
        an_asking_server(pushed_authorization_request_endpoint=None, require_pushed_authorization_requests=False),
        an_issuer(profile=Profile.FAPI1_ADVANCED),
    )

    found = disagreements(server, a_client(response_mode=mode), issuer, grant_types=("authorization_code",))

    assert (found == ()) is is_good


@pytest.mark.parametrize(
    ("changes", "client", "member"),
    [
        ({"jwks_uri": None}, a_client(), "jwks_uri"),
        ({"userinfo_endpoint": None}, a_client(), "userinfo_endpoint"),
        (
            {"id_token_signing_alg_values_supported": ("RS256",)},
            a_client(),
            "id_token_signing_alg_values_supported",
        ),
        (
            {"authorization_signing_alg_values_supported": ("RS256",)},
            a_client(response_mode=ResponseMode.JWT),
            "authorization_signing_alg_values_supported",
        ),
    ],
)
def test_what_would_be_missed_after_the_consent_is_said_before(
    changes: dict[str, Any], client: Client, member: str
) -> None:
    """A person would have gone through a login for nothing."""
    server = an_asking_server(**{"userinfo_endpoint": f"{ISSUER_URL}/me", **changes})

    found = disagreements(server, client, an_issuer(), grant_types=("authorization_code",), openid=True, userinfo=True)

    assert [sentence.partition(" ")[0] for sentence in found] == [member]


def test_an_alias_that_is_not_called_is_not_missed() -> None:
    """A client that was told to do without need not be told that it does."""
    told = [
        any(
            "mtls_endpoint_aliases" in text
            for text in remarks(an_asking_server(), a_client(mtls_endpoint_aliases=names))
        )
        for names in (None, frozenset(AliasedEndpoint), frozenset())
    ]

    assert told == [True, True, False]


def test_what_no_client_credentials_depend_on_is_said_so() -> None:
    """And said otherwise where people are asked."""
    server = an_asking_server(mtls_endpoint_aliases={"token_endpoint": "https://as.example/mtls"})

    without, asking = remarks(server, a_client()), remarks(server, a_client(), grant_types=("authorization_code",))

    assert all("no matter to client_credentials" in text for text in without)
    assert len(without) == 2
    assert [text.partition(" ")[0] for text in asking] == ["require_signed_request_object"]
