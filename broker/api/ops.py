"""
The ops listener: health and metrics over TCP, for probes and scrapers that cannot open a Unix socket.

It hands out no token and knows no caller, so it has none of the header rules; everything on it is for
whoever can reach it, which is why it listens on the loopback address unless the configuration says otherwise.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache

from broker.api.answers import Answer
from broker.api.desk import Desk
from broker.api.limits import Limits
from broker.api.openapi import description_of
from broker.api.readiness import one_answer, readiness, readiness_answer
from broker.api.routes import DESCRIPTION, LIVE, ONE_READY, READY, live
from broker.api.service import Listening, Service
from broker.api.table import Call, Reply, Route
from broker.errors import LocalError
from broker.events import Emit, ListenerOpened
from broker.policy.peer import Peer
from broker.tokens.ports import Clock, Randomness, TokenSource

LISTENER = "ops"
"""The name of this listener in events."""

BACKLOG = 64
"""Connections that may wait to be accepted: a few probes and scrapers."""

METRICS = "text/plain; version=0.0.4; charset=utf-8"
"""What Prometheus wants metrics to be called; whoever renders them says so, too."""

OPS_LIMITS = Limits(max_connections=64, max_connections_per_uid=64, idle_timeout=2.0)
"""
Callers over TCP have no uid: they share the places, so an idle connection gives its place up soon.

Scrapers and probes ask every few seconds and connect anew.
"""

Render = Callable[[], Awaitable[tuple[bytes, str]]]
"""Gives the metrics as bytes and their content type, and lets others have their turn meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsWorld:
    """What the handlers of the ops listener work with."""

    tokens: TokenSource
    render: Render
    sandbox: Callable[[], Sequence[str]]


async def ready(world: OpsWorld, _call: Call) -> Answer:
    """Say whether the required tokens are there, and how all of them stand."""
    names = world.tokens.names()
    return readiness_answer(await readiness(world.tokens, world.sandbox(), names), names)


async def ready_one(world: OpsWorld, call: Call) -> Answer:
    """Say whether one token is there."""
    return one_answer(world.tokens, call.name, world.tokens.names())


async def metrics(world: OpsWorld, _call: Call) -> Answer:
    """Give the metrics."""
    body, content_type = await world.render()
    return Answer(content_type=content_type, body=body)


async def describe(_world: object, _call: Call) -> Answer:
    """Give the OpenAPI document of these routes."""
    return _description()


OPS_ROUTES: tuple[Route[OpsWorld], ...] = (
    Route(method="GET", template="/livez", handler=live, summary="The listener is serving.", replies=LIVE),
    Route(
        method="GET",
        template="/readyz",
        handler=ready,
        summary="Every required token can be served.",
        replies=READY,
    ),
    Route(
        method="GET",
        template="/readyz/{name}",
        handler=ready_one,
        summary="One token can be served.",
        replies=ONE_READY,
        errors=(404,),
    ),
    Route(
        method="GET",
        template="/metrics",
        handler=metrics,
        summary="Metrics in the Prometheus text format.",
        replies=(Reply(meaning="All metrics.", shape="Metrics", media_types=(METRICS,)),),
    ),
    Route(method="GET", template="/openapi.json", handler=describe, summary="This document.", replies=DESCRIPTION),
)


@cache
def _description() -> Answer:
    return description_of(OPS_ROUTES, "Token Broker: ops listener", with_secret=False)


class OpsServer:
    """Serves ``OPS_ROUTES`` on a TCP address; lives as ``ApiServer`` does."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tokens: TokenSource,
        render: Render,
        emit: Emit,
        clock: Clock,
        randomness: Randomness,
        limits: Limits = OPS_LIMITS,
        sandbox: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Take what the listener works with; *host* is an IP address without brackets. Opens nothing yet."""
        self._host = host
        self._port = port
        self._limits = limits
        self._emit = emit
        self._desk = Desk(
            OPS_ROUTES,
            OpsWorld(tokens=tokens, render=render, sandbox=sandbox),
            header_rules=None,
            emit=emit,
            clock=clock,
            randomness=randomness,
        )
        self._socket: socket.socket | None = None
        self._service: Service | None = None

    @property
    def port(self) -> int:
        """The port it listens on; after ``open`` a configured 0 has become a real one."""
        return self._port

    def open(self) -> None:
        """Listen. Raises LocalError ``ops_listener_failed``; to be called on the running loop."""
        self._service = Service(self._desk, limits=self._limits, emit=self._emit)
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        where = f"[{self._host}]" if family == socket.AF_INET6 else self._host
        try:
            self._socket = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "unknown error"
            raise LocalError(
                "ops_listener_failed",
                f"the ops listener cannot be opened on {where}:{self._port}: {reason}",
                hint="choose another address in [ops] listen",
            ) from error
        self._socket.setblocking(False)
        self._port = self._socket.getsockname()[1]
        self._emit(ListenerOpened(listener=LISTENER, address=f"http://{where}:{self._port}"))

    async def run(self) -> None:
        """Answer until ``drain``, or until cancelled."""
        if self._service is None or self._socket is None:
            raise RuntimeError("open() comes first")
        await self._service.run([Listening(name=LISTENER, sock=self._socket, identify=_nobody)])

    async def drain(self, seconds: float) -> None:
        """Take no more connections and let what runs finish, for *seconds* at most; then everything is closed."""
        try:
            if self._service is not None:
                await self._service.drain(seconds)
        finally:
            if self._socket is not None:
                self._socket.close()
                self._socket = None


def _nobody(_connection: socket.socket) -> Peer:
    """Give the peer of a TCP connection: the kernel says nothing about it."""
    return Peer(listener=LISTENER)
