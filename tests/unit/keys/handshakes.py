"""Real TLS handshakes in memory: two ends of OpenSSL, no sockets, no threads."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from tests.unit.keys.certificates import Pair, chain_pem, root


@dataclass(frozen=True)
class Connection:
    """Both ends after the handshake."""

    client: ssl.SSLObject
    server: ssl.SSLObject

    @property
    def client_certificate(self) -> bytes | None:
        """The DER of what the client presented."""
        return self.server.getpeercert(binary_form=True)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str = "localhost") -> Connection:
    """
    Shake hands, and exchange a byte each way, after which TLS 1.3 has also judged the client's certificate.

    Raises ssl.SSLError from whichever end gives up first.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = Connection(
        client=client.wrap_bio(to_client, to_server, server_hostname=host),
        server=server.wrap_bio(to_server, to_client, server_side=True),
    )
    unfinished = [ends.client, ends.server]
    while unfinished:
        end = unfinished.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            unfinished.append(end)
    ends.client.write(b"?")
    ends.server.read(1)
    ends.server.write(b"!")
    ends.client.read(1)
    return ends


def server_context(
    directory: Path,
    pair: Pair,
    *,
    mutual: bool = False,
    version: ssl.TLSVersion | None = None,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """
    Make a server that presents *pair*. *mutual*: it asks for a client certificate below our root.

    *version* is the only one that it speaks, *ciphers* its suites of TLS 1.2, as weak as OpenSSL can still
    be made.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    path = directory / "server.pem"
    path.write_bytes(pair.cert_pem() + pair.key_pem())
    context.load_cert_chain(path)
    if mutual:
        context.load_verify_locations(cadata=chain_pem(root()).decode())
        context.verify_mode = ssl.CERT_REQUIRED
    if ciphers is not None:
        context.set_ciphers(ciphers)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context
