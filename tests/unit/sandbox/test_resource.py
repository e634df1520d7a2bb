"""Tests of ``broker/sandbox/resource.py``: what the API's guard lets in."""

from __future__ import annotations

from typing import Any

import pytest

from broker.sandbox.jose import SigningAlg, generate_private_key_pem, read_private, sign
from broker.sandbox.resource import AccessRefusedError, Binding, Guard, Presented

NOW = 1_790_000_000.0
KEY = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))
STRANGER = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))
GUARD = Guard(issuer="https://as", audience="https://api", scope="read", signing_key=KEY)

GOOD: dict[str, Any] = {
    "iss": "https://as",
    "aud": "https://api",
    "scope": "read write",
    "exp": NOW + 1,
    "cnf": {"x5t#S256": "thumb"},
}


def bearer(claims: dict[str, Any] | None = None, *, typ: str = "at+jwt", key: Any = KEY) -> str:
    merged = {name: value for name, value in {**GOOD, **(claims or {})}.items() if value is not None}
    return f"Bearer {sign(key, typ, merged)}"


def shown(authorization: str | None, *, certificate: str | None = "thumb") -> Presented:
    return Presented(authorization=authorization, certificate=certificate)


@pytest.mark.parametrize("authorization", [bearer(), bearer({"aud": ["https://x", "https://api"]})])
def test_a_good_token_is_let_in(authorization: str):
    """On the connection that it is bound to, for this audience alone or among others."""
    assert GUARD.admit(shown(authorization), now=NOW)["scope"] == "read write"


def test_the_scheme_is_compared_without_case():
    """RFC 9110 section 11.1."""
    assert GUARD.admit(shown(bearer().replace("Bearer", "bEARER")), now=NOW)


@pytest.mark.parametrize(
    ("authorization", "status", "error"),
    [
        (None, 401, None),
        ("Basic YTpi", 400, "invalid_request"),
        ("Bearer", 400, "invalid_request"),
        ("Bearer nonsense", 401, "invalid_token"),
        (bearer(key=STRANGER), 401, "invalid_token"),
        (bearer(typ="JWT"), 401, "invalid_token"),
        (bearer({"iss": "https://other"}), 401, "invalid_token"),
        (bearer({"exp": NOW}), 401, "invalid_token"),
        (bearer({"aud": "https://other"}), 401, "invalid_token"),
        (bearer({"cnf": None}), 401, "invalid_token"),
        (bearer({"cnf": {"x5t#S256": "other"}}), 401, "invalid_token"),
        (bearer({"scope": "write"}), 403, "insufficient_scope"),
        (bearer({"scope": "reader"}), 403, "insufficient_scope"),
    ],
)
def test_everything_else_is_not(authorization: str | None, status: int, error: str | None):
    """RFC 6750 section 3.1."""
    with pytest.raises(AccessRefusedError) as caught:
        GUARD.admit(shown(authorization), now=NOW)

    assert (caught.value.status, caught.value.error) == (status, error)


def test_a_token_bound_to_nothing_is_not_let_in_without_a_certificate():
    """None is not equal to None here."""
    with pytest.raises(AccessRefusedError, match="another certificate"):
        GUARD.admit(shown(bearer({"cnf": {}}), certificate=None), now=NOW)


def test_the_challenge_names_the_error():
    """RFC 6750 section 3; without a token it names none."""
    assert AccessRefusedError("invalid_token", "it expired").challenge() == (
        'Bearer realm="sandbox", error="invalid_token", error_description="it expired"'
    )
    assert AccessRefusedError(None, "no token").challenge() == 'Bearer realm="sandbox"'


@pytest.mark.parametrize(
    ("authorization", "certificate", "known"),
    [
        (bearer({"client_id": "app"}), "thumb", Binding(client="app", cnf={"x5t#S256": "thumb"}, matched=True)),
        (bearer(), "other", Binding(cnf={"x5t#S256": "thumb"}, matched=False)),
        (bearer(), None, Binding(cnf={"x5t#S256": "thumb"}, matched=False)),
        (bearer({"cnf": {}, "exp": NOW - 9}), "thumb", Binding(cnf={}, matched=False)),
        (bearer(key=STRANGER), "thumb", Binding()),
        (None, "thumb", Binding()),
    ],
)
def test_what_a_token_is_bound_to_is_known_of_bad_ones_too(
    authorization: str | None, certificate: str | None, known: Binding
):
    """For the journal: an expired token on a stranger's connection is a mistake as well; a forged one says nothing."""
    assert GUARD.binding(shown(authorization, certificate=certificate)) == known


def test_a_fingerprint_does_not_tell_the_token():
    """The same token has the same one; no token has none."""
    first, second = shown("Bearer one"), shown("DPoP one")

    assert first.fingerprint() == second.fingerprint() != shown("Bearer two").fingerprint()
    assert "one" not in str(first.fingerprint()) + repr(first)
    assert shown(None).fingerprint() is None
