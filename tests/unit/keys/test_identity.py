"""identity: a pair is checked whole, then presented exactly as checked, and its key leaves by no route."""

from __future__ import annotations

import base64
import os
import pickle
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.jwk import import_key as jwk_of

from broker.keys.identity import TransportCertificate, load_transport_certificate
from broker.keys.private_keys import PrivateKey
from tests.unit.keys.certificates import (
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    WALL,
    Pair,
    chain_pem,
    client,
    intermediate,
    issue,
    key_pem,
    on_an_unknown_curve,
    p256,
    root,
    rsa_key,
    server,
    written,
)
from tests.unit.keys.handshakes import handshake, server_context
from tests.unit.keys.refusals import refused

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def load(directory: Path, pair: Pair | None = None, *more: Pair, key: bytes | None = None) -> TransportCertificate:
    """Write a pair (the usual client with its intermediate, if none is given) and load it."""
    pair, more = (pair, more) if pair else (client(), (intermediate(),))
    return load_transport_certificate(
        name="transport",
        cert_file=written(directory / "cert.pem", chain_pem(pair, *more), 0o644),
        key_file=written(directory / "key.pem", key or pair.key_pem()),
        generation=3,
        wall_now=WALL,
    )


def ca_file(directory: Path) -> Path:
    return written(directory / "ca.pem", chain_pem(root()), 0o644)


def der(pair: Pair) -> bytes:
    return pair.certificate.public_bytes(Encoding.DER)


def test_what_is_known_of_a_certificate(tmp_path: Path) -> None:
    """All of it from the leaf."""
    loaded = load(tmp_path)

    assert loaded.name == "transport"
    assert loaded.generation == 3
    assert loaded.subject == "CN=client"
    assert loaded.not_before == (NOW - DAY).timestamp()
    assert loaded.not_after == (NOW + DAY).timestamp()
    assert len(loaded.thumbprint) == 43


@VERSIONS
@pytest.mark.parametrize(
    "make",
    [p256, lambda: ec.generate_private_key(ec.SECP384R1()), rsa_key, ed25519.Ed25519PrivateKey.generate],
    ids=["P-256", "P-384", "RSA", "Ed25519"],
)
def test_the_certificate_is_presented_with_its_chain(
    tmp_path: Path, make: Callable[[], PrivateKey], version: ssl.TLSVersion
) -> None:
    """The server knows only the root, so it needs the intermediate from us."""
    pair = issue(by=intermediate(), key=make(), usages=CLIENT_AUTH)
    context = load(tmp_path, pair, intermediate()).client_context(ca_file(tmp_path))

    connection = handshake(context, server_context(tmp_path, server(), mutual=True, version=version))

    assert connection.client_certificate == der(pair)


def test_without_the_intermediate_the_server_refuses(tmp_path: Path) -> None:
    """So the test above proves that it was sent."""
    context = load(tmp_path, client()).client_context(ca_file(tmp_path))

    with pytest.raises(ssl.SSLCertVerificationError, match="local issuer"):
        handshake(context, server_context(tmp_path, server(), mutual=True))


@VERSIONS
def test_a_context_with_a_certificate_verifies_as_strictly_as_one_without(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Our certificate is shown to nobody but the one we mean."""
    context = load(tmp_path).client_context(ca_file(tmp_path))
    wrong_name = issue("server", by=root(), usages=SERVER_AUTH, host="other.example")
    wrong_ca = issue("server", by=issue("root", ca=True), usages=SERVER_AUTH, host="localhost")

    for pair in (wrong_name, wrong_ca):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(context, server_context(tmp_path, pair, mutual=True, version=version))


def test_a_server_may_ask_for_the_certificate_after_the_handshake(tmp_path: Path) -> None:
    """TLS 1.3 has no renegotiation; a server with mutual TLS on some paths only asks this way."""
    context = load(tmp_path).client_context(ca_file(tmp_path))
    there = server_context(tmp_path, server())
    there.load_verify_locations(cadata=chain_pem(root()).decode())
    there.post_handshake_auth = True
    there.verify_mode = ssl.CERT_OPTIONAL
    connection = handshake(context, there)

    connection.server.verify_client_post_handshake()
    connection.server.write(b"!")
    connection.client.read(1)
    connection.client.write(b"?")
    connection.server.read(1)

    assert connection.client_certificate == der(client())


def test_an_encrypted_key_is_loaded_with_its_passphrase(tmp_path: Path) -> None:
    """And presented without asking again."""
    loaded = load_transport_certificate(
        name="transport",
        cert_file=written(tmp_path / "cert.pem", chain_pem(client(), intermediate()), 0o644),
        key_file=written(tmp_path / "key.pem", client().key_pem(b"word")),
        passphrase_file=written(tmp_path / "passphrase", b"word\n"),
        generation=1,
        wall_now=WALL,
    )
    context = loaded.client_context(ca_file(tmp_path))

    connection = handshake(context, server_context(tmp_path, server(), mutual=True))

    assert connection.client_certificate == der(client())


def test_certificate_and_key_may_share_a_file(tmp_path: Path) -> None:
    """As some certificate agents write them."""
    both = written(tmp_path / "both.pem", chain_pem(client(), intermediate()) + client().key_pem())

    loaded = load_transport_certificate(name="a", cert_file=both, key_file=both, generation=1, wall_now=WALL)

    assert loaded.subject == "CN=client"


def test_what_was_checked_is_presented_whatever_becomes_of_the_files(tmp_path: Path) -> None:
    """A context that is made later holds the same pair, not that of the files by then."""
    loaded = load(tmp_path)
    (tmp_path / "cert.pem").write_bytes(b"half a cert")
    (tmp_path / "key.pem").unlink()

    connection = handshake(loaded.client_context(ca_file(tmp_path)), server_context(tmp_path, server(), mutual=True))

    assert connection.client_certificate == der(client())


def test_nothing_is_left_open_and_nothing_written(tmp_path: Path) -> None:
    """The file in memory is gone with the call; there never was one on a disk."""
    loaded = load(tmp_path)
    authorities = ca_file(tmp_path)
    files = sorted(tmp_path.iterdir())
    open_before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone, and the same way twice

    loaded.client_context(authorities)

    assert sorted(tmp_path.iterdir()) == files
    assert sorted(os.listdir("/proc/self/fd")) == open_before  # noqa: PTH208 - as above


def test_every_context_is_a_new_one(tmp_path: Path) -> None:
    """None is ever changed once it is in use."""
    loaded = load(tmp_path)

    assert loaded.client_context(ca_file(tmp_path)) is not loaded.client_context(ca_file(tmp_path))


def test_a_key_of_another_certificate_is_refused_with_both_paths(tmp_path: Path) -> None:
    """Files that are replaced one after the other look like this for a moment."""
    with refused("certificate_mismatch", tmp_path / "cert.pem", tmp_path / "key.pem"):
        load(tmp_path, client(), key=key_pem(p256()))


def test_a_key_of_another_type_is_refused(tmp_path: Path) -> None:
    """An RSA key cannot belong to a P-256 certificate."""
    with refused("certificate_mismatch", tmp_path / "cert.pem", tmp_path / "key.pem"):
        load(tmp_path, client(), key=key_pem(rsa_key()))


def test_a_certificate_on_an_unknown_curve_does_not_match(tmp_path: Path) -> None:
    """No key of ours can belong to it."""
    strange = Pair(on_an_unknown_curve(client()), client().key)

    with refused("certificate_mismatch"):
        load(tmp_path, strange)


def test_a_key_of_a_later_certificate_is_told_from_a_foreign_one(tmp_path: Path) -> None:
    """A bundle that begins with something else needs only another order."""
    own_ca = issue("own", ca=True)
    leaf = issue("leaf", by=own_ca)

    with refused("certificate_mismatch") as caught:
        load(tmp_path, leaf, own_ca, key=own_ca.key_pem())

    assert "first" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("pair", "code"),
    [
        (issue(start=NOW - 3 * DAY, end=NOW - DAY), "certificate_expired"),
        (issue(start=NOW + DAY, end=NOW + 3 * DAY), "certificate_not_yet_valid"),
        (issue(usages=SERVER_AUTH), "certificate_usage"),
        (issue(usages=CLIENT_AUTH, signs=False), "certificate_usage"),
    ],
    ids=["expired", "too early", "server's", "no signatures"],
)
def test_a_pair_that_a_server_would_refuse_is_refused(tmp_path: Path, pair: Pair, code: str) -> None:
    """Each check of ``certificates`` is made."""
    with refused(code, tmp_path / "cert.pem"):
        load(tmp_path, pair)


def test_a_broken_chain_is_refused(tmp_path: Path) -> None:
    """The intermediate of somebody else."""
    with refused("certificate_chain", tmp_path / "cert.pem"):
        load(tmp_path, client(), root())


def test_an_encrypted_key_is_not_asked_for_on_a_terminal(tmp_path: Path) -> None:
    """OpenSSL's habit."""
    with refused("key_encrypted", tmp_path / "key.pem"):
        load(tmp_path, client(), key=client().key_pem(b"word"))


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """The rules of files apply."""
    cert_file = written(tmp_path / "cert.pem", client().cert_pem(), 0o644)
    key_file = written(tmp_path / "key.pem", client().key_pem(), 0o644)

    with refused("file_permissions", key_file):
        load_transport_certificate(name="a", cert_file=cert_file, key_file=key_file, generation=1, wall_now=WALL)


def test_the_key_cannot_be_seen_or_carried_off(tmp_path: Path) -> None:
    """Not by printing the value, nor by storing it."""
    loaded = load(tmp_path)

    shown = f"{loaded!r} {loaded}"

    assert "PrivateKey" not in shown
    assert "_pair" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(loaded)


def test_generations_of_one_certificate_differ(tmp_path: Path) -> None:
    """They are compared by what is known of them."""
    loaded = load(tmp_path)

    assert loaded == replace(loaded)
    assert loaded != replace(loaded, generation=4)


def test_the_public_jwk_is_the_certificate_with_its_chain_and_nothing_private(tmp_path: Path):
    """As RFC 8705 section 2.2.2 has it: the first of x5c is the certificate of the very key that is beside it."""
    pair, above = client(), intermediate()

    jwk = load(tmp_path, pair, above).public_jwk()

    assert [base64.b64decode(one) for one in jwk["x5c"]] == [der(pair), der(above)]
    assert set(jwk) <= {"kty", "crv", "x", "y", "n", "e", "kid", "x5c", "x5t#S256"}
    assert jwk["x5t#S256"] == load(tmp_path, pair, above).thumbprint
    key = jwk_of({name: jwk[name] for name in jwk if not name.startswith("x5")})
    assert key.thumbprint() == jwk["kid"]
    assert key.raw_value == pair.certificate.public_key()
