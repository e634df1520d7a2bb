"""
Carries out the faults that are about HTTP itself, some of them below aiohttp: it would not frame an answer wrongly.

The tables of ``misbehaving`` take them in. What is written to the transport directly ends the connection,
apart from interim answers and bytes that are too many.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from broker.sandbox.dpop import Nonces
from broker.sandbox.fault_kinds import RESOURCES
from broker.sandbox.faults import Fault
from broker.sandbox.listeners import LINGER_ZERO

DPOP_NONCE = "DPoP-Nonce"

NONCES: web.AppKey[Nonces] = web.AppKey("nonces", Nonces)
"""In an application: the nonces of the server that it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Where a fault happens: *now* in Unix seconds, *elsewhere* the origin that redirects lead to."""

    request: web.Request
    now: float
    elsewhere: str


def transport_of(scene: Scene) -> asyncio.Transport:
    """Give the connection of the request. Raises ConnectionResetError when it has gone."""
    transport = scene.request.transport
    if transport is None:
        raise ConnectionResetError("the client went away")
    assert isinstance(transport, asyncio.Transport)
    return transport


def reset(scene: Scene) -> web.StreamResponse:
    """End the connection with RST."""
    transport = transport_of(scene)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
    transport.abort()
    return web.Response()


async def begin(scene: Scene, status: int, length: int | None) -> web.StreamResponse:
    """Begin a JSON answer of *length* bytes; None: chunked."""
    response = web.StreamResponse(status=status)
    response.content_type = "application/json"
    if length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    await response.prepare(scene.request)
    return response


async def interim(scene: Scene, fault: Fault) -> None:
    """Write interim answers (RFC 9110 section 15.2)."""
    status = HTTPStatus(fault.parameters["status"])
    hint = b"Link: </api/hello>; rel=preload\r\n" if status is HTTPStatus.EARLY_HINTS else b""
    one = b"HTTP/1.1 %d %s\r\n%s\r\n" % (status, status.phrase.encode(), hint)
    transport_of(scene).write(one * fault.parameters["count"])


async def early_answer(scene: Scene, fault: Fault) -> web.StreamResponse:
    """Answer, and end the connection, whatever the client is still sending."""
    transport = transport_of(scene)
    transport.write(_head(fault.parameters["status"], "Content-Length: 0", "Connection: close"))
    transport.close()
    return web.Response()


async def invalid_token(scene: Scene, _fault: Fault) -> web.StreamResponse:
    """Refuse the access token (RFC 6750 section 3.1, RFC 9449 section 7.1)."""
    scheme = scene.request.headers.get("Authorization", "").partition(" ")[0].lower()
    said = "DPoP" if scheme == "dpop" else "Bearer"
    challenge = f'{said} realm="sandbox", error="invalid_token", error_description="a fault on command"'
    return web.json_response({"error": "invalid_token"}, status=401, headers={"WWW-Authenticate": challenge})


async def use_dpop_nonce(scene: Scene, fault: Fault) -> web.StreamResponse:
    """Ask for a nonce (RFC 9449 sections 8 and 9): with a nonce that will be taken, even where none is wanted."""
    body = {"error": "use_dpop_nonce", "error_description": "a fault on command"}
    headers = {DPOP_NONCE: scene.request.app[NONCES].made(now=scene.now), "Cache-Control": "no-store"}
    if fault.where in RESOURCES:
        headers["WWW-Authenticate"] = 'DPoP realm="sandbox", error="use_dpop_nonce"'
    return web.json_response(body, status=401 if fault.where in RESOURCES else 400, headers=headers)


async def slow_head(scene: Scene, fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    """Write the head byte by byte."""
    transport = transport_of(scene)
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
    for byte in _head(status, *lines):
        if transport.is_closing():
            break
        transport.write(bytes([byte]))
        await asyncio.sleep(fault.parameters["seconds_per_byte"])
    transport.write(body)
    transport.close()
    return web.Response()


async def wrong_length(scene: Scene, fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    """Say another length: where it is less, what is left over lies in front of the next answer."""
    length = max(0, len(body) + fault.parameters["difference"])
    response = await begin(scene, status, length)
    if length >= len(body):
        await response.write(body)
        return response
    transport = transport_of(scene)
    wire = transport.get_extra_info("socket")
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # at once: later it would lie behind the next request
    await response.write(body[:length])
    transport.write(body[length:])
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    return response


async def bad_chunk(scene: Scene, _fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    """Write a chunk whose size cannot be read."""
    transport = transport_of(scene)
    half = body[: len(body) // 2]
    transport.write(_head(status, "Content-Type: application/json", "Transfer-Encoding: chunked"))
    transport.write(b"%x\r\n%s\r\nxyz\r\n" % (len(half), half))
    transport.close()
    return web.Response()


async def compressed(_scene: Scene, _fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    """Compress the body."""
    packed = await asyncio.to_thread(gzip.compress, body)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    return web.Response(status=status, body=packed, headers=headers)


LEAKS = (
    ("Set-Cookie", "sandbox=leaked; Secure; HttpOnly"),
    ("Set-Cookie", "second=leaked"),
    ("DPoP-Nonce", "leaked"),
    ("Authorization", "Bearer leaked"),
    ("Proxy-Authenticate", 'Basic realm="leaked"'),
    ("Proxy-Authentication-Info", "leaked"),
    ("Connection", "close, X-Sandbox-Hop"),
    ("X-Sandbox-Hop", "leaked"),
    ("Keep-Alive", "timeout=7777"),
    ("Proxy-Connection", "keep-alive"),
    ("Upgrade", "h2c"),
    ("TE", "trailers"),
    ("Trailer", "X-Sandbox-Trailer"),
)
"""Fields that whoever passes an answer on must not pass on (RFC 9110 section 7.6.1), or should keep to itself."""

TRAILERS = (("X-Sandbox-Trailer", "leaked"), ("Set-Cookie", "trailer=leaked"))
KEPT = (("X-Sandbox-Kept", "one"), ("X-Sandbox-Kept", "two"))


def leaking(scene: Scene) -> web.StreamResponse:
    """Answer with fields that nobody should pass on, and with trailers; the body says which."""
    names = [*dict.fromkeys(name for name, _ in (*LEAKS, *TRAILERS))]
    body = json.dumps({"dropped": names, "kept": [*dict.fromkeys(name for name, _ in KEPT)]}).encode()
    framing = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    lines = [f"{name}: {value}" for name, value in (*LEAKS, *KEPT)]
    trailers = "".join(f"{name}: {value}\r\n" for name, value in TRAILERS).encode()
    transport = transport_of(scene)
    transport.write(_head(200, *framing, *lines) + b"%x\r\n%s\r\n0\r\n%s\r\n" % (len(body), body, trailers))
    transport.close()
    return web.Response()


def _head(status: int, *lines: str) -> bytes:
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
    return "\r\n".join((f"HTTP/1.1 {status} {phrase}", *lines, "", "")).encode()
