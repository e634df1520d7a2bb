"""
The resource API: it says who calls, streams bodies either way, and tells what of a request reached it.

Everything wants an access token that is good on its connection (``resource``). Bodies are never held whole,
however large, apart from those that a fault is to spoil. Each request is in the journal with what it showed,
those for paths that do not exist, too: nothing gets here unseen.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import Fault
from broker.sandbox.misbehaving import DELIVERIES, INSTEAD, deliver
from broker.sandbox.resource import AccessRefusedError, Guard, Presented
from broker.sandbox.responding import NO_STORE, Responding, Seen, presented_by
from broker.sandbox.streaming import MAX_PACE, MAX_SIZE, pattern, received, sent
from broker.sandbox.wire_misbehaving import leaking

MAX_TARGET = 2_000
"""Characters of a target that the journal keeps."""

BINARY = "application/octet-stream"

_TOKEN_IN_QUERY = re.compile(r"((?:^|[?&])access_token=)[^&]*")


class BadQueryError(ValueError):
    """A parameter of the query makes no sense; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that was let in: what it *presented*, the *claims* of its token, the *fault* that it meets."""

    request: web.Request
    presented: Presented
    claims: Mapping[str, Any] = field(repr=False)
    fault: Fault | None

    @property
    def pace(self) -> int | None:
        """Give the bytes a second that bodies shall have; None: as fast as it goes. Raises BadQueryError."""
        return _number(self.request.query.get("pace"), "pace", 1, MAX_PACE)


Work = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRoutes:
    """Answers requests that *guard* lets in."""

    guard: Guard
    responding: Responding

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add all routes, and one for every other path."""
        router.add_get("/api/hello", self._guarded(self._hello))
        router.add_get("/api/bytes/{size:[0-9]+}", self._guarded(self._bytes))
        router.add_get("/api/leaks", self._guarded(self._leaks))
        for method in ("POST", "PUT"):
            router.add_route(method, "/api/echo", self._guarded(self._echo))
        router.add_post("/api/count", self._guarded(self._count))
        router.add_route("*", "/api/request{rest:(/.*)?}", self._guarded(self._request))
        router.add_route("*", "/{rest:.*}", self._nothing)

    def _guarded(self, work: Work) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            presented = presented_by(request)
            fault = await self.responding.meet(request, Where.RESOURCE)
            if fault is not None and fault.kind in INSTEAD:
                self._record(request, presented, fault, status=fault.parameters.get("status"), outcome="fault")
                return await INSTEAD[fault.kind](self.responding.scene(request), fault)
            try:
                claims = self.guard.admit(presented, now=self.responding.wall())
            except AccessRefusedError as refusal:
                return await self._refuse(request, presented, fault, refusal)
            try:
                return await work(Call(request=request, presented=presented, claims=claims, fault=fault))
            except BadQueryError as error:
                self._record(request, presented, fault, status=400, outcome="invalid_request", reason=str(error))
                return web.json_response({"error": "invalid_request", "error_description": str(error)}, status=400)

        return handle

    async def _hello(self, call: Call) -> web.StreamResponse:
        claims = call.claims
        hello = {"message": "hello", "client_id": claims["client_id"], "scope": claims["scope"]}
        person = {} if claims["sub"] == claims["client_id"] else {"subject": claims["sub"]}
        return await self._answer(call, {**hello, **person, "certificate": call.presented.certificate})

    async def _bytes(self, call: Call) -> web.StreamResponse:
        size = _number(call.request.match_info["size"], "the size", 0, MAX_SIZE) or 0
        pace, chunked = call.pace, call.request.query.get("chunked") == "1"
        self._recorded(call)
        if call.fault is not None and call.fault.kind in DELIVERIES:
            return await self._spoilt(call, b"".join(pattern(size)))
        response = await _begun(call, BINARY, None if chunked else size)
        async with self._watched(call):
            await sent(response, pattern(size), pace=pace)
        return response

    async def _echo(self, call: Call) -> web.StreamResponse:
        request, pace = call.request, call.pace
        self._recorded(call)
        if call.fault is not None and call.fault.kind in DELIVERIES:
            return await self._spoilt(call, b"".join([block async for block in received(request.content, pace=pace)]))
        response = await _begun(call, request.headers.get("Content-Type", BINARY), request.content_length)
        async with self._watched(call) as progress:
            async for block in received(request.content, pace=pace):
                progress.body_bytes += len(block)
                await response.write(block)
        return response

    async def _count(self, call: Call) -> web.StreamResponse:
        return await self._answer(call, await self._swallowed(call))

    async def _request(self, call: Call) -> web.StreamResponse:
        request = call.request
        body = await self._swallowed(call)
        revealed = request.query.get("reveal") == "1"
        said = {
            "method": request.method,
            "target": request.raw_path if revealed else _target(request),
            "version": f"{request.version.major}.{request.version.minor}",
            "headers": [[name, value if revealed else _veiled(name, value)] for name, value in _headers(request)],
            "certificate": call.presented.certificate,
            "token": call.presented.fingerprint(),
            "body_bytes": body["bytes"],
            "body_sha256": body["sha256"],
        }
        return await self._answer(call, said, body_bytes=body["bytes"])

    async def _leaks(self, call: Call) -> web.StreamResponse:
        self._recorded(call)
        return leaking(self.responding.scene(call.request))

    async def _nothing(self, request: web.Request) -> web.StreamResponse:
        self._record(request, presented_by(request), None, status=404, outcome="not_found")
        return web.json_response({"error": "invalid_request"}, status=404)

    async def _swallowed(self, call: Call) -> dict[str, Any]:
        """Read the body, keeping nothing of it but its length and digest."""
        digest, pace = hashlib.sha256(), call.pace
        async with self._watched(call) as progress:
            async for block in received(call.request.content, pace=pace):
                digest.update(block)
                progress.body_bytes += len(block)
        return {"bytes": progress.body_bytes, "sha256": digest.hexdigest()}

    async def _answer(self, call: Call, body: dict[str, Any], *, body_bytes: int | None = None) -> web.StreamResponse:
        self._recorded(call, body_bytes=body.get("bytes", 0) if body_bytes is None else body_bytes)
        return await deliver(self.responding.scene(call.request), call.fault, 200, body, NO_STORE)

    async def _spoilt(self, call: Call, body: bytes) -> web.StreamResponse:
        assert call.fault is not None
        return await DELIVERIES[call.fault.kind](self.responding.scene(call.request), call.fault, 200, body)

    async def _refuse(
        self, request: web.Request, presented: Presented, fault: Fault | None, refusal: AccessRefusedError
    ) -> web.StreamResponse:
        error = refusal.error or "unauthorized"
        self._record(request, presented, fault, status=refusal.status, outcome=error, reason=refusal.reason)
        body = {"error": error, "error_description": refusal.reason}
        headers = {**NO_STORE, "WWW-Authenticate": refusal.challenge()}
        return await deliver(self.responding.scene(request), fault, refusal.status, body, headers)

    @asynccontextmanager
    async def _watched(self, call: Call) -> AsyncIterator[Progress]:
        """Record that *call* ended before its end, if it does."""
        progress = Progress()
        try:
            yield progress
            progress.ended = True
        finally:
            if not progress.ended:
                self._recorded(call, outcome="aborted", body_bytes=progress.body_bytes)

    def _recorded(self, call: Call, *, outcome: str = "ok", body_bytes: int = 0) -> None:
        self._record(call.request, call.presented, call.fault, status=200, outcome=outcome, body_bytes=body_bytes)

    def _record(
        self,
        request: web.Request,
        presented: Presented,
        fault: Fault | None,
        *,
        status: int | None,
        outcome: str,
        **more: Any,
    ) -> None:
        binding = self.guard.binding(presented)
        self.responding.record(
            request,
            Seen(endpoint="resource"),
            outcome=outcome,
            fault=fault,
            client=binding.client,
            target=_target(request),
            status=status,
            token=presented.fingerprint(),
            cnf=binding.cnf,
            matched=binding.matched,
            **more,
        )


@dataclass(slots=True)
class Progress:
    """How far the body of a request was read, and whether all was."""

    body_bytes: int = 0
    ended: bool = False


async def _begun(call: Call, content_type: str, length: int | None) -> web.StreamResponse:
    response = web.StreamResponse(headers={**NO_STORE, "Content-Type": content_type})
    if length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    await response.prepare(call.request)
    return response


def _number(text: str | None, name: str, least: int, most: int) -> int | None:
    if text is None:
        return None
    # The length is looked at first: int() of a long text takes its time.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
        raise BadQueryError(f"{name} must be an integer from {least} to {most}")
    return int(text)


def _target(request: web.Request) -> str:
    """Give the target as it came, but for an access token in its query."""
    return _TOKEN_IN_QUERY.sub(r"\1...", request.raw_path)[:MAX_TARGET]


def _headers(request: web.Request) -> list[tuple[str, str]]:
    """Give the fields in order, repeated ones too, with their names as they were written."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]


def _veiled(name: str, value: str) -> str:
    match name.lower():
        case "authorization":
            return value.partition(" ")[0]
        case "dpop":
            return "present"
        case _:
            return value
