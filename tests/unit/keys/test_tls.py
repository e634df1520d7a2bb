"""tls: what a context accepts, shown by real handshakes, and that nothing comes from the environment."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

import broker
from broker.keys.tls import TLS12_SUITES, SystemTrust, client_context, system_trust
from tests.unit.keys.certificates import (
    CLIENT_AUTH,
    DAY,
    NOW,
    SERVER_AUTH,
    Pair,
    chain_pem,
    client,
    intermediate,
    issue,
    p256,
    root,
    rsa_key,
    server,
    written,
)
from tests.unit.keys.handshakes import handshake, server_context
from tests.unit.keys.privileges import without_privileges
from tests.unit.keys.refusals import refused

REPOSITORY = Path(broker.__file__).parents[1]


def ca_file(directory: Path, *pairs: Pair) -> Path:
    return written(directory / "ca.pem", chain_pem(*(pairs or (root(),))), 0o644)


def paths(cafile: Path, capath: Path) -> ssl.DefaultVerifyPaths:
    """Say where OpenSSL was built to look; the two that depend on the environment point at a trap."""
    trap = "/trap"
    return ssl.DefaultVerifyPaths(trap, trap, "SSL_CERT_FILE", str(cafile), "SSL_CERT_DIR", str(capath))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_of_the_configured_ca_is_accepted(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """In both versions, with HTTP/1.1 agreed upon."""
    context = client_context(ca_file(tmp_path))
    there = server_context(tmp_path, server(), version=version)
    there.set_alpn_protocols(["h2", "http/1.1"])

    connection = handshake(context, there)

    assert connection.client.version() == version.name.replace("_", ".")
    assert connection.client.selected_alpn_protocol() == "http/1.1"
    assert connection.client.compression() is None


@pytest.mark.parametrize("suite", TLS12_SUITES)
def test_each_of_the_four_suites_of_fapi_is_spoken(tmp_path: Path, suite: str) -> None:
    """With a certificate of the kind that the suite is for."""
    key = rsa_key() if "RSA-AES" in suite and "ECDSA" not in suite else p256()
    pair = issue("server", by=root(), key=key, usages=SERVER_AUTH, host="localhost")
    there = server_context(tmp_path, pair, version=ssl.TLSVersion.TLSv1_2, ciphers=suite)

    connection = handshake(client_context(ca_file(tmp_path)), there)

    assert (connection.client.cipher() or ("",))[0] == suite


@pytest.mark.parametrize(
    "suite",
    [
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-CCM",
        "AES256-GCM-SHA384",
        "DHE-RSA-AES256-GCM-SHA384",
    ],
)
def test_no_other_suite_of_tls_1_2_is_spoken(tmp_path: Path, suite: str) -> None:
    """CBC, no forward secrecy, finite fields, and good ones that FAPI does not list."""
    key = p256() if "ECDSA" in suite else rsa_key()
    pair = issue("server", by=root(), key=key, usages=SERVER_AUTH, host="localhost")
    there = server_context(tmp_path, pair, version=ssl.TLSVersion.TLSv1_2, ciphers=suite)

    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        handshake(client_context(ca_file(tmp_path)), there)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(tmp_path: Path) -> None:
    """Offered by a server that OpenSSL is told to make that weak; a client that is as weak agrees with it."""
    there = server_context(tmp_path, server(), version=ssl.TLSVersion.TLSv1_1, ciphers="ALL:@SECLEVEL=0")
    weak = client_context(ca_file(tmp_path))
    weak.minimum_version = ssl.TLSVersion.TLSv1_1
    weak.set_ciphers("ALL:@SECLEVEL=0")

    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        handshake(client_context(ca_file(tmp_path)), there)

    assert handshake(weak, there).client.version() == "TLSv1.1"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("pair", "why"),
    [
        (issue("server", by=root(), usages=SERVER_AUTH, host="other.example"), "Hostname mismatch"),
        (issue("localhost", by=root(), usages=SERVER_AUTH), "Hostname mismatch"),
        (issue("server", by=issue("root", ca=True), usages=SERVER_AUTH, host="localhost"), "certificate signature"),
        (issue("server", usages=SERVER_AUTH, host="localhost"), "self-signed"),
        (issue("server", by=intermediate(), usages=SERVER_AUTH, host="localhost"), "local issuer"),
        (issue("server", by=client(), usages=SERVER_AUTH, host="localhost"), "local issuer"),
        (
            issue("server", by=root(), usages=SERVER_AUTH, host="localhost", start=NOW - 2 * DAY, end=NOW - DAY),
            "expired",
        ),
        (
            issue("server", by=root(), usages=SERVER_AUTH, host="localhost", start=NOW + DAY, end=NOW + 2 * DAY),
            "not yet valid",
        ),
        (issue("server", by=root(), usages=SERVER_AUTH, host="127.0.0.1"), "Hostname mismatch"),
    ],
    ids=[
        "other name",
        "name only in the subject",
        "other CA of that name",
        "self-signed",
        "intermediate not sent",
        "issued by a leaf",
        "expired",
        "too early",
        "address for a name",
    ],
)
def test_a_server_that_is_not_the_one_we_mean_is_refused(
    tmp_path: Path, pair: Pair, why: str, version: ssl.TLSVersion
) -> None:
    """By the client, whatever the server thinks of it."""
    there = server_context(tmp_path, pair, version=version)

    with pytest.raises(ssl.SSLCertVerificationError, match=why):
        handshake(client_context(ca_file(tmp_path)), there)


def test_a_certificate_of_a_client_is_no_servers(tmp_path: Path) -> None:
    """Clients of the same ecosystem cannot play the authorization server."""
    pair = issue("client", by=root(), usages=CLIENT_AUTH, host="localhost")

    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(client_context(ca_file(tmp_path)), server_context(tmp_path, pair))


def test_an_issuing_ca_can_be_trusted_alone(tmp_path: Path) -> None:
    """Without its root, and so without the other CAs of that root."""
    pair = issue("server", by=intermediate(), usages=SERVER_AUTH, host="localhost")
    context = client_context(ca_file(tmp_path, intermediate()))

    assert handshake(context, server_context(tmp_path, pair)).client.version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, server_context(tmp_path, server()))


def test_with_a_ca_file_the_cas_of_the_system_are_not_trusted(tmp_path: Path) -> None:
    """It replaces them, it does not add to them."""
    context = client_context(ca_file(tmp_path, root(), intermediate()))

    assert context.cert_store_stats()["x509"] == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"text", chain_pem(root())[:-30], chain_pem(root(), intermediate())[:-30]],
    ids=["empty", "text", "cut off", "last one cut off"],
)
def test_a_ca_file_without_whole_certificates_is_refused(tmp_path: Path, content: bytes) -> None:
    """Half a bundle would mean half the servers."""
    path = written(tmp_path / "ca.pem", content, 0o644)

    with refused("ca_unreadable", path):
        client_context(path)


def test_a_ca_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    """They would choose our authorization server."""
    path = written(tmp_path / "ca.pem", chain_pem(root()), 0o666)

    with refused("file_permissions", path):
        client_context(path)


def test_the_context_verifies_and_never_renegotiates(tmp_path: Path) -> None:
    """Each switch of ssl that matters."""
    context = client_context(ca_file(tmp_path))

    assert context.protocol == ssl.PROTOCOL_TLS_CLIENT
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_TICKET
    assert not context.keylog_filename
    assert not context.post_handshake_auth


def test_the_cas_of_the_system_come_from_file_or_directory(tmp_path: Path) -> None:
    """Both as OpenSSL was built to find them."""
    written(tmp_path / "cert.pem", chain_pem(root()), 0o644)
    hashed = tmp_path / "certs"
    hashed.mkdir()
    written(hashed / "0a1b2c3d.0", chain_pem(root()), 0o644)
    empty = tmp_path / "empty"
    empty.mkdir()
    written(empty / "README", b"", 0o644)

    both = system_trust(paths(tmp_path / "cert.pem", hashed), ())
    file_only = system_trust(paths(tmp_path / "cert.pem", empty), ())
    directory_only = system_trust(paths(tmp_path / "absent", hashed), ())

    assert both == SystemTrust(files=(tmp_path / "cert.pem",), directories=(hashed,))
    assert file_only == SystemTrust(files=(tmp_path / "cert.pem",), directories=())
    assert directory_only == SystemTrust(files=(), directories=(hashed,))


def test_without_those_of_openssl_the_first_bundle_of_a_distribution_is_taken(tmp_path: Path) -> None:
    """A Python that was built elsewhere looks in the wrong places."""
    nowhere = paths(tmp_path / "absent", tmp_path / "absent")
    second = written(tmp_path / "second", chain_pem(root()), 0o644)
    third = written(tmp_path / "third", chain_pem(root()), 0o644)

    found = system_trust(nowhere, (tmp_path / "first", second, third))

    assert found == SystemTrust(files=(second,), directories=())


def test_a_store_that_we_may_not_look_at_is_none(tmp_path: Path) -> None:
    """The next one is looked for instead."""
    closed = tmp_path / "closed"
    closed.mkdir()
    written(closed / "cert.pem", chain_pem(root()), 0o644)
    closed.chmod(0o000)

    with refused("ca_missing"), without_privileges():
        system_trust(paths(closed / "cert.pem", closed), (closed / "cert.pem",))

    closed.chmod(0o700)


def test_a_system_without_cas_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """Slim images have none."""
    with refused("ca_missing") as caught:
        system_trust(paths(tmp_path / "absent", tmp_path / "absent"), (tmp_path / "absent",))

    assert "ca_file" in (caught.value.hint or "")


def test_the_systems_cas_are_trusted_without_a_ca_file(tmp_path: Path) -> None:
    """From a file and from a hashed directory."""
    bundle = written(tmp_path / "cert.pem", chain_pem(root()), 0o644)
    hashed = tmp_path / "certs"
    hashed.mkdir()
    (hashed / f"{hash_of(root())}.0").write_bytes(chain_pem(root()))

    for trust in (
        SystemTrust(files=(bundle,), directories=()),
        SystemTrust(files=(), directories=(hashed,)),
    ):
        context = client_context(None, trust=trust)
        assert handshake(context, server_context(tmp_path, server())).client.version() == "TLSv1.3"


def hash_of(pair: Pair) -> str:
    """Give the name under which OpenSSL looks for a CA, if its subject is short, lower case and UTF-8."""
    names = pair.certificate.subject.public_bytes()[2:]  # without the header of the sequence
    return f"{int.from_bytes(hashlib.sha1(names).digest()[:4], 'little'):08x}"


def test_a_broken_store_of_the_system_is_refused(tmp_path: Path) -> None:
    """Not silently passed over."""
    broken = written(tmp_path / "cert.pem", b"nothing", 0o644)

    with refused("ca_unreadable"):
        client_context(None, trust=SystemTrust(files=(broken,), directories=()))


LOOK = """
import sys
from pathlib import Path
from broker.keys.tls import client_context, SystemTrust
context = client_context(None, trust=SystemTrust(files=(Path(sys.argv[1]),), directories=()))
print(context.cert_store_stats()["x509"], context.keylog_filename)
"""


def test_nothing_comes_from_the_environment(tmp_path: Path) -> None:
    """Neither trust nor a file for the secrets of sessions; create_default_context would take both."""
    bundle = written(tmp_path / "cert.pem", chain_pem(root()), 0o644)
    other = written(tmp_path / "other.pem", chain_pem(root(), intermediate()), 0o644)
    log = tmp_path / "keys.log"
    variables = {**os.environ, "SSL_CERT_FILE": str(other), "SSL_CERT_DIR": str(tmp_path), "SSLKEYLOGFILE": str(log)}

    command = [sys.executable, "-c", LOOK, str(bundle)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=variables, cwd=REPOSITORY)

    assert shown.stdout.split() == ["1", "None"]
    assert not log.exists()
