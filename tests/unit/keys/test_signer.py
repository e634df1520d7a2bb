"""signer: signatures that others can check, with exactly the header that was asked for."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import ECKey

from broker.errors import LocalError
from broker.keys.signer import ALGORITHMS, SigningKey, load_signing_key
from tests.unit.keys.certificates import DAY, NOW, issue, key_pem, p256, rsa_key, weak_rsa_key, written
from tests.unit.keys.jwks import Members, jwk
from tests.unit.keys.refusals import refused

KEYS: dict[str, Any] = {
    "PS256": rsa_key(),
    "RS256": rsa_key(),
    "ES256": p256(),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
CLAIMS = {"iss": "client", "aud": "https://as.example", "exp": 1_790_000_000, "name": "Zoë"}

EVERY_ALGORITHM = pytest.mark.parametrize("alg", ALGORITHMS)
pytestmark = pytest.mark.real_time  # RSA signs in a thread


@contextmanager
def loaded(directory: Path, alg: str, content: bytes | None = None, **more: Any) -> Iterator[SigningKey]:
    """Load a key from a file with this *content* (default: the PEM of the usual one), and close it again."""
    file = written(directory / "signing.key", content or key_pem(KEYS[alg]))
    key = load_signing_key(name="signing", file=file, alg=alg, **more)
    try:
        yield key
    finally:
        key.close()


def as_json(members: Members) -> bytes:
    return json.dumps(members).encode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def header_of(token: str) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(decoded(token.split(".", maxsplit=1)[0]))
    return header


def verify(token: str, alg: str) -> None:
    """Check a signature without the library that made it. Raises InvalidSignature."""
    signed, _, encoded = token.rpartition(".")
    signature, public = decoded(encoded), KEYS[alg].public_key()
    match alg:
        case "PS256":
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)  # RFC 7518 section 3.5
            public.verify(signature, signed.encode(), pss, hashes.SHA256())
        case "RS256":
            public.verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        case "ES256":
            assert len(signature) == 64  # RFC 7518 section 3.4
            pair = (int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
            public.verify(encode_dss_signature(*pair), signed.encode(), ec.ECDSA(hashes.SHA256()))
        case _:
            public.verify(signature, signed.encode())


@EVERY_ALGORITHM
async def test_a_signature_is_one_that_others_can_check(tmp_path: Path, alg: str) -> None:
    """Over exactly these claims."""
    with loaded(tmp_path, alg) as key:
        token = await key.sign(None, CLAIMS)

    verify(token, alg)
    assert json.loads(decoded(token.split(".")[1])) == CLAIMS


@EVERY_ALGORITHM
async def test_a_changed_claim_breaks_the_signature(tmp_path: Path, alg: str) -> None:
    """So the test above can fail."""
    with loaded(tmp_path, alg) as key:
        header, payload, signature = (await key.sign(None, CLAIMS)).split(".")

    with pytest.raises(InvalidSignature):
        verify(f"{header}.{payload[:-4]}AAAA.{signature}", alg)


@EVERY_ALGORITHM
async def test_the_header_has_alg_and_kid_and_a_typ_only_if_asked_for(tmp_path: Path, alg: str) -> None:
    """The library would put typ JWT into each."""
    with loaded(tmp_path, alg, kid="k1") as key:
        plain = await key.sign(None, CLAIMS)
        typed = await key.sign("client-authentication+jwt", CLAIMS)

    assert header_of(plain) == {"alg": alg, "kid": "k1"}
    assert header_of(typed) == {"alg": alg, "kid": "k1", "typ": "client-authentication+jwt"}
    assert (key.name, key.alg) == ("signing", alg)


async def test_without_a_kid_the_thumbprint_stands_in(tmp_path: Path) -> None:
    """RFC 7638: everybody who knows the public key can work it out."""
    with loaded(tmp_path, "ES256") as key:
        token = await key.sign(None, CLAIMS)

    assert header_of(token)["kid"] == key.kid == ECKey.import_key(KEYS["ES256"].public_key()).thumbprint()


async def test_an_empty_kid_leaves_it_out(tmp_path: Path) -> None:
    """For servers that know one key and take fright at an unknown id."""
    with loaded(tmp_path, "ES256", kid="") as key:
        token = await key.sign(None, CLAIMS)

    assert header_of(token) == {"alg": "ES256"}
    assert key.kid is None
    assert "kid" not in key.public_jwk()


@pytest.mark.parametrize(
    ("own", "configured", "used"),
    [("own", None, "own"), ("own", "own", "own"), ("own", "", None), (None, "configured", "configured")],
)
def test_the_kid_of_a_jwk_is_respected(
    tmp_path: Path, own: str | None, configured: str | None, used: str | None
) -> None:
    """Unless the configuration says that there shall be none."""
    members = jwk(KEYS["ES256"], **({"kid": own} if own else {}))

    with loaded(tmp_path, "ES256", as_json(members), kid=configured) as key:
        assert key.kid == used


def test_another_kid_than_the_jwks_is_refused(tmp_path: Path) -> None:
    """One of the two is a mistake, and the server knows only one of them."""
    members = jwk(KEYS["ES256"], kid="own")

    with refused("key_id", tmp_path / "signing.key"), loaded(tmp_path, "ES256", as_json(members), kid="other"):
        pass


@EVERY_ALGORITHM
async def test_a_jwk_signs_as_its_pem_does(tmp_path: Path, alg: str) -> None:
    """The same key in another dress, here with white space before it."""
    with loaded(tmp_path, alg, b"\n " + as_json(jwk(KEYS[alg], alg=alg))) as key:
        token = await key.sign(None, CLAIMS)

    verify(token, alg)


async def test_a_jwk_for_ed25519_signs_as_eddsa(tmp_path: Path) -> None:
    """RFC 9864 gave the pair a name of its own; the configured one is in the header."""
    with loaded(tmp_path, "EdDSA", as_json(jwk(KEYS["EdDSA"], alg="Ed25519"))) as key:
        token = await key.sign(None, CLAIMS)

    assert header_of(token)["alg"] == "EdDSA"


@pytest.mark.parametrize(("own", "configured"), [("PS256", "RS256"), ("RS256", "PS256"), ("PS512", "PS256")])
def test_a_jwk_for_another_algorithm_is_refused(tmp_path: Path, own: str, configured: str) -> None:
    """RFC 8725 section 3.1: one key, one algorithm."""
    content = as_json(jwk(KEYS["PS256"], alg=own))

    with refused("key_algorithm", tmp_path / "signing.key"), loaded(tmp_path, configured, content):
        pass


P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize(
    ("alg", "key", "hint"),
    [
        ("ES256", KEYS["PS256"], "PS256 or RS256"),
        ("EdDSA", KEYS["PS256"], "PS256 or RS256"),
        ("PS256", KEYS["ES256"], "ES256"),
        ("EdDSA", KEYS["ES256"], "ES256"),
        ("ES256", KEYS["EdDSA"], "EdDSA"),
        ("RS256", KEYS["EdDSA"], "EdDSA"),
        ("ES256", P384, "P-256"),
    ],
)
def test_a_key_that_does_not_fit_the_algorithm_is_refused(tmp_path: Path, alg: str, key: Any, hint: str) -> None:
    """When it is loaded, not when it is needed; and the hint says what it can do."""
    with refused("key_algorithm", tmp_path / "signing.key") as caught, loaded(tmp_path, alg, key_pem(key)):
        pass

    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("alg", ["none", "HS256", "PS512", "ES384", "Ed25519", "", "es256"])
def test_an_algorithm_that_is_not_ours_is_refused(tmp_path: Path, alg: str) -> None:
    """The configuration refuses it before; this is the second door."""
    with refused("key_algorithm"), loaded(tmp_path, alg, key_pem(KEYS["ES256"])):
        pass


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    """FAPI 2.0 section 5.4.1."""
    with refused("key_too_weak"), loaded(tmp_path, "PS256", key_pem(weak_rsa_key())):
        pass


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The rules of files apply."""
    file = written(tmp_path / "signing.key", key_pem(KEYS["ES256"]), 0o644)

    with refused("file_permissions", file):
        load_signing_key(name="signing", file=file, alg="ES256")


async def test_an_encrypted_key_is_opened_by_its_passphrase(tmp_path: Path) -> None:
    """From a file."""
    passphrase = written(tmp_path / "passphrase", b"word\n")

    with loaded(tmp_path, "ES256", key_pem(KEYS["ES256"], b"word"), passphrase_file=passphrase) as key:
        verify(await key.sign(None, CLAIMS), "ES256")


def test_a_passphrase_for_a_jwk_is_refused(tmp_path: Path) -> None:
    """A JWK is not encrypted, whatever the operator believes."""
    passphrase = written(tmp_path / "passphrase", b"word\n")
    content = as_json(jwk(KEYS["ES256"]))

    with (
        refused("key_not_encrypted", tmp_path / "signing.key"),
        loaded(tmp_path, "ES256", content, passphrase_file=passphrase),
    ):
        pass


def test_a_key_ends_only_with_its_certificate(tmp_path: Path) -> None:
    """One that came without never does."""
    pair = issue(key=KEYS["ES256"], end=NOW + 9 * DAY)
    encoded = base64.b64encode(pair.certificate.public_bytes(Encoding.DER)).decode()

    with loaded(tmp_path, "ES256") as bare:
        assert bare.not_after is None
    with loaded(tmp_path, "ES256", as_json(jwk(KEYS["ES256"], x5c=[encoded]))) as certified:
        assert certified.not_after == (NOW + 9 * DAY).timestamp()


@EVERY_ALGORITHM
def test_the_public_jwk_has_public_members_and_no_other(tmp_path: Path, alg: str) -> None:
    """By a list of what may leave, also where the file has more to say."""
    kinds = {"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}
    private = jwk(KEYS[alg], **{"kid": "k1", "x-internal": "canary-4711"})

    with loaded(tmp_path, alg, as_json(private)) as key:
        public = key.public_jwk()

    assert public.keys() == {"kty", "use", "alg", "kid"} | kinds[public["kty"]]
    assert {name: public[name] for name in kinds[public["kty"]]} == {
        name: private[name] for name in kinds[public["kty"]]
    }
    assert (public["use"], public["alg"], public["kid"]) == ("sig", alg, "k1")


@pytest.mark.parametrize(
    "claims",
    [{"a": float("nan")}, {"a": float("inf")}, {"a": b"canary-4711"}, {"a": {"canary-4711"}}, {("canary-4711",): 1}],
    ids=["NaN", "infinity", "bytes", "set", "name"],
)
@pytest.mark.parametrize("alg", ["PS256", "ES256"])
async def test_claims_that_are_not_json_are_refused_and_not_quoted(
    tmp_path: Path, alg: str, claims: Mapping[str, Any]
) -> None:
    """Nor is the exception kept that quotes them."""
    with loaded(tmp_path, alg) as key, refused("signing_failed") as caught:
        await key.sign(None, claims)

    assert "canary" not in f"{caught.value!r}{caught.value.hint}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


async def test_a_key_that_does_not_fit_fails_as_ours(tmp_path: Path) -> None:
    """Loading refuses it; should one get here all the same, no foreign exception leaves."""
    key = SigningKey(name="signing", alg="ES256", kid=None, not_after=None, key=KEYS["EdDSA"])

    with refused("signing_failed") as caught:
        await key.sign(None, CLAIMS)

    assert caught.value.__cause__ is None
    assert "signing" in caught.value.message


@EVERY_ALGORITHM
async def test_a_closed_key_signs_no_more(tmp_path: Path, alg: str) -> None:
    """It says so, instead of failing in a thread pool."""
    with loaded(tmp_path, alg) as key:
        key.close()

        with refused("signing_failed"):
            await key.sign(None, CLAIMS)


def signing_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("sign-signing")]


async def test_rsa_signs_in_one_thread_of_its_own_which_ends_with_the_key(tmp_path: Path) -> None:
    """A millisecond of arithmetic would hold up every caller of the daemon."""
    with loaded(tmp_path, "PS256") as key:
        before = signing_threads()
        tokens = await asyncio.gather(*(key.sign(None, {"n": number}) for number in range(5)))
        during = signing_threads()
    for thread in during:
        thread.join(5)

    assert before == []
    assert len(during) == 1
    assert not during[0].is_alive()
    assert [json.loads(decoded(token.split(".")[1]))["n"] for token in tokens] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
async def test_the_others_sign_at_once(tmp_path: Path, alg: str) -> None:
    """A tenth of a millisecond is less than a thread costs."""
    with loaded(tmp_path, alg) as key:
        await key.sign(None, CLAIMS)

        assert signing_threads() == []


async def test_what_is_being_signed_when_the_key_closes_is_finished(tmp_path: Path) -> None:
    """A rotation must not break requests under way."""
    with loaded(tmp_path, "PS256") as key:
        signing = asyncio.gather(*(key.sign(None, CLAIMS) for _ in range(3)))
        await asyncio.sleep(0)
        key.close()
        tokens = await signing

    for token in tokens:
        verify(token, "PS256")


async def test_claims_are_taken_as_they_are_when_asked(tmp_path: Path) -> None:
    """What a caller does to them while a thread signs changes nothing."""
    claims = {"a": 1}
    with loaded(tmp_path, "PS256") as key:
        signing = asyncio.gather(key.sign(None, claims))
        await asyncio.sleep(0)
        claims["a"] = 2
        (token,) = await signing

    assert json.loads(decoded(token.split(".")[1])) == {"a": 1}


@EVERY_ALGORITHM
@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_cannot_be_seen_or_carried_off(tmp_path: Path, alg: str, carry: Callable[[object], object]) -> None:
    """Name, algorithm and kid may be printed; nothing else, and nothing may be stored."""
    with loaded(tmp_path, alg, kid="k1") as key:
        assert repr(key) == str(key) == f"SigningKey(name='signing', alg='{alg}', kid='k1')"
        with pytest.raises(TypeError):
            carry(key)


def test_an_error_says_which_key(tmp_path: Path) -> None:
    """A configuration has several."""
    with pytest.raises(LocalError, match=str(tmp_path)), loaded(tmp_path, "ES256", b"no key"):
        pass


def test_the_certificate_of_a_key_says_when_it_ends(tmp_path: Path) -> None:
    """In a file of its own, with its chain; it has to be for this key, and in time."""
    key, other = p256(), p256()
    right, wrong = issue(key=key, end=NOW + DAY), issue(key=other)
    files = {name: written(tmp_path / name, pair.cert_pem()) for name, pair in (("right", right), ("wrong", wrong))}
    now = NOW.timestamp()

    with loaded(tmp_path, "ES256", key_pem(key), cert_file=files["right"], wall_now=now) as signer:
        ends = signer.not_after

    assert ends == (NOW + DAY).timestamp()
    for cert_file, moment, code in (
        (files["wrong"], now, "certificate_mismatch"),
        (files["right"], now + 2 * DAY.total_seconds(), "certificate_expired"),
        (tmp_path / "none", now, "file_missing"),
    ):
        with refused(code), loaded(tmp_path, "ES256", key_pem(key), cert_file=cert_file, wall_now=moment):
            pass


def test_a_key_is_known_by_its_thumbprint_whatever_its_kid(tmp_path: Path) -> None:
    """Another key under the same kid is another key."""
    with loaded(tmp_path, "ES256", kid="fixed") as one, loaded(tmp_path, "ES256", kid="other") as same:
        assert one.thumbprint == same.thumbprint
    with loaded(tmp_path, "ES256", key_pem(p256()), kid="fixed") as other:
        assert other.thumbprint != one.thumbprint
