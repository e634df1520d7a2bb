"""What ``check --online`` advises: something to do for each disagreement, in our words and never in a server's."""

from __future__ import annotations

from typing import Any

import pytest

from broker.cli.remedies import OF_THE_DOCUMENT, SIGNING_ALGS, of_disagreement, of_error
from broker.config.schema import SigningAlg
from broker.errors import LocalError, Outcome, RemoteError
from broker.oauth.capabilities import disagreements, remarks
from broker.oauth.client import Profile, ResponseMode, SenderConstraint
from broker.oauth.reasons import Reason
from tests.unit.oauth.builders import a_client, an_issuer
from tests.unit.oauth.test_capabilities import a_server, an_asking_server

CANARY = "canary-4711"

ALIAS = {"token_endpoint": "https://as.example/mtls"}


def advice(profile: Profile = Profile.FAPI2, **changes: Any) -> list[str]:
    """Give the advice for a server with *changes*."""
    server, client, issuer = a_server(**changes), a_client(), an_issuer(profile=profile)
    texts = (*disagreements(server, client, issuer), *remarks(server, client))
    return [of_disagreement(text, server, client, issuer) for text in texts]


METHODS = "token_endpoint_auth_methods_supported"
ALGS = "token_endpoint_auth_signing_alg_values_supported"


@pytest.mark.parametrize(
    ("changes", "profile", "said"),
    [
        ({METHODS: ("tls_client_auth", CANARY)}, Profile.FAPI2, 'offers "tls_client_auth": set client_auth_method'),
        ({METHODS: ("client_secret_basic",)}, Profile.FAPI2, "offers none that the profile admits"),
        ({METHODS: ("client_secret_basic", "none")}, Profile.OIDC, 'offers "client_secret_basic", "none"'),
        ({METHODS: None}, Profile.FAPI2, "ask the server's operator which"),
        ({ALGS: ("RS256", "ES256", CANARY)}, Profile.FAPI2, 'takes "ES256": register a key'),
        ({ALGS: ("RS256", "EdDSA")}, Profile.FAPI1_ADVANCED, "takes none that the profile admits"),
        ({ALGS: ("RS256",)}, Profile.OAUTH2, 'takes "RS256"'),
        ({ALGS: (CANARY,)}, Profile.OAUTH2, "takes none"),
        ({"grant_types_supported": (CANARY,)}, Profile.FAPI2, "have the server's operator enable it"),
        ({"tls_client_certificate_bound_access_tokens": False}, Profile.FAPI2, "RFC 8705) for this client"),
        ({"tls_client_certificate_bound_access_tokens": False}, Profile.OIDC, 'sender_constraint = "none"'),
    ],
)
def test_each_disagreement_has_something_to_do(changes: dict[str, Any], profile: Profile, said: str):
    """What the profile would refuse next is not advised."""
    texts = advice(profile, mtls_endpoint_aliases={"token_endpoint": "https://as.example/mtls"}, **changes)

    assert len(texts) == 1
    assert said in texts[0]
    assert CANARY not in texts[0]


@pytest.mark.parametrize(
    ("changes", "profile", "said"),
    [
        ({"jwks_uri": None}, Profile.OIDC, "remove openid from the tokens of [client."),
        ({"userinfo_endpoint": None}, Profile.OIDC, "remove userinfo"),
        ({"id_token_signing_alg_values_supported": ("ES256", CANARY)}, Profile.OIDC, 'has "ES256": have one'),
        ({"id_token_signing_alg_values_supported": (CANARY,)}, Profile.OIDC, "none that is safe"),
        ({"authorization_signing_alg_values_supported": ("RS256",)}, Profile.OIDC, "write it as authorization_signed"),
        ({"authorization_endpoint": None}, Profile.OIDC, "operator has to change"),
        ({"code_challenge_methods_supported": ("plain",)}, Profile.OIDC, "operator has to change"),
        ({"response_modes_supported": ("form_post", CANARY)}, Profile.OIDC, 'has "form_post": set response_mode'),
        ({"response_modes_supported": (CANARY,)}, Profile.OIDC, "operator has to change"),
        ({"pushed_authorization_request_endpoint": None}, Profile.FAPI2, "turn pushed authorization requests on"),
        ({"pushed_authorization_request_endpoint": None}, Profile.OIDC, "go through the browser"),
        ({"authorization_response_iss_parameter_supported": False}, Profile.OIDC, "a redirect URI of its own"),
    ],
)
def test_what_people_need_has_something_to_do(changes: dict[str, Any], profile: Profile, said: str):
    """In our words again."""
    mode = ResponseMode.QUERY if "authorization_response_iss_parameter_supported" in changes else ResponseMode.JWT
    complete = {"userinfo_endpoint": "https://as.example/me", "authorization_response_iss_parameter_supported": True}
    server = an_asking_server(
        **{"mtls_endpoint_aliases": ALIAS, "require_signed_request_object": False, **complete, **changes},
        require_pushed_authorization_requests=False,
    )
    client, issuer = a_client(response_mode=mode, shares_redirect_uri=True), an_issuer(profile=profile)
    kinds = ("authorization_code", "refresh_token")
    texts = disagreements(server, client, issuer, grant_types=kinds, openid=True, userinfo=True)
    texts += remarks(server, client, grant_types=kinds)

    told = [of_disagreement(text, server, client, issuer) for text in texts]

    assert any(said in text for text in told)
    assert not any(CANARY in text for text in told)


def test_a_strict_profile_is_not_led_to_bearer_tokens():
    """The configuration would be refused."""
    (text,) = advice(
        mtls_endpoint_aliases={"token_endpoint": "https://as.example/mtls"},
        tls_client_certificate_bound_access_tokens=False,
    )

    assert SenderConstraint.NONE.value not in text.replace("[client.", "")


def test_a_remark_without_a_remedy_stays_as_it_is():
    """Words that help nobody are left out."""
    server, client = a_server(), a_client()

    assert of_disagreement("something else is true", server, client, an_issuer()) == "something else is true"


def test_a_missing_alias_says_what_it_can_come_to():
    """Tokens that are refused for not being bound."""
    (text,) = advice(mtls_endpoint_aliases={})

    assert "ask for its mutual TLS endpoint" in text


@pytest.mark.parametrize("reason", OF_THE_DOCUMENT)
def test_an_error_without_a_hint_gets_one(reason: str):
    """One line an operator can act on, with the status where it says something."""
    error = RemoteError(reason, "it is so", outcome=Outcome.UNKNOWN, status=502)

    text = of_error(error, ["https://as.example/a"])

    assert text == f"it is so (status 502) [{reason}]; {OF_THE_DOCUMENT[reason]}; asked for was https://as.example/a"


def test_a_document_that_is_not_there_is_a_matter_of_the_issuer():
    """Both places were looked at."""
    error = RemoteError(Reason.UNEXPECTED_STATUS, "it is so", outcome=Outcome.UNKNOWN, status=404)

    text = of_error(error, ["https://as/a", "https://as/b"])

    assert "issuer is right to the letter, and discovery" in text
    assert text.endswith("asked for was https://as/a and https://as/b")


def test_an_error_of_ours_asked_for_nothing():
    """A CA file that cannot be read, for one."""
    assert of_error(LocalError("ca_unreadable", "no CA", hint="see"), []) == "no CA [ca_unreadable]; see"


def test_the_algorithms_are_those_of_keys():
    """A new one is advised, too."""
    assert set(SIGNING_ALGS) == {alg.value for alg in SigningAlg}


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        (("RS256", "PS256", CANARY), 'takes "PS256": name a key with such an alg in dpop_key'),
        (("RS256",), "takes none"),
        (None, "come unbound and are refused"),
    ],
)
def test_a_server_that_takes_other_proofs_or_may_take_none_is_told(offered: tuple[str, ...] | None, said: str):
    """Before the first token fails for it."""
    server, issuer = a_server(dpop_signing_alg_values_supported=offered), an_issuer()
    client = a_client(sender_constraint=SenderConstraint.DPOP, dpop_alg="ES256", presents_certificate=False)
    texts = (*disagreements(server, client, issuer), *remarks(server, client))

    (text,) = [of_disagreement(text, server, client, issuer) for text in texts]

    assert said in text
    assert CANARY not in text
