"""Tests of ``broker/sandbox/clients.py``: each way in which a client assertion can be wrong."""

from __future__ import annotations

from typing import Any

import pytest

from broker.sandbox.clients import (
    ASSERTION_TYPE,
    TIDIED_AT,
    Assertion,
    ClientRefusedError,
    RegisteredClient,
    UsedAssertions,
    authenticate,
    unverified_assertion,
)
from broker.sandbox.jose import JsonWebKey, SigningAlg, generate_private_key_pem, read_private, sign

NOW = 1_790_000_000.0
ISSUER = "https://localhost:1"

KEY = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))
ED_KEY = read_private(SigningAlg.EDDSA, generate_private_key_pem(SigningAlg.EDDSA))
STRANGER = read_private(SigningAlg.ES256, generate_private_key_pem(SigningAlg.ES256))
CLIENT = RegisteredClient(client_id="app", keys=(KEY, ED_KEY), scope=("a",), resources=("https://api",))
CLIENTS = {"app": CLIENT}

GOOD: dict[str, Any] = {"iss": "app", "sub": "app", "aud": ISSUER, "jti": "1", "iat": NOW, "exp": NOW + 60}


def form(claims: dict[str, Any] | None = None, *, key: JsonWebKey = KEY, typ: str = "JWT", **fields: str):
    """Make a good form, apart from *claims* (None removes one) and *fields*."""
    merged = {name: value for name, value in {**GOOD, **(claims or {})}.items() if value is not None}
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": sign(key, typ, merged), **fields}


def tried(fields: dict[str, str], used: UsedAssertions | None = None, *, now: float = NOW) -> RegisteredClient:
    return authenticate(fields, CLIENTS, used or UsedAssertions(), issuer=ISSUER, now=now)


@pytest.mark.parametrize(
    "fields",
    [
        form(),
        form(key=ED_KEY),
        form(client_id="app"),
        form(typ="client-authentication+jwt"),
        form({"iat": NOW + 15}),
        form({"nbf": NOW + 15}),
        form({"iat": NOW - 74, "exp": NOW - 14}),
        form({"exp": NOW + 300}),
    ],
    ids=["plain", "another key", "client_id", "typ", "iat ahead", "nbf ahead", "just expired", "longest"],
)
def test_a_good_assertion_lets_the_client_in(fields: dict[str, str]):
    """Up to the tolerance for clocks, and with what RFC 7523 leaves open."""
    assert tried(fields) is CLIENT


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "client_assertion_type"),
        ({"client_assertion_type": ASSERTION_TYPE}, "missing or not a JWT"),
        (form(client_assertion_type="something"), "client_assertion_type"),
        (form(client_id="other"), "client_id"),
        (form({"sub": "other"}), "no such client"),
        (form({"sub": None}), "no such client"),
        (form({"sub": ["app"]}), "no such client"),
        (form({"iss": "other"}), "iss"),
        (form({"iss": None}), "iss"),
        (form({"aud": [ISSUER]}), "aud"),
        (form({"aud": f"{ISSUER}/token"}), "aud"),
        (form({"aud": f"{ISSUER}/"}), "aud"),
        (form({"aud": None}), "aud"),
        (form({"jti": None}), "jti"),
        (form({"jti": ""}), "jti"),
        (form({"jti": 7}), "jti"),
        (form({"jti": "a b"}), "jti"),
        (form({"exp": None}), "exp"),
        (form({"exp": True}), "exp"),
        (form({"exp": str(NOW + 60)}), "exp"),
        (form({"iat": None}), "iat"),
        (form({"nbf": "now"}), "nbf"),
        (form({"iat": NOW - 75, "exp": NOW - 15}), "expired"),
        (form({"iat": NOW + 16}), "future"),
        (form({"nbf": NOW + 16}), "future"),
        (form({"exp": NOW + 301}), "too long"),
        (form({"iat": NOW + 10, "exp": NOW + 5}), "too long"),
        (form(key=STRANGER), "kid"),
        (form(typ="at+jwt"), "typ"),
    ],
)
def test_a_wrong_assertion_is_refused_for_its_own_reason(fields: dict[str, str], reason: str):
    """One fault at a time."""
    with pytest.raises(ClientRefusedError) as caught:
        tried(fields)

    assert reason in caught.value.reason


def test_a_kid_does_not_help_a_stranger():
    """Signed by another key under the name of a registered one."""
    impostor = JsonWebKey(alg=STRANGER.alg, kid=KEY.kid, key=STRANGER.key)

    with pytest.raises(ClientRefusedError, match="signature"):
        tried(form(key=impostor))


def test_the_algorithm_is_that_of_the_registered_key():
    """The header cannot choose another (RFC 8725 section 3.1)."""
    confused = JsonWebKey(alg=ED_KEY.alg, kid=KEY.kid, key=ED_KEY.key)

    with pytest.raises(ClientRefusedError, match="alg"):
        tried(form(key=confused))


def test_an_assertion_is_good_once():
    """The second use is refused, by the same or another transmission."""
    used, fields = UsedAssertions(), form()
    tried(fields, used)

    with pytest.raises(ClientRefusedError, match="used before"):
        tried(fields, used)


def test_a_refused_assertion_is_not_used_up():
    """What fails a check before the last does not count as a use."""
    used = UsedAssertions()
    with pytest.raises(ClientRefusedError):
        tried(form({"aud": "https://elsewhere"}), used)

    assert tried(form(), used) is CLIENT


def test_two_clients_may_use_the_same_jti():
    """It is unique for each issuer of assertions, not for all."""
    used = UsedAssertions()

    assert used.use("a", "1", expires_at=NOW + 60, now=NOW)
    assert used.use("b", "1", expires_at=NOW + 60, now=NOW)
    assert not used.use("b", "1", expires_at=NOW + 60, now=NOW)


def test_used_assertions_are_forgotten_when_they_have_expired():
    """Memory is bounded by what could still be replayed."""
    used = UsedAssertions()
    for number in range(TIDIED_AT):
        used.use("a", str(number), expires_at=NOW + 1, now=NOW)

    assert used.use("a", "new", expires_at=NOW + 60, now=NOW + 2)

    assert len(used._until) == 1


def test_used_assertions_are_remembered_however_many_there_are():
    """Tidying up does not let a replay through."""
    used = UsedAssertions()
    for number in range(2 * TIDIED_AT + 2):
        used.use("a", str(number), expires_at=NOW + 60, now=NOW)

    assert not used.use("a", "0", expires_at=NOW + 60, now=NOW + 59)


@pytest.mark.parametrize("token", [None, "", "nonsense", "a.b.c"])
def test_the_log_says_nothing_of_what_is_no_assertion(token: str | None):
    """Not even that somebody tried."""
    assert unverified_assertion(token, CLIENTS) == Assertion()


def test_the_log_shows_harmless_values_only():
    """Client, jti and alg of an assertion; a jti with a line break is not written down."""
    good = unverified_assertion(form()["client_assertion"], CLIENTS)
    bad = unverified_assertion(form({"jti": "a\nb", "sub": "mallory"})["client_assertion"], CLIENTS)

    assert good == Assertion(client_id="app", jti="1", alg="ES256")
    assert bad == Assertion(client_id=None, jti=None, alg="ES256")


def test_a_public_client_only_says_who_it_is():
    """RFC 6749 section 3.2.1; nobody else may."""
    public = RegisteredClient(client_id="public", keys=(), scope=("a",), resources=("https://api",), public=True)
    clients = {"app": CLIENT, "public": public}

    named = authenticate({"client_id": "public"}, clients, UsedAssertions(), issuer=ISSUER, now=NOW)

    assert named is public
    for fields in ({"client_id": "app"}, {"client_id": "public", "client_assertion": "x"}, {}):
        with pytest.raises(ClientRefusedError):
            authenticate(fields, clients, UsedAssertions(), issuer=ISSUER, now=NOW)
