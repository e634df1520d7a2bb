"""
Two servers that differ in nothing but the fast path, fed the same bytes by clocks that stand still together.

Real sockets, the real registry with tokens that are put into it, a real audit log on a real file and real metrics;
all in one process and on one loop, so that "nothing more comes" is known after some turns of the loop, and no test
waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from broker.api.desk import UNROUTED
from broker.api.limits import Limits
from broker.api.listeners import UnixListener
from broker.api.routes import API_ROUTES
from broker.api.server import ApiServer
from broker.policy.rules import Policy, Workload
from broker.telemetry.audit import open_audit
from broker.telemetry.logs import open_log
from broker.telemetry.metrics import Metrics
from broker.telemetry.sink import Telemetry
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.exchange import Exchange
from broker.tokens.keeper import Keeper
from broker.tokens.passage import Passage
from broker.tokens.registry import Registry
from broker.tokens.spec import IssuedToken
from broker.tokens.state import State
from tests.fakes import Dice, Events, HandClock
from tests.unit.telemetry.audit_logs import KEY, FailingDisk
from tests.unit.tokens.tokens import issued, spec
from tests.unit.tokens.world import CLIENT, ISSUER, FakeMetadata, FakeSession, FakeSigner

QUIET_TURNS = 16
"""Turns of the loop without a byte after which nothing more comes: a request takes less than ten."""

NAMES = ("directory", "ledger", "payments")

APP = Workload(name="app", listeners=frozenset({"app"}), tokens=frozenset({"directory", "ledger"}))
"""Whoever can open the socket; ``payments`` is nobody's."""

LIMITS = Limits(max_requests_per_second_per_uid=1_000_000)

TIME = re.compile(rb"^Date: [^\r]*\r\n", re.MULTILINE)
"""What aiohttp writes by the real clock."""


@dataclass
class Side:
    """One of the two."""

    directory: Path
    fast: bool
    limits: Limits = LIMITS
    clock: HandClock = field(default_factory=HandClock)
    disk: FailingDisk = field(default_factory=FailingDisk)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        self.metrics = Metrics()
        self.metrics.expect(tokens=NAMES, routes=(*(route.template for route in API_ROUTES), UNROUTED))
        self.audit = open_audit(
            self.directory / "audit.log",
            key=KEY,
            on_failure="refuse",
            clock=self.clock,
            randomness=Dice(),
            emit=Events(),
            disk=self.disk,
        )
        self.log = StringIO()
        logs = open_log(self.log, "error", clock=self.clock)
        self.telemetry = Telemetry(logs=logs, metrics=self.metrics, audit=self.audit, clock=self.clock)
        self.registry = self._registry()
        self.server = ApiServer(
            [UnixListener(name="app", path=self.path)],
            policy=Policy(workloads=(APP,), own_uid=2**31),
            tokens=self.registry,
            emit=self.telemetry.emit,
            clock=self.clock,
            randomness=Dice(),
            limits=self.limits,
            takes_records=lambda: self.audit.takes_records,
            fast_path=self.fast,
        )

    def _registry(self) -> Registry:
        emit, dice = self.telemetry.emit, Dice()
        exchange = Exchange(session=FakeSession(), signer=FakeSigner(), clock=self.clock, randomness=dice)
        registration = Registration(client=CLIENT, issuer=ISSUER, metadata=FakeMetadata(), exchange=exchange)
        return Registry(
            [spec(name) for name in NAMES],
            {CLIENT.name: registration},
            acquirer=Acquirer(clock=self.clock, randomness=dice, fingerprint=self.audit.fingerprint),
            clock=self.clock,
            randomness=dice,
            emit=emit,
            passage=Passage(clock=self.clock, emit=emit),
        )

    @property
    def path(self) -> Path:
        return self.directory / "api.sock"

    def keeper(self, name: str = "directory") -> Keeper:
        return self.registry._keepers[name]

    def put(self, state: State, name: str = "directory") -> None:
        """Let the token *name* stand like this."""
        self.keeper(name).state = state

    def allow(self, *workloads: Workload) -> None:
        self.server.replace_policy(Policy(workloads=workloads, own_uid=2**31))

    def counted(self) -> list[str]:
        """Give all series of the broker."""
        page, _ = self.metrics.render()
        return [line for line in page.decode().splitlines() if line.startswith("token_broker_")]

    def recorded(self) -> bytes:
        return (self.directory / "audit.log").read_bytes()


@contextlib.asynccontextmanager
async def two_sides(directory: Path, *, limits: Limits = LIMITS) -> AsyncIterator[tuple[Side, Side]]:
    """Run both: the one without, and the one with the fast path."""
    sides = Side(directory / "plain", fast=False, limits=limits), Side(directory / "fast", fast=True, limits=limits)
    async with asyncio.TaskGroup() as group:
        for side in sides:
            side.server.open()
            group.create_task(side.server.run())
        try:
            yield sides
        finally:
            for side in sides:
                await side.server.drain(1.0)
                side.telemetry.close()


@dataclass
class Line:
    """A connection to a side, in bytes and turns of the loop."""

    connection: socket.socket
    received: bytes = b""
    ended: bool = False

    async def send(self, piece: bytes) -> None:
        """Send all of *piece*, unless the other side is gone, and wait until nothing more comes."""
        while piece and not self.ended:
            try:
                piece = piece[self.connection.send(piece) :]
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                break
            if piece:
                await asyncio.sleep(0)
                self._take()
        await self.settle()

    async def settle(self) -> None:
        """Turn the loop until nothing more comes."""
        quiet = 0
        while quiet < QUIET_TURNS and not self.ended:
            await asyncio.sleep(0)
            quiet = 0 if self._take() else quiet + 1

    def _take(self) -> bool:
        try:
            piece = self.connection.recv(262_144)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            piece = b""
        self.received += piece
        self.ended = not piece
        return True


@contextlib.asynccontextmanager
async def connected(side: Side) -> AsyncIterator[Line]:
    """Connect to *side*."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        connection.connect(os.fspath(side.path))
        yield Line(connection)
    for _ in range(QUIET_TURNS):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Outcome:
    """What a caller saw: the answers without their dates, and whether the connection has ended."""

    answers: bytes
    ended: bool


async def exchange(side: Side, pieces: Iterable[bytes]) -> Outcome:
    """Send *pieces* one after the other on a connection of their own."""
    async with connected(side) as line:
        for piece in pieces:
            await line.send(piece)
    return Outcome(TIME.sub(b"", line.received), line.ended)


async def on_both(sides: Sequence[Side], pieces: Sequence[bytes]) -> Outcome:
    """Send *pieces* to both, fail where they differ, and give what came."""
    plain, fast = [await exchange(side, pieces) for side in sides]
    assert fast == plain, (pieces, plain, fast)
    return plain


def agree(sides: Sequence[Side]) -> None:
    """Fail unless both have recorded and counted the same."""
    plain, fast = sides
    assert fast.counted() == plain.counted()
    assert fast.recorded() == plain.recorded()
    assert fast.log.getvalue() == plain.log.getvalue()


def token(generation: int = 1, *, at: float, lifetime: float = 300.0, name: str = "directory") -> IssuedToken:
    """A token that was obtained at *at*."""
    return issued(at=at, lifetime=lifetime, generation=generation, name=name)
