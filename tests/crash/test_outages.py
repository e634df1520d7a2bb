"""
A server that is away for two hours, and a thousand grants: none is lost, and nobody storms it when it is back.

That many with ALL_MOMENTS=1 in the environment (``make test-crash``), and twenty at a twentieth of the rate without.

Two hours are too long to wait, so the loop's clock jumps (``tests.jumping``). Real is everything between the
session and the disk: Lifecycle, Registry, Grants, breakers, limiters, the vault of grants and the store in SQLite
with its syncs, which is written on the loop and not by a thread of its own, because a clock that jumps does not
wait for threads. Not real are the clock and the session, which answers as a server with refresh tokens does, as a
proxy before it, and as the transport says it when a handshake fails: with its own translation of what ssl raises.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broker.errors import BrokerError
from broker.events import GrantEnded
from broker.oauth.client import RefreshRotation
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import RefreshToken
from broker.storage.vault import Place, Vault, open_vault
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.exchange import Exchange
from broker.tokens.grant import Grant, Phase, Rotation
from broker.tokens.storing import Change, Durability, Put, StoredRecord
from broker.transport.failures import Progress, translate
from broker.wiring.lifecycle import Lifecycle, lifecycle_of
from broker.wiring.proof_keys import ProofKeys
from tests.fakes import WALL_AT_BOOT, Events, LoopClock
from tests.jumping import JumpingLoop
from tests.unit.storage.plain import PlainSealer
from tests.unit.tokens.grant_world import ISSUER, SPEC, GrantMetadata, RotatingServer
from tests.unit.tokens.world import CLIENT, OTHER_THUMBPRINT, FakeSigner

ALL = bool(os.environ.get("ALL_MOMENTS"))

GRANTS = 1_000 if ALL else 20
LIFETIME = 600
RATE = 20 if ALL else 1
"""Requests in a second that the issuer's configuration allows."""

OUTAGE = 7_200.0
RECOVERY = 400.0
"""Seconds after which all is as it was: backoff adds a minute to the turns of all grants, a slow retry up to 900."""

Record = Callable[[str, object], None]


class RandomDice:
    """Chances that differ, and are the same in each run."""

    def __init__(self) -> None:
        self._state = 12_345
        self.count = 0

    def uniform(self) -> float:
        self._state = (self._state * 1_103_515_245 + 12_345) % 2**31
        return self._state / 2**31

    def token(self, nbytes: int) -> str:
        self.count += 1
        return f"random-{self.count}"


@dataclass
class InlineStore:
    """Implements ``storing.Store`` with the real file, written by the loop."""

    vault: Vault
    commits: int = 0

    @property
    def durability(self) -> Durability:
        return "durable"

    @property
    def rolled_back(self) -> bool:
        return self.vault.rolled_back

    def records(self, kind: str = "") -> Mapping[str, StoredRecord]:
        return {record.name: record for record in self.vault.records(kind)}

    async def write(self, changes: Sequence[Change]) -> None:
        if changes:
            self.commits += 1
            self.vault.commit(changes)
            self.vault.tidy()
        await asyncio.sleep(0)

    async def prove_writable(self) -> None:
        self.vault.hold_reserve()
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.vault.close()


@dataclass
class Server:
    """The server and what stands before it: the session of the client, with an *obstacle* while there is one."""

    families: RotatingServer
    thumbprint: str | None
    not_after: float | None = None
    obstacle: Callable[[], Response | BrokerError | None] = lambda: None
    processes: bool = False
    at: list[float] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.at.append(asyncio.get_running_loop().time())
        obstacle = self.obstacle()
        if obstacle is None or self.processes:
            answer = await self.families.send(request)
        else:
            await asyncio.sleep(self.families.delay)
        if isinstance(obstacle, BrokerError):
            raise obstacle
        return obstacle or answer

    def most_in_a_second(self, since: float) -> int:
        """Count the requests of the fullest second after *since*."""
        times = sorted(at for at in self.at if at >= since)
        return max((sum(first <= at < first + 1.0 for at in times[n : n + 200]) for n, first in enumerate(times)))


@dataclass
class World:
    """A broker with a thousand grants."""

    server: Server
    life: Lifecycle
    store: InlineStore
    events: Events
    clock: LoopClock
    rotation: RefreshRotation
    dice: RandomDice

    def registrations(self, server: Server) -> dict[str, Registration]:
        exchange = Exchange(session=server, signer=FakeSigner(), clock=self.clock, randomness=self.dice)
        issuer = replace(ISSUER, refresh_rotation=self.rotation, max_requests_per_second=RATE)
        return {"app": Registration(client=CLIENT, issuer=issuer, metadata=GrantMetadata(), exchange=exchange)}

    def states(self) -> Counter[str]:
        return Counter(self.life.grants.status(f"g-{number}").state for number in range(GRANTS))

    def stored(self) -> list[Grant]:
        return [Grant.from_bytes(record.value) for record in self.store.records().values()]


def on_jumping_loop(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(story)


@asynccontextmanager
async def world_of(directory: Path, mode: str, server: Server) -> AsyncIterator[World]:
    directory.mkdir(mode=0o700)
    clock, events, dice = LoopClock(), Events(), RandomDice()
    store = InlineStore(open_vault(Place(directory=directory, sealer=PlainSealer(), wall=clock.wall)))
    grants = [
        Grant(
            id=f"g-{number}",
            token="person",
            owner="app",
            issuer="https://as.example",
            client_id="app-1",
            created_at=1.0,
            refresh_token=RefreshToken(server.families.issue(f"g-{number}")),
        )
        for number in range(GRANTS)
    ]
    await store.write([Put(name=f"grant/{grant.id}", value=grant.to_bytes()) for grant in grants])
    world = World(
        server=server,
        life=None,  # type: ignore[arg-type] # made of the registrations, in the next statement
        store=store,
        events=events,
        clock=clock,
        rotation=RefreshRotation(mode),
        dice=dice,
    )
    acquirer = Acquirer(clock=clock, randomness=dice, fingerprint=lambda _: "fp")
    world.life = lifecycle_of(
        [SPEC],
        world.registrations(server),
        acquirer=acquirer,
        store=store,
        proof_keys=ProofKeys(store, clock=clock, randomness=dice, emit=events),
        emit=events,
    )
    world.life.restore()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run()) for run in world.life.runs().values()]
        await asyncio.sleep(0)
        try:
            yield world
        finally:
            for task in tasks:
                task.cancel()
    await store.close()


def bad_gateway() -> Callable[[], Response]:
    """Answer as a proxy whose server is away: 502 and 504 in turn, in HTML."""
    statuses = iter(range(1_000_000))
    return lambda: Response(
        status=(502, 504)[next(statuses) % 2], headers={"content-type": "text/html"}, body=b"<h1>Bad gateway</h1>"
    )


def certificate_refused() -> BrokerError:
    """Say what the transport says when the server's alert ends the handshake of an expired certificate."""
    alert = ssl.SSLError(1, "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired")
    alert.reason = "SSLV3_ALERT_CERTIFICATE_EXPIRED"
    error = aiohttp.ClientOSError(1, "alert")
    error.__cause__ = alert
    progress = Progress(secured=True, presents_certificate=True, connected=True, written=True)
    return translate(error, progress, certificate_expired=True)


def table(world: World, title: str, began: float, ended: float, recovered: float) -> str:
    during = [at for at in world.server.at if began <= at < ended]
    return "\n".join(
        (
            f"{title}: {GRANTS} grants, tokens of {LIFETIME} s, at most {RATE} requests in a second",
            f"  requests in the outage of {OUTAGE:.0f} s {len(during):6}",
            f"  in the fullest second after it   {world.server.most_in_a_second(ended):6}",
            f"  all refreshed after              {recovered - ended:6.0f} s",
            f"  ended grants                     {len(world.events.of(GrantEnded)):6}",
            f"  commits to the store             {world.store.commits:6}",
        )
    )


async def recovered(world: World) -> float:
    """Wait until every grant is fresh again; give when that was."""
    now = asyncio.get_running_loop().time
    deadline = now() + RECOVERY
    while world.states() != {"fresh": GRANTS}:
        assert now() < deadline, world.states()
        await asyncio.sleep(1.0)
    return now()


def check(world: World, ended: float) -> None:
    """See that nobody's consent was lost: not here, not in the store and not at the server."""
    assert world.events.of(GrantEnded) == []
    assert len(world.stored()) == GRANTS
    for grant in world.stored():
        assert grant.phase is Phase.SETTLED
        assert grant.refresh_token is not None
        assert grant.refresh_token.reveal() == world.server.families.alive(grant.id)
    assert world.server.families.dead == set()
    assert world.server.most_in_a_second(ended) <= RATE


@pytest.mark.parametrize("mode", ["never", "grace", "strict"])
def test_two_hours_behind_a_proxy_without_its_server_cost_no_grant(
    mode: str, tmp_path: Path, record_property: Record
) -> None:
    """
    502 and 504 say nothing about what became of a request, and still no grant ends.

    Where the server takes an old refresh token again it had processed some of them: the worst that can be.
    """

    async def story() -> None:
        server = Server(RotatingServer(mode, expires_in=LIFETIME), thumbprint=RotatingServer().thumbprint)
        async with world_of(tmp_path / "state", mode, server) as world:
            await recovered(world)
            began = asyncio.get_running_loop().time()
            server.obstacle = bad_gateway()
            server.processes = mode == "grace"
            await asyncio.sleep(OUTAGE / 2)
            assert "fresh" not in world.states()
            server.processes = False
            await asyncio.sleep(OUTAGE / 2)
            assert world.states().keys() == {"unavailable"}
            server.obstacle = lambda: None
            ended = asyncio.get_running_loop().time()
            back = await recovered(world)
            await asyncio.sleep(LIFETIME)

            assert world.states().keys() <= {"fresh", "stale"}
            record_property("table", table(world, f"502 and 504, refresh tokens: {mode}", began, ended, back))
            check(world, ended)
            if mode != "never":
                assert {grant.rotation for grant in world.stored()} == {Rotation.ROTATES}

    on_jumping_loop(story())


@pytest.mark.parametrize("mode", ["grace", "strict"])
def test_two_hours_with_an_expired_certificate_cost_no_grant(
    mode: str, tmp_path: Path, record_property: Record
) -> None:
    """The breaker holds the grants back while nothing can go well, and a new certificate frees them."""

    async def story() -> None:
        first = RotatingServer(mode, expires_in=LIFETIME)
        server = Server(first, thumbprint=first.thumbprint, not_after=WALL_AT_BOOT + 10**6)
        async with world_of(tmp_path / "state", mode, server) as world:
            await recovered(world)
            began = asyncio.get_running_loop().time()
            server.not_after = world.clock.wall()
            server.obstacle = certificate_refused
            await asyncio.sleep(OUTAGE)
            assert world.states().keys() == {"unavailable"}
            reasons = Counter(world.life.grants.status(f"g-{number}").reason for number in range(GRANTS))
            assert reasons.keys() <= {Reason.CERTIFICATE_EXPIRED, Reason.CLIENT_SUSPENDED}
            assert len([at for at in server.at if at >= began]) <= OUTAGE / 60 + 2 * RATE

            first.thumbprint = OTHER_THUMBPRINT
            mended = replace(server, thumbprint=OTHER_THUMBPRINT, not_after=WALL_AT_BOOT + 10**6, obstacle=lambda: None)
            world.server = mended
            ended = asyncio.get_running_loop().time()
            world.life.replace([SPEC], world.registrations(mended))
            back = await recovered(world)
            await asyncio.sleep(LIFETIME)

            assert world.states().keys() <= {"fresh", "stale"}
            record_property("table", table(world, f"expired certificate, refresh tokens: {mode}", began, ended, back))
            check(world, ended)

    on_jumping_loop(story())
