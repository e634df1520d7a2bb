"""jose: an unverified look into a JWT."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.oauth.jose import ASSERTION_TYP, MAX_TOKEN, SIGNING_ALGS, alg_names, resembles_jwt, unverified_claims
from tests.unit.oauth.builders import a_jwt, base64url

HEADER = base64url(b'{"alg":"ES256"}')
TWICE = base64url(b'{"cnf":1,"cnf":2}')
CLAIMS = base64url(b'{"sub":"app"}')


def test_the_claims_of_a_jwt_come_out() -> None:
    """All of them, unverified."""
    assert unverified_claims(a_jwt({"sub": "app", "cnf": {"x5t#S256": "x"}})) == {
        "sub": "app",
        "cnf": {"x5t#S256": "x"},
    }


def test_a_jwt_without_a_signature_is_looked_into_all_the_same() -> None:
    """The binding of an unsigned token is not taken on trust either."""
    assert unverified_claims(f"{HEADER}.{CLAIMS}.") == {"sub": "app"}


def test_the_longest_token_that_is_accepted_is_looked_into() -> None:
    """What is served has been checked, however long it is."""
    token = f"{HEADER}.{CLAIMS}."

    assert unverified_claims(token + "x" * (MAX_TOKEN - len(token))) == {"sub": "app"}


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("$2a$10$N9qo8uLOickgx2ZMRZoMye", id="bcrypt"),
        pytest.param("2YotnFZFEjr1zCsicMWpAA", id="random"),
        pytest.param("a.b.c", id="three short parts"),
        pytest.param(f"{HEADER}.{CLAIMS}", id="two parts"),
        pytest.param(f"{HEADER}.{CLAIMS}.x.y.z", id="a JWE has five parts"),
        pytest.param(f"{HEADER}.{CLAIMS}.x.y", id="four parts"),
        pytest.param(f"{HEADER}=.{CLAIMS}.x", id="padding"),
        pytest.param(f"{HEADER}.{CLAIMS}.x\n", id="a line end"),
        pytest.param(f"{HEADER}.{CLAIMS}+/.x", id="the other alphabet of base64"),
        pytest.param(f"{HEADER}.{CLAIMS[:-1]}.x", id="a payload cut off"),
        pytest.param(f"{HEADER}.a.x", id="a length that base64 cannot have"),
        pytest.param(f"{base64url(b'[]')}.{CLAIMS}.x", id="the header is an array"),
        pytest.param(f"{base64url(b'hello')}.{CLAIMS}.x", id="the header is not JSON"),
        pytest.param(f"{HEADER}.{base64url(b'[1]')}.x", id="the payload is an array"),
        pytest.param(f"{HEADER}.{base64url(b'null')}.x", id="the payload is null"),
        pytest.param(f"{HEADER}.{base64url(b'hello')}.x", id="the payload is text"),
        pytest.param(f"{HEADER}.{TWICE}.x", id="duplicate claims"),
        pytest.param(f"{HEADER}.{CLAIMS}.{'x' * MAX_TOKEN}", id="longer than any token we accept"),
    ],
)
def test_everything_else_is_opaque(token: str) -> None:
    """Only a compact JWS of two strict JSON objects is looked into."""
    assert unverified_claims(token) is None


@settings(derandomize=True, max_examples=100, deadline=None, database=None)
@given(st.text(max_size=40) | st.from_regex(r"\A[A-Za-z0-9_-]{1,12}\.[A-Za-z0-9_-]{1,12}\.[A-Za-z0-9_-]{0,4}\Z"))
def test_no_token_raises(token: str) -> None:
    """A token is a peer's text."""
    claims = unverified_claims(token)

    assert claims is None or isinstance(claims, dict)


def test_eddsa_has_two_names() -> None:
    """RFC 9864 gave EdDSA with Ed25519 a name of its own; servers list one or the other."""
    assert alg_names("EdDSA") == alg_names("Ed25519") == {"EdDSA", "Ed25519"}
    assert alg_names("PS256") == {"PS256"}


def test_no_algorithm_is_none_or_symmetric() -> None:
    """What has no private key proves nothing about who signed."""
    assert not {alg for alg in SIGNING_ALGS if alg == "none" or alg.startswith("HS")}
    assert ASSERTION_TYP == "JWT"


@pytest.mark.parametrize(
    "token",
    [
        f"{HEADER}.{CLAIMS}.s",
        f"{HEADER}.{TWICE}.s",
        f"{HEADER}.not base64.s",
        f"{HEADER}==.{CLAIMS}.s",
        base64url(b'{"alg":"ES256","alg":"ES256"}') + f".{CLAIMS}.s",
        base64url(b'\xef\xbb\xbf{"alg":"ES256"}') + f".{CLAIMS}.s",
        base64url(b'{"alg":"ES256","n":NaN}') + f".{CLAIMS}.s",
    ],
)
def test_what_a_lenient_reader_takes_for_a_jwt_resembles_one(token: str) -> None:
    """Duplicate members, padding, a byte order mark, NaN, whatever stands in the payload."""
    assert resembles_jwt(token)


@pytest.mark.parametrize(
    "token", ["opaque", "a.b.c", "....", "$2a$10$x.y.z", base64url(b'{"typ":"x"}') + ".b.c", base64url(b"[1]") + ".b.c"]
)
def test_three_parts_alone_make_no_jwt(token: str) -> None:
    """There has to be a header with an algorithm."""
    assert not resembles_jwt(token)
