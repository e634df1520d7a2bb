"""New private keys, and requests for certificates of them (PKCS#10, RFC 2986), as directories ask for them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from broker.errors import LocalError
from broker.keys.jwk import public_members, wrap
from broker.keys.private_keys import PrivateKey

RSA_BITS = 2048
"""What directories ask for; the least that FAPI allows, and twice as fast to sign with as 3072."""

NAMES = {
    "emailAddress": NameOID.EMAIL_ADDRESS,
    "serialNumber": NameOID.SERIAL_NUMBER,
    "organizationIdentifier": ObjectIdentifier("2.5.4.97"),
    "businessCategory": NameOID.BUSINESS_CATEGORY,
    "jurisdictionCountryName": NameOID.JURISDICTION_COUNTRY_NAME,
    "givenName": NameOID.GIVEN_NAME,
    "surname": NameOID.SURNAME,
    "postalCode": NameOID.POSTAL_CODE,
}
"""Beside those that RFC 4514 section 3 has (CN, L, ST, O, OU, C, STREET, DC, UID), and numbers."""

TRANSPORT, SIGNING = "transport", "signing"


def new_key(alg: str) -> PrivateKey:
    """Make a private key that signs with *alg*: PS256 (RSA), ES256 (P-256) or EdDSA (Ed25519)."""
    match alg:
        case "PS256":
            return rsa.generate_private_key(65537, RSA_BITS)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
        case _:
            raise ValueError("alg is PS256, ES256 or EdDSA")


def key_pem(key: PrivateKey) -> bytes:
    """Give *key* in the clear, as PKCS#8 in PEM (RFC 5958, RFC 7468 section 10)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_jwk(key: PrivateKey, alg: str) -> dict[str, Any]:
    """Give its public half as a JWK, as the broker publishes it: with ``kid``, ``alg`` and ``use``."""
    wrapped = wrap(key)
    return {**public_members(wrapped), "use": "sig", "alg": alg, "kid": wrapped.thumbprint()}


def certificate_request(key: PrivateKey, *, subject: str, names: Iterable[str], use: str) -> bytes:
    """
    Make a request for a certificate of *key* in PEM, signed with it.

    *subject* is a string of RFC 4514, whose attributes may also be called as in ``NAMES`` or by number; *names* are
    alternative ones (``DNS:``, ``URI:``, ``IP:``, ``email:``). *use* is ``transport`` (TLS clients) or ``signing``.
    Raises LocalError ``subject_unreadable`` or ``name_unreadable``.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(subject))
    builder = builder.add_extension(_key_usage(key, use), critical=True)
    if use == TRANSPORT:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    alternatives = [_alternative(name) for name in names]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    try:
        return builder.sign(key, digest).public_bytes(Encoding.PEM)
    except ValueError:  # only now are the letters of the subject looked at
        hint = "C, serialNumber and jurisdictionCountryName hold letters, digits and little else of ASCII"
        raise LocalError("subject_unreadable", "the subject holds what it cannot hold", hint=hint) from None


def _subject(text: str) -> x509.Name:
    try:
        name = x509.Name.from_rfc4514_string(text, NAMES)
    except ValueError:
        hint = 'write it as in RFC 4514: "CN=app,O=Bank,C=BR"; other attributes by name or number: 2.5.4.97=...'
        raise LocalError("subject_unreadable", "the subject cannot be read", hint=hint) from None
    if not name.rdns:
        raise LocalError("subject_unreadable", "the subject is empty")
    return name


def _alternative(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    try:
        match kind:
            case "DNS" if value:
                return x509.DNSName(value)
            case "URI" if value:
                return x509.UniformResourceIdentifier(value)
            case "email" if value:
                return x509.RFC822Name(value)
            case "IP":
                return x509.IPAddress(ipaddress.ip_address(value))
    except ValueError:
        pass
    hint = "write DNS:app.example, URI:https://app.example/id, IP:192.0.2.1 or email:app@example.com, in ASCII"
    raise LocalError("name_unreadable", "an alternative name cannot be read", hint=hint)


def _key_usage(key: PrivateKey, use: str) -> x509.KeyUsage:
    """As directories issue them: signatures for both, what RSA does in old handshakes, and for seals their mark."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=use == SIGNING,
        key_encipherment=use == TRANSPORT and isinstance(key, rsa.RSAPrivateKey),
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
