from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.errors import LocalError
from broker.keys.making import certificate_request, key_pem, new_key, public_jwk
from broker.keys.private_keys import parse_pem, same_key
from broker.keys.signer import load_signing_key
from tests.unit.keys.certificates import rsa_key, written

RAIDIAM = (
    "UID=67c57882-043b-11ec-9a03-0242ac130003,CN=app.bank.example,organizationIdentifier=OFBBR-d7384bd0,"
    "businessCategory=Private Organization,serialNumber=00000000000191,jurisdictionCountryName=BR,O=Bank\\, Ltd,C=BR"
)


def requested(
    subject: str = "CN=app", *, use: str = "transport", names: tuple[str, ...] = ()
) -> x509.CertificateSigningRequest:
    request = x509.load_pem_x509_csr(certificate_request(new_key("ES256"), subject=subject, names=names, use=use))
    assert request.is_signature_valid
    return request


@pytest.mark.parametrize(
    ("alg", "kind"),
    [("PS256", rsa.RSAPrivateKey), ("ES256", ec.EllipticCurvePrivateKey), ("EdDSA", ed25519.Ed25519PrivateKey)],
)
def test_a_new_key_is_one_that_the_broker_signs_with(tmp_path: Path, alg: str, kind: type):
    """It is read back under the rules for keys, and published as it was printed."""
    key = new_key(alg)
    path = written(tmp_path / "new.key", key_pem(key))
    loaded = load_signing_key(name="k", file=path, alg=alg)

    assert isinstance(key, kind)
    assert same_key(parse_pem(path.read_bytes(), path, None).public_key(), key.public_key())
    assert loaded.public_jwk() == public_jwk(key, alg)
    assert "d" not in public_jwk(key, alg)


def test_no_key_is_made_for_an_algorithm_that_is_none():
    """RS256 is for keys that there are already."""
    with pytest.raises(ValueError, match="PS256, ES256 or EdDSA"):
        new_key("RS256")


def test_a_subject_has_what_directories_ask_for():
    """In the order in which certificates have it: the country first."""
    subject = requested(RAIDIAM).subject

    assert [(one.oid.dotted_string, one.value) for one in subject] == [
        ("2.5.4.6", "BR"),
        ("2.5.4.10", "Bank, Ltd"),
        ("1.3.6.1.4.1.311.60.2.1.3", "BR"),
        ("2.5.4.5", "00000000000191"),
        ("2.5.4.15", "Private Organization"),
        ("2.5.4.97", "OFBBR-d7384bd0"),
        ("2.5.4.3", "app.bank.example"),
        ("0.9.2342.19200300.100.1.1", "67c57882-043b-11ec-9a03-0242ac130003"),
    ]
    assert requested("2.5.4.97=X,CN=y").subject == requested("organizationIdentifier=X,CN=y").subject


def test_alternative_names_of_each_kind():
    """As many as there are; none: no extension."""
    names = ("DNS:app.example", "URI:https://app.example/id", "IP:2001:db8::1", "email:app@example.com")
    extension = requested(names=names).extensions.get_extension_for_class(x509.SubjectAlternativeName).value

    assert [type(name) for name in extension] == [
        x509.DNSName,
        x509.UniformResourceIdentifier,
        x509.IPAddress,
        x509.RFC822Name,
    ]
    with pytest.raises(x509.ExtensionNotFound):
        requested().extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    "name", ["", "app.example", "DNS:", "URI:", "email:", "IP:nowhere", "IP:", "DNS:bücher.example", "dns:x"]
)
def test_a_name_that_cannot_be_read_is_refused(name: str):
    """Nothing is guessed."""
    with pytest.raises(LocalError) as caught:
        requested(names=(name,))

    assert caught.value.code == "name_unreadable"


@pytest.mark.parametrize("subject", ["", "app", "CN", "XX=1", "CN=a,,O=b", "C=Brazil"])
def test_a_subject_that_cannot_be_read_is_refused(subject: str):
    """An unknown attribute is named by its number."""
    with pytest.raises(LocalError) as caught:
        requested(subject)

    assert caught.value.code == "subject_unreadable"


def test_the_usages_are_those_of_transport_and_of_signing():
    """clientAuth for the one, nonRepudiation for the other; keyEncipherment with RSA."""
    transport, signing = requested().extensions, requested(use="signing").extensions
    with_rsa = certificate_request(rsa_key(), subject="CN=x", names=(), use="transport")
    of_rsa = x509.load_pem_x509_csr(with_rsa).extensions.get_extension_for_class(x509.KeyUsage).value
    usages = [one.get_extension_for_class(x509.KeyUsage).value for one in (transport, signing)]

    assert [usage.digital_signature for usage in usages] == [True, True]
    assert [usage.content_commitment for usage in usages] == [False, True]
    assert [usage.key_encipherment for usage in (*usages, of_rsa)] == [False, False, True]
    assert list(transport.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    with pytest.raises(x509.ExtensionNotFound):
        signing.get_extension_for_class(x509.ExtendedKeyUsage)


def test_a_request_of_an_ed25519_key_is_signed_too():
    """Without a digest of its own."""
    pem = certificate_request(new_key("EdDSA"), subject="CN=x", names=(), use="signing")

    assert x509.load_pem_x509_csr(pem).is_signature_valid
