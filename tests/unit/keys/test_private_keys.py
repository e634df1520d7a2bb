"""private_keys: every usual form of PEM, and only keys that FAPI allows."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from broker.errors import LocalError
from broker.keys.private_keys import PrivateKey, parse_pem, read_passphrase, require_supported, same_key
from tests.unit.keys.certificates import (
    P256_OID,
    UNKNOWN_CURVE_OID,
    client,
    key_pem,
    p256,
    rsa_key,
    weak_rsa_key,
    written,
)
from tests.unit.keys.refusals import refused

PATH = Path("/etc/broker/key.pem")
PASSPHRASE = b"canary-4711"


def passphrase_file(directory: Path, content: bytes = PASSPHRASE + b"\n") -> Path:
    return written(directory / "passphrase", content)


SUPPORTED = [
    pytest.param(rsa_key, PrivateFormat.PKCS8, id="RSA PKCS#8"),
    pytest.param(rsa_key, PrivateFormat.TraditionalOpenSSL, id="RSA PKCS#1"),
    pytest.param(p256, PrivateFormat.PKCS8, id="P-256 PKCS#8"),
    pytest.param(p256, PrivateFormat.TraditionalOpenSSL, id="P-256 SEC1"),
    pytest.param(lambda: ec.generate_private_key(ec.SECP384R1()), PrivateFormat.PKCS8, id="P-384 PKCS#8"),
    pytest.param(ed25519.Ed25519PrivateKey.generate, PrivateFormat.PKCS8, id="Ed25519 PKCS#8"),
]


@pytest.mark.parametrize(("make", "form"), SUPPORTED)
def test_a_plain_key_is_read_in_every_usual_form(make: Callable[[], PrivateKey], form: PrivateFormat) -> None:
    """What openssl has ever written."""
    key = make()

    parsed = parse_pem(key_pem(key, form=form), PATH, None)

    assert same_key(parsed.public_key(), key.public_key())


@pytest.mark.parametrize(("make", "form"), SUPPORTED)
def test_an_encrypted_key_is_opened_by_its_passphrase(
    tmp_path: Path, make: Callable[[], PrivateKey], form: PrivateFormat
) -> None:
    """The newline that editors and echo append is not part of it."""
    key = make()

    parsed = parse_pem(key_pem(key, PASSPHRASE, form), PATH, passphrase_file(tmp_path))

    assert same_key(parsed.public_key(), key.public_key())


def test_a_key_is_found_beside_certificates_and_parameters() -> None:
    """Combined files, and what ``openssl ecparam -genkey`` writes."""
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    pair = client()

    parsed = parse_pem(parameters + pair.cert_pem() + pair.key_pem() + pair.cert_pem(), PATH, None)

    assert same_key(parsed.public_key(), pair.key.public_key())


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"no PEM at all",
        client().cert_pem(),
        p256().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        key_pem(p256())[:-20],
        key_pem(p256()) + key_pem(p256()),
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n",
    ],
    ids=["empty", "text", "certificate", "public key", "cut off", "two keys", "parameters"],
)
def test_a_file_without_exactly_one_private_key_is_refused(pem: bytes) -> None:
    """Which of two would be used is not for us to guess."""
    with refused("key_unreadable", PATH):
        parse_pem(pem, PATH, None)


def test_a_damaged_key_is_refused() -> None:
    """Whole in its frame, but not inside."""
    lines = key_pem(p256()).splitlines(keepends=True)

    with refused("key_unreadable", PATH):
        parse_pem(b"".join([lines[0], *lines[2:]]), PATH, None)


def test_a_key_of_openssh_is_refused() -> None:
    """It has a frame of its own, which the hint does not list."""
    pem = p256().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())

    with refused("key_unreadable", PATH):
        parse_pem(pem, PATH, None)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_without_a_passphrase_is_refused(form: PrivateFormat) -> None:
    """Nobody is asked on a terminal."""
    with refused("key_encrypted", PATH):
        parse_pem(key_pem(rsa_key(), PASSPHRASE, form), PATH, None)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_wrong_passphrase_is_refused_and_not_quoted(tmp_path: Path, form: PrivateFormat) -> None:
    """Neither the one that was given nor anything of the key."""
    pem = key_pem(rsa_key(), b"another", form)

    with refused("passphrase_wrong", PATH) as caught:
        parse_pem(pem, PATH, passphrase_file(tmp_path))

    assert "canary" not in f"{caught.value!r}{caught.value.hint}"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_passphrase_for_a_plain_key_is_refused(tmp_path: Path) -> None:
    """The operator believes that the key on the disk is encrypted; it is not."""
    with refused("key_not_encrypted", PATH):
        parse_pem(key_pem(p256()), PATH, passphrase_file(tmp_path))


@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        (b"word", "word"),
        (b"word\n", "word"),
        (b"word\r\n", "word"),
        (b" word \n", " word "),
        (b"word\n\n", "word\n"),
        ("Schlüssel\n".encode(), "Schlüssel"),
    ],
)
def test_one_newline_is_cut_off_a_passphrase_and_nothing_else(tmp_path: Path, content: bytes, passphrase: str) -> None:
    """Spaces may be meant."""
    assert read_passphrase(passphrase_file(tmp_path, content)).reveal() == passphrase


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\xff\xfe\n"], ids=["empty", "newline", "crlf", "not UTF-8"])
def test_a_file_without_a_passphrase_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty one is a mistake of whatever wrote the file."""
    path = passphrase_file(tmp_path, content)

    with refused("passphrase_unreadable", path):
        read_passphrase(path)


def test_a_passphrase_is_as_private_as_a_key(tmp_path: Path) -> None:
    """The same rules of files."""
    path = written(tmp_path / "passphrase", PASSPHRASE, 0o644)

    with refused("file_permissions", path):
        read_passphrase(path)


def test_a_short_rsa_key_is_refused() -> None:
    """With its length, and what is needed."""
    with refused("key_too_weak", PATH) as caught:
        parse_pem(key_pem(weak_rsa_key()), PATH, None)

    assert "1024 bits" in caught.value.message
    assert "2048" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate(),
        x25519.X25519PrivateKey.generate(),
    ],
    ids=["P-521", "secp256k1", "Ed448", "X25519"],
)
def test_a_key_of_another_type_is_refused(key: PrivateKey) -> None:
    """And the hint lists those that are not."""
    with refused("key_unsupported", PATH) as caught:
        parse_pem(key_pem(key), PATH, None)

    assert "P-256" in (caught.value.hint or "")


def test_a_key_on_a_curve_that_nobody_knows_is_refused() -> None:
    """As one on a curve that is known and not allowed."""
    der = p256().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()).replace(P256_OID, UNKNOWN_CURVE_OID)
    pem = ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "PRIVATE KEY").encode()

    with refused("key_unsupported", PATH):
        parse_pem(pem, PATH, None)


def test_what_is_no_private_key_is_not_supported() -> None:
    """A public key in its place, above all."""
    with pytest.raises(LocalError, match="not supported"):
        require_supported(p256().public_key(), PATH)


def test_keys_are_compared_by_value() -> None:
    """Two readings of one key are the same; anything else is not."""
    key, other = p256(), p256()
    again = parse_pem(key_pem(key), PATH, None)

    assert same_key(key.public_key(), again.public_key())
    assert not same_key(key.public_key(), other.public_key())
    assert not same_key(key.public_key(), rsa_key().public_key())
    assert not same_key(None, None)
