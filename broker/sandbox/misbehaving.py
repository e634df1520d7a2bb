"""
Carries out the faults that strike once there is a request: bad answers, and no answers.

Three tables: ``BEFORE`` does something before the request is processed, ``INSTEAD`` answers without processing
it, ``DELIVERIES`` bring an answer that was processed in a bad way. Faults that change what is
answered are in ``twists``, those about HTTP itself in ``wire_misbehaving``.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from email.utils import formatdate
from typing import Any

from aiohttp import web

from broker.sandbox.faults import Fault
from broker.sandbox.wire_misbehaving import (
    Scene,
    bad_chunk,
    begin,
    compressed,
    early_answer,
    interim,
    invalid_token,
    reset,
    slow_head,
    transport_of,
    use_dpop_nonce,
    wrong_length,
)

BLOCK = 65_536
"""Bytes written at a time of a huge body."""

PAGE = "<!DOCTYPE html><title>Sign in</title><h1>Sign in to continue</h1><p>This is not the page you asked for."

NOT_HTTP = b"SSH-2.0-sandbox\r\n\x00\x01\x02"

HUGE_BEGINS = b'{"token_type":"Bearer","expires_in":60,"access_token":"'
HUGE_ENDS = b'"}'


async def _status(scene: Scene, fault: Fault) -> web.StreamResponse:
    headers = {}
    if fault.parameters["retry_after_date"] is not None:
        headers["Retry-After"] = formatdate(scene.now + fault.parameters["retry_after_date"], usegmt=True)
    elif fault.parameters["retry_after"] is not None:
        headers["Retry-After"] = str(fault.parameters["retry_after"])
    return web.Response(status=fault.parameters["status"], headers=headers)


async def _oauth_error(_scene: Scene, fault: Fault) -> web.StreamResponse:
    body = {name: fault.parameters[name] for name in ("error", "error_description")}
    return web.json_response(body, status=fault.parameters["status"], headers={"Cache-Control": "no-store"})


async def _html(_scene: Scene, fault: Fault) -> web.StreamResponse:
    return web.Response(status=fault.parameters["status"], text=PAGE, content_type="text/html")


async def _empty(_scene: Scene, fault: Fault) -> web.StreamResponse:
    return web.Response(status=fault.parameters["status"], content_type="application/json")


async def _redirect(scene: Scene, fault: Fault) -> web.StreamResponse:
    location = f"{scene.elsewhere}{scene.request.path}"
    return web.Response(status=fault.parameters["status"], headers={"Location": location})


async def _huge_body(scene: Scene, fault: Fault) -> web.StreamResponse:
    return await _stream(scene, _huge(fault.parameters["bytes"]))


async def _gzip_bomb(_scene: Scene, fault: Fault) -> web.StreamResponse:
    # In a thread: to compress 100 MB takes a good part of a second.
    packed = await asyncio.to_thread(_compressed, fault.parameters["bytes"])
    return web.Response(body=packed, content_type="application/json", headers={"Content-Encoding": "gzip"})


async def _garbage(scene: Scene, _fault: Fault) -> web.StreamResponse:
    transport = transport_of(scene)
    transport.write(NOT_HTTP)
    transport.close()
    return web.Response()


async def _reset(scene: Scene, _fault: Fault) -> web.StreamResponse:
    return reset(scene)


async def _lost_answer(scene: Scene, fault: Fault, _status: int, _body: bytes) -> web.StreamResponse:
    if fault.parameters["status"] is not None:
        return web.Response(status=fault.parameters["status"])
    if fault.parameters["reset"]:
        return reset(scene)
    transport_of(scene).close()
    return web.Response()


async def _half_json(_scene: Scene, _fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    return web.Response(status=status, body=body[: len(body) // 2], content_type="application/json")


async def _cut(scene: Scene, fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    response = await begin(scene, status, None if fault.parameters["chunked"] else len(body))
    await response.write(body[: len(body) // 2])
    if fault.parameters["reset"]:
        return reset(scene)
    transport_of(scene).close()
    return response


async def _drip(scene: Scene, fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    response = await begin(scene, status, len(body))
    for position in range(len(body)):
        if scene.request.transport is None or scene.request.transport.is_closing():
            break
        await response.write(body[position : position + 1])
        await asyncio.sleep(fault.parameters["seconds_per_byte"])
    return response


async def _content_type(_scene: Scene, fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    return web.Response(status=status, body=body, headers={"Content-Type": fault.parameters["value"]})


async def _duplicate_member(_scene: Scene, _fault: Fault, status: int, body: bytes) -> web.StreamResponse:
    members = body.strip()[1:-1]
    return web.Response(status=status, body=b"{" + members + b"," + members + b"}", content_type="application/json")


Before = Callable[[Scene, Fault], Awaitable[None]]
Instead = Callable[[Scene, Fault], Awaitable[web.StreamResponse]]
Delivery = Callable[[Scene, Fault, int, bytes], Awaitable[web.StreamResponse]]

BEFORE: Mapping[str, Before] = {"interim": interim}

INSTEAD: Mapping[str, Instead] = {
    "status": _status,
    "oauth_error": _oauth_error,
    "html": _html,
    "empty": _empty,
    "redirect": _redirect,
    "huge_body": _huge_body,
    "gzip_bomb": _gzip_bomb,
    "garbage": _garbage,
    "reset": _reset,
    "early_answer": early_answer,
    "invalid_token": invalid_token,
    "use_dpop_nonce": use_dpop_nonce,
}

DELIVERIES: Mapping[str, Delivery] = {
    "lost_answer": _lost_answer,
    "half_json": _half_json,
    "cut": _cut,
    "drip": _drip,
    "content_type": _content_type,
    "duplicate_member": _duplicate_member,
    "slow_head": slow_head,
    "wrong_length": wrong_length,
    "bad_chunk": bad_chunk,
    "gzip": compressed,
}


async def deliver(
    scene: Scene,
    fault: Fault | None,
    status: int,
    body: dict[str, Any],
    headers: Mapping[str, str],
    *,
    content_type: str = "application/json",
) -> web.StreamResponse:
    """Answer with *body* as JSON, as well or as badly as *fault* says."""
    if fault is not None and fault.kind in DELIVERIES:
        return await DELIVERIES[fault.kind](scene, fault, status, json.dumps(body).encode())
    return web.json_response(body, status=status, headers=headers, content_type=content_type)


async def _stream(scene: Scene, blocks: Iterator[bytes]) -> web.StreamResponse:
    response = await begin(scene, 200, None)
    for block in blocks:
        await response.write(block)
    return response


def _huge(size: int) -> Iterator[bytes]:
    yield HUGE_BEGINS
    for start in range(0, size, BLOCK):
        yield b"a" * min(BLOCK, size - start)
    yield HUGE_ENDS


def _compressed(size: int) -> bytes:
    gzip = zlib.compressobj(level=9, wbits=16 + zlib.MAX_WBITS)
    return b"".join([gzip.compress(block) for block in _huge(size)]) + gzip.flush()
