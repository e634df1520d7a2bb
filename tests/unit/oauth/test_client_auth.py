"""client_auth: one assertion, for one audience, for a minute."""

from __future__ import annotations

import json

import pytest

from broker.errors import LocalError
from broker.oauth.client import AssertionAudience
from broker.oauth.client_auth import ASSERTION_LIFETIME, assertion_claims, assertion_form, authenticate
from broker.oauth.messages import AssertionSpec
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.secret import ClientAssertion
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


def test_the_form_carries_type_and_assertion() -> None:
    """CA-05."""
    assert assertion_form(ClientAssertion("a.b.c")) == (
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", "a.b.c"),
    )
