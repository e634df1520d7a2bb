"""client_auth: one assertion, for one audience, for a minute."""

from __future__ import annotations

import json

import pytest

from broker.errors import LocalError
from broker.oauth.client import AssertionAudience, ClientAuthMethod, ClientSecretEncoding
from broker.oauth.client_auth import (
    ASSERTION_LIFETIME,
    FormPairs,
    assertion_claims,
    authenticate,
    basic_credentials,
    credential_form,
    credential_headers,
)
from broker.oauth.messages import AssertionSpec, BasicSpec, Credential, CredentialSpec, PostSpec
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.secret import AccessToken, BasicCredentials, ClientAssertion, ClientSecret, DpopProof
from tests.unit.oauth.builders import ISSUER_URL, NOW, a_client, an_issuer

URL = "https://as.example:8443/token"
SERVER = AuthorizationServer(issuer=ISSUER_URL, token_endpoint=URL)
SPEC = AssertionSpec(client_id="app-1", audience=ISSUER_URL)


def test_the_claims_are_those_of_rfc_7523_and_no_others() -> None:
    """CA-01, CA-02: the audience a string, who issues is whom it is about, and no nbf for a fast clock to spoil."""
    claims = assertion_claims(SPEC, now=NOW + 0.9, jti="random-1")

    assert claims == {
        "iss": "app-1",
        "sub": "app-1",
        "aud": ISSUER_URL,
        "jti": "random-1",
        "iat": 1_790_000_000,
        "exp": 1_790_000_060,
    }


def test_the_times_are_whole_numbers_that_do_not_run_ahead() -> None:
    """A NumericDate may have a fraction, but not every server knows; and rounding up would lie in the future."""
    claims = assertion_claims(SPEC, now=NOW + 0.999, jti="random-1")

    assert json.dumps([claims["iat"], claims["exp"]]) == "[1790000000, 1790000060]"
    assert ASSERTION_LIFETIME == 60


@pytest.mark.parametrize(
    ("audience", "expected"), [(AssertionAudience.ISSUER, ISSUER_URL), (AssertionAudience.TARGET, URL)]
)
def test_the_audience_is_the_issuer_or_the_url_dialed(audience: AssertionAudience, expected: str) -> None:
    """As configured; with an alias, the target is the alias."""
    form, assertion = authenticate(a_client(), an_issuer(assertion_audience=audience), SERVER, URL)

    assert assertion == AssertionSpec(client_id="app-1", audience=expected)
    assert form == (("client_id", "app-1"),)


def test_metadata_of_another_issuer_gets_no_assertion() -> None:
    """An assertion for one server in the hands of another would let it act as us."""
    other = AuthorizationServer(issuer="https://evil.example", token_endpoint="https://evil.example/token")

    with pytest.raises(LocalError) as caught:
        authenticate(a_client(), an_issuer(), other, "https://evil.example/token")

    assert caught.value.code == "issuer_mixed_up"


def test_a_client_of_another_issuer_gets_no_assertion() -> None:
    """Its registration is elsewhere."""
    with pytest.raises(LocalError) as caught:
        authenticate(a_client(issuer="other"), an_issuer(), SERVER, URL)

    assert caught.value.code == "issuer_mixed_up"


@pytest.mark.parametrize("method", ClientAuthMethod)
def test_no_method_is_handed_to_a_mixed_up_server(method: ClientAuthMethod) -> None:
    """A secret in foreign hands is lost for good."""
    other = AuthorizationServer(issuer="https://evil.example", token_endpoint="https://evil.example/token")

    with pytest.raises(LocalError):
        authenticate(a_client(client_auth_method=method), an_issuer(), other, "https://evil.example/token")


NAMED: FormPairs = (("client_id", "app-1"),)


@pytest.mark.parametrize(
    ("method", "form", "credential"),
    [
        (ClientAuthMethod.PRIVATE_KEY_JWT, NAMED, SPEC),
        (ClientAuthMethod.TLS_CLIENT_AUTH, NAMED, None),
        (ClientAuthMethod.SELF_SIGNED_TLS_CLIENT_AUTH, NAMED, None),
        (
            ClientAuthMethod.CLIENT_SECRET_BASIC,
            (),
            BasicSpec(client_id="app-1", encoding=ClientSecretEncoding.FORM),
        ),
        (ClientAuthMethod.CLIENT_SECRET_POST, NAMED, PostSpec()),
        (ClientAuthMethod.NONE, NAMED, None),
    ],
)
def test_each_method_names_the_client_once_and_asks_for_one_credential(
    method: ClientAuthMethod, form: FormPairs, credential: CredentialSpec | None
) -> None:
    """CA-06, CA-08: a name beside the header would be a second method to strict servers."""
    assert authenticate(a_client(client_auth_method=method), an_issuer(), SERVER, URL) == (form, credential)


def test_the_encoding_is_that_of_the_client() -> None:
    """It is a property of the server, written in the client's section."""
    client = a_client(
        client_auth_method=ClientAuthMethod.CLIENT_SECRET_BASIC, client_secret_encoding=ClientSecretEncoding.RAW
    )

    _, credential = authenticate(client, an_issuer(), SERVER, URL)

    assert credential == BasicSpec(client_id="app-1", encoding=ClientSecretEncoding.RAW)


@pytest.mark.parametrize(
    ("client_id", "secret", "form", "raw"),
    [
        ("app", "secret", "Basic YXBwOnNlY3JldA==", "Basic YXBwOnNlY3JldA=="),
        # base64 of https%3A%2F%2Frp.example%2Fa+b:p%3Aq%25r%2Bs+t
        (
            "https://rp.example/a b",
            "p:q%r+s t",
            "Basic aHR0cHMlM0ElMkYlMkZycC5leGFtcGxlJTJGYStiOnAlM0FxJTI1ciUyQnMrdA==",
            "Basic aHR0cHM6Ly9ycC5leGFtcGxlL2EgYjpwOnElcitzIHQ=",
        ),
    ],
)
def test_the_header_is_form_encoded_or_raw(client_id: str, secret: str, form: str, raw: str) -> None:
    """CA-07; both written out as they go over the wire."""
    made = [
        basic_credentials(BasicSpec(client_id=client_id, encoding=encoding), ClientSecret(secret)).reveal()
        for encoding in (ClientSecretEncoding.FORM, ClientSecretEncoding.RAW)
    ]

    assert made == [form, raw]


@pytest.mark.parametrize(
    ("credential", "form", "headers"),
    [
        (None, (), {}),
        (
            ClientAssertion("a.b.c"),
            (
                ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                ("client_assertion", "a.b.c"),
            ),
            {},
        ),
        (ClientSecret("s e"), (("client_secret", "s e"),), {}),
        (BasicCredentials("Basic YTpi"), (), {"authorization": "Basic YTpi"}),
        (AccessToken("at"), (), {"authorization": "Bearer at"}),
    ],
)
def test_a_credential_goes_into_the_form_or_into_a_header(
    credential: Credential | None, form: FormPairs, headers: dict[str, str]
) -> None:
    """CA-05, CA-08: never into both."""
    assert credential_form(credential) == form
    assert credential_headers(credential) == headers


@pytest.mark.parametrize(
    ("credential", "headers"),
    [
        (AccessToken("at"), {"authorization": "DPoP at", "dpop": "p"}),
        (BasicCredentials("Basic YTpi"), {"authorization": "Basic YTpi", "dpop": "p"}),
        (ClientAssertion("a.b.c"), {"dpop": "p"}),
        (None, {"dpop": "p"}),
    ],
)
def test_a_proof_is_a_header_beside_it(credential: Credential | None, headers: dict[str, str]) -> None:
    """And makes an access token one that is no bearer token (RFC 9449 section 7.1)."""
    assert credential_headers(credential, DpopProof("p")) == headers
