"""
A token server that costs next to nothing: canned answers over TLS, and the time of each request on record.

It checks nothing, not even the client's assertion: the cost of a real one is not what is measured. What it
answers is what the broker demands, so each token is bound to the certificate of the connection. When it is
told to stop (SIGTERM) it writes down when which of its issuers was asked, in seconds of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import secrets
import signal
import ssl
import sys
import time
from array import array
from pathlib import Path
from typing import Any, cast

TOKEN = b"POST /token "
METADATA = b"GET /.well-known/"

TOKEN_BYTES = 900
"""Of the part of an access token that stands for a signature and more claims: those of real servers are as long."""

BACKLOG = 128


class Issuer:
    """One issuer of the server: its address, its answers, and when it was asked for a token."""

    def __init__(self, *, port: int, lifetime: int, delay: float) -> None:
        self.port = port
        self.lifetime = lifetime
        self.delay = delay
        self.asked = array("d")
        self._padding = base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).rstrip(b"=").decode()

    def metadata(self) -> bytes:
        """Give the metadata document (RFC 8414)."""
        issuer = f"https://localhost:{self.port}"
        document = {
            "issuer": issuer,
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "tls_client_certificate_bound_access_tokens": True,
            "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_post"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256", "PS256", "EdDSA"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
        }
        return _answer(200, document)

    def token(self, thumbprint: str | None) -> bytes:
        """Give a token response; the token differs from all others in its claims only."""
        claims: dict[str, Any] = {"jti": secrets.token_hex(8)}
        if thumbprint is not None:
            claims["cnf"] = {"x5t#S256": thumbprint}
        token = ".".join((_encoded({"alg": "ES256"}), _encoded(claims), self._padding))
        return _answer(200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime})


class Connection(asyncio.Protocol):
    """HTTP as far as the broker speaks it: one request at a time, with a length, on a connection that is kept."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._transport: asyncio.Transport | None = None
        self._thumbprint: str | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the certificate of the connection."""
        self._transport = cast("asyncio.Transport", transport)
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if der is not None:
            self._thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

    def data_received(self, data: bytes) -> None:
        """Answer what is whole."""
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        if mark and len(body) >= _length(head):
            self._received = b""
            self._take(head)

    def _take(self, head: bytes) -> None:
        if head.startswith(TOKEN):
            self._issuer.asked.append(time.monotonic())
            answer, delay = self._issuer.token(self._thumbprint), self._issuer.delay
        elif head.startswith(METADATA):
            answer, delay = self._issuer.metadata(), 0.0
        else:
            answer, delay = _answer(404, {"error": "invalid_request"}), 0.0
        asyncio.get_running_loop().call_later(delay, self._send, answer)

    def _send(self, answer: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(answer)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _answer(status: int, document: dict[str, Any]) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _context(directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server.key")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def serve(issuers: list[Issuer], context: ssl.SSLContext) -> None:
    """Answer until SIGTERM; one line on standard output says when it does."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    servers = [
        await loop.create_server(
            lambda issuer=issuer: Connection(issuer),  # type: ignore[misc] # a factory takes nothing
            "127.0.0.1",
            issuer.port,
            ssl=context,
            backlog=BACKLOG,
        )
        for issuer in issuers
    ]
    print("serving", flush=True)
    await stopped.wait()
    for server in servers:
        server.close()


def main(arguments: list[str]) -> None:
    """Run from the command line; *arguments* are those after the program's name."""
    parser = argparse.ArgumentParser(prog="bench.server", description="A token server for measurements.")
    parser.add_argument("--directory", type=Path, required=True, help="holds ca.pem, server.pem and server.key")
    parser.add_argument("--record", type=Path, required=True, help="where the times of requests are written at the end")
    parser.add_argument("--lifetime", type=int, required=True, help="expires_in of its tokens, in seconds")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that a token takes it")
    parser.add_argument("ports", type=int, nargs="+", help="one issuer on each")
    wanted = parser.parse_args(arguments)
    issuers = [Issuer(port=port, lifetime=wanted.lifetime, delay=wanted.delay) for port in wanted.ports]
    asyncio.run(serve(issuers, _context(wanted.directory)))
    wanted.record.write_text(json.dumps({str(issuer.port): list(issuer.asked) for issuer in issuers}))


if __name__ == "__main__":
    main(sys.argv[1:])
