"""
A certificate authority for one run of the sandbox: elliptic curves, short lives, loopback names only.

Everything here is a function of its arguments; the caller says what time it is and where the results go.
The authority carries name constraints (RFC 5280 section 4.2.1.10), so that somebody who trusts its
certificate by mistake trusts it for ``localhost`` and 127.0.0.0/8 only.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=30)
"""Of every certificate: longer than any sandbox should run, shorter than a forgotten one can do harm."""

BACKDATED = timedelta(days=1)
"""
``not_before`` lies this far back, as if the server had been there yesterday: a client whose clock is an hour
late then meets what it would meet at a real one, and not a certificate from the future.
"""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

LOOPBACK_NAME = "localhost"
LOOPBACK_ADDRESS = IPv4Address("127.0.0.1")
LOOPBACK_NETWORK = IPv4Network("127.0.0.0/8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate together with its private key."""

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """Give the certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def private_key_pem(self) -> bytes:
        """Give the private key as unencrypted PKCS#8 PEM."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def thumbprint(self) -> str:
        """Give ``x5t#S256`` of the certificate."""
        return certificate_thumbprint(self.certificate.public_bytes(serialization.Encoding.DER))


def certificate_thumbprint(der: bytes) -> str:
    """Give ``x5t#S256`` (RFC 8705 section 3.1): the SHA-256 of the DER certificate as base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


def read_credential(certificate_pem: bytes, private_key_pem: bytes) -> Credential:
    """Read back what ``certificate_pem`` and ``private_key_pem`` gave. Raises ValueError."""
    private_key = serialization.load_pem_private_key(private_key_pem, password=None)
    if not isinstance(private_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the sandbox makes elliptic curve keys only")
    return Credential(certificate=x509.load_pem_x509_certificate(certificate_pem), private_key=private_key)


def make_authority(now: datetime) -> Credential:
    """Make a new certificate authority; its name holds a random serial number, so that no two are alike."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = _name(f"Token broker sandbox, for tests only ({serial:040x})"[:64])
    certificate = (
        _builder(name, name, private_key.public_key(), serial=serial, now=now, lifetime=LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(
            x509.NameConstraints(
                permitted_subtrees=[x509.DNSName(LOOPBACK_NAME), x509.IPAddress(LOOPBACK_NETWORK)],
                excluded_subtrees=None,
            ),
            critical=True,
        )
        .sign(private_key, hashes.SHA256())
    )
    return Credential(certificate=certificate, private_key=private_key)


def issue_server(
    authority: Credential,
    *,
    now: datetime,
    names: tuple[str, ...] = (LOOPBACK_NAME,),
    addresses: tuple[IPv4Address, ...] = (LOOPBACK_ADDRESS,),
    lifetime: timedelta = LIFETIME,
) -> Credential:
    """Issue a server certificate for *names* and *addresses*; a negative *lifetime* makes one that has expired."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(address) for address in addresses]
    builder = _leaf(authority, private_key.public_key(), "sandbox server (token broker)", now=now, lifetime=lifetime)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return Credential(certificate=builder.sign(authority.private_key, hashes.SHA256()), private_key=private_key)


def issue_client(
    authority: Credential, *, now: datetime, common_name: str, lifetime: timedelta = LIFETIME
) -> Credential:
    """
    Issue a client certificate for *common_name*.

    The words added to it keep OpenSSL from reading the common name as a host name, which the name
    constraints would forbid.
    """
    private_key = ec.generate_private_key(ec.SECP256R1())
    certificate = _client_certificate(authority, private_key.public_key(), common_name, now=now, lifetime=lifetime)
    return Credential(certificate=certificate, private_key=private_key)


def certify_client(
    authority: Credential,
    request: x509.CertificateSigningRequest,
    *,
    now: datetime,
    common_name: str,
    lifetime: timedelta = LIFETIME,
) -> x509.Certificate:
    """
    Issue a client certificate for the key in *request*, and for *common_name*, whatever the request says of that.

    Raises ValueError for a request that its key has not signed, and for keys that are no good for signatures.
    """
    if not request.is_signature_valid:
        raise ValueError("the request is not signed by the key in it")
    key = request.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise ValueError("a key of another sort")  # noqa: TRY004 (as wrong as any other request)
    return _client_certificate(authority, key, common_name, now=now, lifetime=lifetime)


def _client_certificate(
    authority: Credential, key: PublicKey, common_name: str, *, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    builder = _leaf(authority, key, f"{common_name} (sandbox client)", now=now, lifetime=lifetime)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return builder.sign(authority.private_key, hashes.SHA256())


def self_sign_server(*, now: datetime) -> Credential:
    """Make a server certificate that nobody vouches for."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = _name("self-signed sandbox server")
    certificate = (
        _builder(name, name, private_key.public_key(), serial=x509.random_serial_number(), now=now, lifetime=LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(LOOPBACK_NAME)]), critical=False)
        .sign(private_key, hashes.SHA256())
    )
    return Credential(certificate=certificate, private_key=private_key)


def _leaf(
    authority: Credential,
    key: PublicKey,
    common_name: str,
    *,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    issuer = authority.certificate
    issuer_key = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        _builder(
            _name(common_name),
            issuer.subject,
            key,
            serial=x509.random_serial_number(),
            now=now,
            lifetime=lifetime,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(key_cert_sign=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: PublicKey,
    *,
    serial: int,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    not_before = now - BACKDATED if lifetime > timedelta(0) else now + 2 * lifetime
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def moment(unix: float) -> datetime:
    """Turn Unix seconds into the aware datetime that the functions of this module take."""
    return datetime.fromtimestamp(unix, UTC)
