"""jwk: one private key as JSON, and everything that makes it another thing than it says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import OctKey

from broker.keys.jwk import Jwk, parse_jwk
from broker.keys.private_keys import PrivateKey, same_key
from tests.unit.keys.certificates import DAY, NOW, client, issue, p256, rsa_key
from tests.unit.keys.jwks import Members, jwk, without
from tests.unit.keys.refusals import refused

PATH = Path("/etc/broker/key.jwk")
P256 = p256()
ED25519 = ed25519.Ed25519PrivateKey.generate()


def parse(members: Any) -> Jwk:
    return parse_jwk(json.dumps(members).encode(), PATH)


def x5c(*pairs: Any) -> list[str]:
    return [base64.b64encode(pair.certificate.public_bytes(Encoding.DER)).decode() for pair in pairs]


@pytest.mark.parametrize("key", [P256, ED25519, rsa_key()], ids=["EC", "OKP", "RSA"])
def test_a_private_key_of_each_kind_is_read(key: PrivateKey) -> None:
    """RFC 7518 section 6, RFC 8037 section 2."""
    parsed = parse(jwk(key, kid="a", alg="ES256", use="sig", key_ops=["sign"]))

    assert same_key(parsed.key.public_key(), key.public_key())
    assert (parsed.kid, parsed.alg, parsed.not_after) == ("a", "ES256", None)


def test_a_bare_key_says_nothing_of_itself() -> None:
    """kid and alg are optional."""
    parsed = parse(jwk(P256))

    assert (parsed.kid, parsed.alg) == (None, None)


def test_an_rsa_key_without_its_primes_is_read() -> None:
    """RFC 7518 section 6.3.2: they may be left out together."""
    parsed = parse(without(jwk(rsa_key()), "p", "q", "dp", "dq", "qi"))

    assert same_key(parsed.key.public_key(), rsa_key().public_key())


def test_members_that_nobody_knows_are_passed_over() -> None:
    """RFC 7517 section 4."""
    assert parse(jwk(P256, iat=1, **{"x-vendor": {}})).kid is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"kty": "EC", "kty": "RSA", "d": ""}',
        b'{"keys": [{"kty": "EC"}]}',
    ],
    ids=["empty", "cut off", "array", "string", "not UTF-8", "member twice", "set"],
)
def test_what_is_not_one_key_is_refused(text: bytes) -> None:
    """Above all a JWKS: which of its keys is meant?"""
    with refused("key_unreadable", PATH):
        parse_jwk(text, PATH)


@pytest.mark.parametrize(
    "members",
    [
        without(jwk(P256), "d"),
        without(jwk(P256), "x"),
        without(jwk(P256), "crv"),
        without(jwk(ED25519), "x"),
        without(jwk(rsa_key()), "n"),
        without(jwk(rsa_key()), "e"),
        jwk(P256, d=17),
        jwk(P256, d=None),
        jwk(P256, d="!!!"),
        jwk(P256, crv="P-255"),
        jwk(ED25519, crv="Ed25520"),
        jwk(ED25519, d="AA"),
        jwk(rsa_key(), d="AQAB"),
        jwk(rsa_key(), oth=[]),
        jwk(P256, kid=7),
        jwk(P256, kid=""),
        jwk(P256, alg=["ES256"]),
        jwk(P256, kty=5),
    ],
    ids=[
        "EC without d",
        "EC without x",
        "EC without crv",
        "OKP without x",
        "RSA without n",
        "RSA without e",
        "d a number",
        "d null",
        "d not base64url",
        "unknown EC curve",
        "unknown OKP curve",
        "d too short",
        "d of another key",
        "more primes",
        "kid a number",
        "kid empty",
        "alg an array",
        "kty a number",
    ],
)
def test_a_key_with_a_missing_or_damaged_member_is_refused(members: Members) -> None:
    """Each is an exception of another library in its own way; here it is one refusal."""
    with refused("key_unreadable", PATH):
        parse(members)


@pytest.mark.parametrize(
    "members",
    [
        {**jwk(P256), "d": jwk(p256())["d"]},
        {**jwk(ED25519), "d": jwk(ed25519.Ed25519PrivateKey.generate())["d"]},
        {**jwk(rsa_key()), "d": jwk(rsa_key(2056))["d"]},
        {**jwk(rsa_key()), "n": jwk(rsa_key(2056))["n"]},
        {**without(jwk(rsa_key()), "p", "q", "dp", "dq", "qi"), "n": jwk(rsa_key(2056))["n"]},
    ],
    ids=["EC", "OKP", "RSA d", "RSA n", "RSA n without primes"],
)
def test_public_and_private_part_must_belong_together(members: Members) -> None:
    """Else we would publish a key that checks none of our signatures."""
    with refused("key_unreadable", PATH):
        parse(members)


@pytest.mark.parametrize(
    "members",
    [
        {**OctKey.generate_key().as_dict(private=True), "d": "AA"},
        {"kty": "AKP", "d": "AA"},
        {"d": "AA"},
        jwk(ec.generate_private_key(ec.SECP521R1())),
        jwk(ed448.Ed448PrivateKey.generate()),
    ],
    ids=["oct", "unknown", "no kty", "P-521", "Ed448"],
)
def test_a_key_of_another_kind_is_refused(members: Members) -> None:
    """A shared secret above all."""
    with refused("key_unsupported", PATH):
        parse(members)


def test_a_short_rsa_key_is_refused() -> None:
    """With no warning of a library on the way."""
    with refused("key_too_weak", PATH):
        parse(jwk_of_1024_bits())


def jwk_of_1024_bits() -> Members:
    with pytest.warns(UserWarning, match="2048"):
        return jwk(rsa_key(1024))


@pytest.mark.parametrize(
    "purpose",
    [{"use": "enc"}, {"use": None}, {"use": 1}, {"key_ops": ["verify"]}, {"key_ops": []}, {"key_ops": "sign"}],
    ids=str,
)
def test_a_key_for_another_purpose_is_refused(purpose: Members) -> None:
    """RFC 7517 sections 4.2 and 4.3."""
    with refused("key_usage", PATH):
        parse(jwk(P256, **purpose))


def test_a_certificate_with_the_key_sets_its_end() -> None:
    """The leaf comes first (RFC 7517 section 4.7)."""
    pair = issue(key=P256, end=NOW + 9 * DAY)

    assert parse(jwk(P256, x5c=x5c(pair, client()))).not_after == (NOW + 9 * DAY).timestamp()


def test_a_certificate_of_another_key_is_refused() -> None:
    """Its dates would say nothing of ours."""
    with refused("certificate_mismatch", PATH):
        parse(jwk(P256, x5c=x5c(client())))


@pytest.mark.parametrize("value", [[], "text", 5, {}, [5], ["!"], ["AAAA"], False])
def test_a_certificate_that_cannot_be_read_is_refused(value: Any) -> None:
    """Whatever stands in its place."""
    with refused("key_unreadable", PATH):
        parse(jwk(P256, x5c=value))


def test_no_refusal_quotes_the_key() -> None:
    """Nor keeps a foreign exception that might."""
    secret = jwk(P256)["d"]

    with refused("key_unreadable") as caught:
        parse(jwk(P256, x=17))

    assert secret not in f"{caught.value!r}{caught.value.hint}"
    assert caught.value.__cause__ is None


def test_a_parsed_key_does_not_print_its_key() -> None:
    """It is on its way to a signer."""
    assert "PrivateKey" not in repr(parse(jwk(P256)))
