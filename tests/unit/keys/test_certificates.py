"""certificates: what a server would refuse without a word is refused here with one."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from broker.keys.certificates import (
    check_dates,
    check_usage,
    not_after,
    not_before,
    public_key_of,
    read_chain,
    subject_of,
    thumbprint,
)
from broker.keys.private_keys import same_key
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
    on_an_unknown_curve,
    p256,
    root,
    rsa_key,
    server,
    written,
)
from tests.unit.keys.refusals import refused

PATH = Path("/etc/broker/cert.pem")


def read(directory: Path, *pairs: Pair) -> int:
    return len(read_chain(written(directory / "cert.pem", chain_pem(*pairs), 0o644)))


def test_a_chain_is_read_in_its_order(tmp_path: Path) -> None:
    """With or without intermediates and root."""
    assert read(tmp_path, client()) == 1
    assert read(tmp_path, client(), intermediate()) == 2
    assert read(tmp_path, client(), intermediate(), root()) == 3


@pytest.mark.parametrize(
    "pairs",
    [
        (intermediate(), client()),
        (client(), root()),
        (client(), root(), intermediate()),
        (client(), client()),
        (client(), intermediate(), issue("root", ca=True)),
    ],
    ids=["leaf last", "gap", "wrong order", "twice", "another root of that name"],
)
def test_certificates_that_are_no_chain_are_refused(tmp_path: Path, pairs: tuple[Pair, ...]) -> None:
    """Servers would stop where the chain breaks."""
    with refused("certificate_chain", tmp_path / "cert.pem") as caught:
        read(tmp_path, *pairs)

    assert "first" in (caught.value.hint or "")


def test_text_around_certificates_is_passed_over(tmp_path: Path) -> None:
    """``openssl x509 -text`` writes a page of it, in UTF-8 where names need it."""
    pem = "Überschrift\n".encode() + client().cert_pem() + b"\n# the issuer\n" + intermediate().cert_pem()

    assert len(read_chain(written(tmp_path / "cert.pem", pem, 0o644))) == 2


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "converted"),
        (client().certificate.public_bytes(Encoding.DER), "converted"),
        (client().cert_pem()[:-30], "cut off"),
        (client().cert_pem() + intermediate().cert_pem()[:-30], "cut off"),
        (client().cert_pem().replace(b"MII", b"AAA", 1), "cut off"),
    ],
    ids=["empty", "DER", "cut off", "second cut off", "damaged"],
)
def test_a_file_without_whole_certificates_is_refused(tmp_path: Path, content: bytes, hint: str) -> None:
    """Half a file is what a certificate agent leaves for a moment."""
    path = written(tmp_path / "cert.pem", content, 0o644)

    with refused("certificate_unreadable", path) as caught:
        read_chain(path)

    assert hint in (caught.value.hint or "")


def test_a_key_in_the_place_of_a_certificate_is_told(tmp_path: Path) -> None:
    """The two files are easily swapped."""
    path = written(tmp_path / "cert.pem", client().key_pem(), 0o600)

    with refused("certificate_unreadable", path) as caught:
        read_chain(path)

    assert "swapped" in (caught.value.hint or "")


def test_a_certificate_file_with_a_key_in_it_is_private(tmp_path: Path) -> None:
    """A combined file that all can read gives the key away."""
    pem = client().cert_pem() + client().key_pem()
    written(tmp_path / "open", pem, 0o644)
    written(tmp_path / "closed", pem, 0o600)

    with refused("file_permissions", tmp_path / "open"):
        read_chain(tmp_path / "open")

    assert len(read_chain(tmp_path / "closed")) == 1


def test_a_certificate_must_be_in_time() -> None:
    """Its last second does not count: a handshake takes time."""
    chain = (client().certificate,)
    start, end = not_before(chain[0]), not_after(chain[0])

    check_dates(chain, PATH, wall_now=start)
    check_dates(chain, PATH, wall_now=end - 1)
    with refused("certificate_not_yet_valid", PATH) as early:
        check_dates(chain, PATH, wall_now=start - 1)
    with refused("certificate_expired", PATH) as late:
        check_dates(chain, PATH, wall_now=end)

    assert "clock" in (early.value.hint or "")
    assert (NOW + DAY).isoformat() in late.value.message


def test_an_expired_intermediate_is_refused_by_its_place() -> None:
    """A server that has no newer one finds no way to the root."""
    old = issue("old", by=root(), ca=True, start=NOW - 3 * DAY, end=NOW - DAY)
    leaf = issue(by=old)

    with refused("certificate_expired", PATH) as caught:
        check_dates((leaf.certificate, old.certificate), PATH, wall_now=WALL)

    assert "certificate 2" in caught.value.message


def test_an_expired_root_does_no_harm() -> None:
    """Servers have their own copy and do not look at ours."""
    old = issue("old", ca=True, start=NOW - 3 * DAY, end=NOW - DAY)
    leaf = issue(by=old)

    check_dates((leaf.certificate, old.certificate), PATH, wall_now=WALL)


def test_an_expired_self_signed_certificate_is_refused() -> None:
    """A leaf may be self-signed (RFC 8705 section 2.2), but must be in time like every leaf."""
    old = issue(start=NOW - 3 * DAY, end=NOW - DAY)

    with refused("certificate_expired", PATH):
        check_dates((old.certificate,), PATH, wall_now=WALL)


@pytest.mark.parametrize(
    "pair",
    [
        issue(),
        issue(usages=CLIENT_AUTH),
        issue(usages=(*SERVER_AUTH, *CLIENT_AUTH)),
        issue(usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)),
        issue(signs=True),
    ],
    ids=["nothing said", "client", "both", "any", "signs"],
)
def test_a_certificate_for_clients_is_accepted(pair: Pair) -> None:
    """Extensions that are missing forbid nothing."""
    check_usage(pair.certificate, PATH)


def test_a_certificate_for_servers_only_is_refused() -> None:
    """The most usual mistake: the certificate of the web server."""
    with refused("certificate_usage", PATH) as caught:
        check_usage(server().certificate, PATH)

    assert "clientAuth" in caught.value.message


def test_a_certificate_that_may_not_sign_is_refused() -> None:
    """TLS 1.3 has clients sign, and nothing else."""
    with refused("certificate_usage", PATH) as caught:
        check_usage(issue(usages=CLIENT_AUTH, signs=False).certificate, PATH)

    assert "digitalSignature" in caught.value.message


def test_the_thumbprint_is_that_of_rfc_8705() -> None:
    """Base64url of the SHA-256 of the DER, without padding."""
    digest = hashlib.sha256(client().certificate.public_bytes(Encoding.DER)).digest()

    made = thumbprint(client().certificate)

    assert made == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert len(made) == 43


def test_dates_are_unix_seconds() -> None:
    """Of the certificate's own UTC times."""
    assert not_before(client().certificate) == WALL - DAY.total_seconds()
    assert not_after(client().certificate) == WALL + DAY.total_seconds()


def test_the_subject_is_a_string_of_rfc_4514() -> None:
    """As operators register it (tls_client_auth_subject_dn)."""
    assert subject_of(issue("a+b").certificate) == r"CN=a\+b"


@pytest.mark.parametrize(
    "key", [p256(), rsa_key(), ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())]
)
def test_the_public_key_comes_out_of_a_certificate(key: ec.EllipticCurvePrivateKey) -> None:
    """Whatever its type: to be compared with the private one."""
    assert same_key(public_key_of(issue(key=key).certificate), key.public_key())


def test_a_public_key_that_cannot_be_ours_is_none() -> None:
    """A curve that no key of ours is on; certificates above the leaf may have any."""
    assert public_key_of(on_an_unknown_curve(client())) is None


def test_damaged_extensions_are_refused() -> None:
    """What they would have forbidden is unknown."""
    damaged = issue(extra=x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"?"))

    with refused("certificate_unreadable", PATH):
        check_usage(damaged.certificate, PATH)
