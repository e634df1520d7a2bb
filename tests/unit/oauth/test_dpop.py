from __future__ import annotations

import pytest

from broker.oauth.dpop import (
    MAX_NONCE,
    asks_for_nonce,
    htu_of,
    is_canonical,
    is_nonce_challenge,
    is_under,
    nonce_of,
    origin_of,
    presented,
    proof_claims,
    token_hash,
)
from broker.oauth.endpoint_urls import NotAnEndpointUrlError
from broker.oauth.secret import AccessToken, DpopProof
from tests.unit.oauth.builders import an_answer

TOKEN = AccessToken("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU")
"""The one of RFC 9449 section 7.1, whose hash is known."""


def test_a_proof_for_an_authorization_server_says_no_more_than_it_has_to():
    """RFC 9449 section 4.2: no ``ath`` there, and a nonce only if the server gave one (DP-01, DP-03)."""
    claims = proof_claims(htm="POST", htu="https://as.example/token", jti="j", now=1_790_000_000.9)

    assert claims == {"jti": "j", "htm": "POST", "htu": "https://as.example/token", "iat": 1_790_000_000}


def test_a_proof_for_a_resource_server_is_tied_to_the_token():
    """The example of RFC 9449 section 7.1."""
    claims = proof_claims(htm="GET", htu="https://a.example/", jti="j", now=0, access_token=TOKEN, nonce="n")

    assert claims["ath"] == token_hash(TOKEN) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    assert claims["nonce"] == "n"


@pytest.mark.parametrize(
    ("url", "htu"),
    [
        ("https://as.example/token", "https://as.example/token"),
        ("https://as.example/token?a=b/c", "https://as.example/token"),
        ("https://as.example?a=/b", "https://as.example/"),
        ("https://as.example", "https://as.example/"),
        ("HTTPS://AS.Example:443/A%20b/", "https://as.example/A%20b/"),
        ("https://as.example:8443/x", "https://as.example:8443/x"),
        ("http://[::1]:80/x", "http://[::1]/x"),
    ],
)
def test_htu_is_the_url_as_the_server_sees_it(url: str, htu: str):
    """Without query; host in lower case, no default port, the path untouched (DP-02)."""
    assert htu_of(url) == htu
    assert htu.startswith(origin_of(url))


@pytest.mark.parametrize("url", ["https://me@as.example/", "https://as.example/#f", "as.example", "https://a/../b", ""])
def test_what_is_no_plain_url_has_no_htu(url: str):
    """Userinfo would be a secret in a proof."""
    with pytest.raises(NotAnEndpointUrlError):
        htu_of(url)


@pytest.mark.parametrize(
    ("htu", "base_url", "under"),
    [
        ("https://api.example/v1", "https://api.example/v1", True),
        ("https://api.example/v1/x", "https://api.example/v1", True),
        ("https://api.example/v1/x", "https://api.example/v1/", True),
        ("https://api.example/v1", "https://api.example/v1/", True),
        ("https://api.example/", "https://api.example", True),
        ("https://api.example/x", "https://api.example", True),
        ("https://api.example/v11", "https://api.example/v1", False),
        ("https://api.example/", "https://api.example/v1", False),
        ("https://api.example.evil.example/v1", "https://api.example/v1", False),
        ("https://api.example:8443/v1", "https://api.example/v1", False),
        ("http://api.example/v1", "https://api.example/v1", False),
    ],
)
def test_a_url_is_under_another_by_whole_segments(htu: str, base_url: str, *, under: bool):
    """A name that begins alike is another name."""
    assert is_under(htu, base_url) is under


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://api.example/", True),
        ("https://api.example/a%20b/c_d~e", True),
        ("https://api.example", False),
        ("https://API.example/", False),
        ("https://api.example:443/", False),
        ("https://api.example/?x", False),
        ("https://api.example/a//b", False),
        ("https://api.example/a/..", False),
        ("https://api.example/a/%2E%2e/b", False),
        ("https://api.example/a%2fb", False),
        ("https://api.example/to%6ben", False),
        ("https://api.example/%41", False),
        ("https://api.example/a%7Eb", False),
        ("https://api.example/caf%C3%A9", True),
        ("https://api.example/a%5Cb", False),
        ("https://api.example/a%252fb", False),
        ("https://api.example/a/..;/b", False),
        ("https://me@api.example/", False),
        ("", False),
    ],
)
def test_a_url_that_can_be_read_in_two_ways_is_not_canonical(url: str, *, canonical: bool):
    """What one server takes for a name leads another out of the path that was allowed."""
    assert is_canonical(url) is canonical


@pytest.mark.parametrize(
    ("headers", "nonce"),
    [
        ([("DPoP-Nonce", "eyJ7S_zG.eyJH0-Z.HX4w-7v")], "eyJ7S_zG.eyJH0-Z.HX4w-7v"),
        ([("dpop-nonce", "a,b")], "a,b"),
        ([("x", "y")], None),
        ([("dpop-nonce", "a"), ("DPoP-Nonce", "b")], None),
        ([("dpop-nonce", "a, b")], None),
        ([("dpop-nonce", "")], None),
        ([("dpop-nonce", 'a"b')], None),
        ([("dpop-nonce", "é")], None),
        ([("dpop-nonce", "a" * MAX_NONCE)], "a" * MAX_NONCE),
        ([("dpop-nonce", "a" * (MAX_NONCE + 1))], None),
    ],
)
def test_a_nonce_is_one_sane_value(headers: list[tuple[str, str]], nonce: str | None):
    """RFC 9449 section 8.1; anything else is as if there were none."""
    assert nonce_of(headers) == nonce


@pytest.mark.parametrize(
    ("status", "body", "asks"),
    [
        (400, {"error": "use_dpop_nonce"}, True),
        (401, {"error": "use_dpop_nonce"}, False),
        (200, {"error": "use_dpop_nonce"}, False),
        (400, {"error": "invalid_dpop_proof"}, False),
        (400, ["use_dpop_nonce"], False),
        (400, b"use_dpop_nonce", False),
    ],
)
def test_an_authorization_server_asks_by_an_oauth_error(status: int, body: object, *, asks: bool):
    """RFC 9449 section 8."""
    assert asks_for_nonce(an_answer(body, status=status)) is asks


@pytest.mark.parametrize(
    ("status", "values", "asks"),
    [
        (401, ['DPoP error="use_dpop_nonce", error_description="x"'], True),
        (401, ['Bearer realm="x", dPoP error=use_dpop_nonce'], True),
        (401, ["Bearer", 'DPOP error="use_dpop_nonce"'], True),
        (400, ['DPoP error="use_dpop_nonce"'], False),
        (401, ['Bearer error="use_dpop_nonce"'], False),
        (401, ['DPoP error="invalid_token"'], False),
        (401, [], False),
    ],
)
def test_a_resource_server_asks_by_a_challenge(status: int, values: list[str], *, asks: bool):
    """RFC 9449 section 9; among others, and whatever the case of the scheme (DP-04)."""
    assert is_nonce_challenge(status, values) is asks


def test_a_token_is_shown_with_its_proof_and_not_as_a_bearer_token():
    """RFC 9449 section 7.1."""
    assert presented(AccessToken("at"), DpopProof("p")) == {"authorization": "DPoP at", "dpop": "p"}
