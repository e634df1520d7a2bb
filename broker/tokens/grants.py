"""
All grants by id, with one heap, one timer and one task group for them: what ``registry`` is for tokens without
a person.

A task exists only while an attempt runs, and an attempt that was begun is never cancelled: its answer may hold
the only refresh token there is. The store is written by the vault alone; whatever an attempt brings is first
compared with what became of the grant meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NoReturn

from broker.errors import LocalError
from broker.events import Emit, GrantRevived, GrantUnreadable
from broker.tokens import grant_state as table
from broker.tokens.acquire import Registration
from broker.tokens.alarms import Alarms
from broker.tokens.grant import Grant, Phase, with_access
from broker.tokens.grant_attempts import GrantAttempts
from broker.tokens.grant_index import GrantIndex
from broker.tokens.grant_keeper import GrantKeeper, unsealed
from broker.tokens.grant_serving import GrantServing
from broker.tokens.ports import Clock, Fingerprint, Randomness, Session
from broker.tokens.refreshing import Refresher
from broker.tokens.revoking import Outcome, Revocations
from broker.tokens.spec import IssuedToken, TokenSpec
from broker.tokens.trials import Trials
from broker.tokens.vault import RETRY_INTERVAL
from broker.tokens.warnings import Warnings

AT_ONCE = 50
"""Grants that are looked at before others have their turn: some milliseconds, attempts that begin among them."""

STOP_GRACE = 15.0
"""Seconds that an orderly stop waits for attempts that were begun: longer than a request may take to be answered."""


class Grants(GrantServing):
    """Implements ``source.GrantSource``."""

    def __init__(
        self,
        specs: Iterable[TokenSpec],
        registrations: Mapping[str, Registration],
        *,
        refresher: Refresher,
        randomness: Randomness,
        emit: Emit,
    ) -> None:
        """Keep the grants of those of *specs* that ask a person; *registrations* by the name of the client."""
        self._specs = _consented(specs)
        self._registrations = dict(registrations)
        self._refresher = refresher
        self._vault = refresher.vault
        self._clock: Clock = refresher.acquirer.clock
        self._fingerprint: Fingerprint = refresher.acquirer.fingerprint
        self._randomness = randomness
        self._emit = emit
        self._keepers = GrantIndex()
        super().__init__(self._keepers, clock=self._clock, passage=refresher.passage)
        # Grants whose token is not configured, or with another client: kept for when it is again. A keeper where
        # there was one: an attempt that it began may still bring the newest refresh token.
        self._strangers: dict[str, GrantKeeper | Grant] = {}
        self._alarms = Alarms(self._clock)
        self._warnings = Warnings(clock=self._clock, emit=emit)
        self._running: dict[asyncio.Task[None], Session] = {}
        self._unblocked: set[str] = set()
        self._revocations = Revocations(
            vault=self._vault,
            acquirer=refresher.acquirer,
            passage=refresher.passage,
            registration_of=self._registration_of,
            emit=emit,
        )
        self._trials = Trials(
            registrations,
            keepers=self._keepers,
            clock=self._clock,
            passage=refresher.passage,
            emit=emit,
            settle=self.handle,
            wake=self._alarms.set,
        )
        self._attempts = GrantAttempts(
            refresher=refresher,
            keepers=self._keepers,
            randomness=randomness,
            emit=emit,
            settle=self.handle,
            bury=self._revocations.bury,
            count=self._count_of,
            tried=self._trials.ended,
        )
        self._group: asyncio.TaskGroup | None = None
        refresher.passage.on_resumed(self._attempts.unblock)

    async def hold(self, grant: Grant) -> None:
        """Make a grant durable that is still to be verified: not usable, and revoked after a crash (R4)."""
        await self._vault.keep(replace(grant, phase=Phase.UNVERIFIED))

    async def adopt(self, grant: Grant, token: IssuedToken, *, held: str) -> None:
        """
        Take a verified grant into use, new or under the id of an older one; *held* is the id it was held by.

        Raises LocalError ``grant_given_up`` when the older one was, meanwhile.
        """
        grant = replace(
            with_access(grant, token, wall=self._clock.wall(), boot=self._clock.boot()),
            phase=Phase.SETTLED,
            reason=None,
        )
        if held == grant.id:
            await self._vault.keep(grant)
            self._take_over(grant, token, None)
            return
        keeper = self._keepers.get(grant.id)
        if keeper is None or keeper.renewing:
            raise _given_up()
        keeper.renewing = True
        try:
            await self._vault.keep_instead(grant, held)
        finally:
            keeper.renewing = False
        if keeper.revoking:
            raise _given_up()
        self._take_over(replace(grant, owner=keeper.grant.owner), token, keeper)

    def _take_over(self, grant: Grant, token: IssuedToken, keeper: GrantKeeper | None) -> None:
        """Serve what is durable; of a token that a reload took away, keep it for when it is there again."""
        self._vault.trust(grant.id)
        if keeper is None:
            if not self._is_of(grant):
                self._strangers[grant.id] = grant
                return
            keeper = self._keeper(self._specs[grant.token])
            self._keepers.add(grant.id, keeper)
        keeper.begin_with(grant, token)
        if self._keepers.get(grant.id) is keeper:
            self.set_alarm(keeper)
            self._trials.welcome(keeper)

    async def discard(self, grant: Grant) -> None:
        """Give up a grant that failed a check: revoked at the issuer and erased (R4)."""
        await self._revocations.begin(grant)

    async def revoke(self, grant_id: str) -> Outcome:
        """Stop serving a grant at once, and revoke it; raises KeyError."""
        keeper = self._keepers.pop(grant_id)
        self._warnings.forget(grant_id)
        self._trials.forget(keeper)
        keeper.revoking = True
        keeper.announce()
        return await self._revocations.begin(keeper.grant)

    async def end_session_url(self, grant: Grant) -> str | None:
        """Give the URL at which the person logs out at the server: as ``Revocations.end_session_url``."""
        return await self._revocations.end_session_url(grant)

    def is_saved(self, grant_id: str) -> bool:
        """Say whether everything about a grant, also that it is gone, is on the disk."""
        return not self._vault.is_waiting(grant_id)

    def retry(self, grant_id: str) -> None:
        """Have an ended grant tried again (R2.8). Raises KeyError."""
        keeper = self._keepers[grant_id]
        before = keeper.state
        self.handle(keeper, table.Retried())
        if keeper.state is not before:
            self._emit(
                GrantRevived(token=keeper.spec.name, grant=grant_id, client=keeper.spec.client, reason="retried")
            )
            self.handle(keeper, table.Tick())

    async def reassign(self, grant_id: str, owner: str) -> None:
        """Give a grant to another workload. Raises KeyError."""
        keeper = self._keepers[grant_id]
        keeper.revise(replace(keeper.grant, owner=owner))
        if not keeper.renewing:
            await self._vault.keep(keeper.grant)

    # --- its life ---

    def restore(self) -> None:
        """Take up what the store has: spends nothing, sends nothing."""
        grants, unreadable = self._vault.load()
        for name in unreadable:
            self._emit(GrantUnreadable(record=name))
        for grant in grants.values():
            if grant.phase in {Phase.REVOKING, Phase.UNVERIFIED}:
                self._revocations.resume(grant)
            else:
                self._take_up(grant)

    async def run(self) -> NoReturn:
        """Keep every grant, until cancelled; what was begun then is waited for."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            helpers = (
                group.create_task(self._vault.run(), name="vault"),
                group.create_task(self._revocations.run(), name="revocations"),
            )
            try:
                for grant_id, keeper in self._keepers.items():
                    self._alarms.set(grant_id, self._clock.boot())
                    self._trials.welcome(keeper)
                while True:
                    await self._ring()
                    await self._alarms.wait()
            finally:
                self._group, self._attempts.is_stopping = None, True
                # Within the group: leaving it would cancel what runs, and an attempt must be answered.
                await self._stop(*helpers)
        raise AssertionError("the loop above never ends")

    def replace(
        self,
        specs: Sequence[TokenSpec],
        registrations: Mapping[str, Registration],
        *,
        banned: frozenset[str] = frozenset(),
    ) -> tuple[asyncio.Task[None], ...]:
        """
        Go on under another configuration; gives the attempts that run with the means of the older one.

        No token is served any more that is bound to a certificate or DPoP key with one of the thumbprints *banned*,
        and nothing is signed with such a key.
        """
        under_way = tuple(self._running)
        self._specs, self._registrations = _consented(specs), dict(registrations)
        for grant_id, keeper in tuple(self._keepers.items()):
            if not self._is_of(keeper.grant):
                self._strangers[grant_id] = self._keepers.pop(grant_id)
                self._warnings.forget(grant_id)
                self._trials.forget(keeper)
                keeper.announce()
            else:
                self._adapt(keeper)
        for grant_id, stranger in tuple(self._strangers.items()):
            grant = stranger.grant if isinstance(stranger, GrantKeeper) else stranger
            if not self._is_of(grant):
                continue
            del self._strangers[grant_id]
            if isinstance(stranger, GrantKeeper):
                self._adapt(stranger)
                self._keepers.add(grant_id, stranger)
            else:
                self._take_up(grant)
        # Before anything begins under the new configuration: it would begin with the older means, which may be closed.
        self._trials.replace(self._registrations, banned)
        for keeper in tuple(self._keepers.values()):
            self._renew(keeper)
        return under_way

    def settled(self, client: str) -> Registration:
        """Give with what the server is known to take a client, as far as anything is. Raises KeyError."""
        return self._trials.settled(client)

    def needs(self, registration: Registration) -> bool:
        """Say whether any grant is refreshed with *registration*, or may still be."""
        session = registration.exchange.session
        return self._trials.needs(registration) or any(one is session for one in self._running.values())

    async def release(self) -> None:
        """Give up the older means that no grant needs any more, for ``needs``."""
        await self._trials.release()

    def reconsider(self) -> None:
        """Look at every grant again, after a clock was set or the machine slept; not at all in one moment."""
        now = self._clock.boot()
        for grant_id in self._keepers:
            self._unblocked.add(grant_id)
            self._alarms.set(grant_id, now)

    def handle(self, keeper: GrantKeeper, event: table.Event) -> None:
        """Take an event through the keeper, and do what it asks for."""
        if (self._group is None or keeper.renewing) and isinstance(event, table.Tick | table.Wanted | table.Forced):
            return  # not running yet, stopping, or about to be another's: a caller gets what is in hand
        before = keeper.state
        begin, keep = keeper.handle(event)
        if keep and not keeper.revoking and not keeper.renewing:
            self._vault.keep_soon(keeper.grant)
        if begin is not None:
            self._begin(keeper, begin)
        if keeper.state is not before and self._keepers.get(keeper.grant.id) is keeper:
            self.set_alarm(keeper)

    def _begin(self, keeper: GrantKeeper, begin: table.Begin) -> None:
        assert self._group is not None  # nothing begins before or after
        choice = self._trials.choose(keeper)
        task = self._group.create_task(
            self._attempts.make(keeper, begin, choice), name=f"refresh {keeper.spec.name} {keeper.grant.id}"
        )
        self._running[task] = choice.registration.exchange.session
        task.add_done_callback(self._running.pop)

    def _adapt(self, keeper: GrantKeeper) -> None:
        """Put a keeper under the configuration in force; nothing begins."""
        keeper.spec = self._specs[keeper.grant.token]
        keeper.issuer = self._registrations[keeper.spec.client].issuer

    def _renew(self, keeper: GrantKeeper) -> None:
        """Go on with a keeper under the configuration in force."""
        self.handle(keeper, table.Unblocked())
        token = keeper.state.token
        if token is not None and not self._registrations[keeper.spec.client].exchange.holds(token.jkt):
            self.handle(keeper, table.Forced())
        keeper.announce()
        self.set_alarm(keeper)

    async def _stop(self, *helpers: asyncio.Task[NoReturn]) -> None:
        """Wait for what was begun, write down what is waiting as long as there is hope, and only then let go."""
        deadline = self._clock.boot() + STOP_GRACE
        if self._running:
            await asyncio.wait(tuple(self._running), timeout=STOP_GRACE)
        while not await self._vault.flush() and self._clock.boot() < deadline:  # noqa: ASYNC110 - disks give no notice
            await asyncio.sleep(RETRY_INTERVAL)
        for helper in helpers:
            helper.cancel()

    async def _ring(self) -> None:
        """Look at what is due; where that is much, others have their turn in between."""
        for number, grant_id in enumerate(self._alarms.ring(), 1):
            keeper = self._keepers.get(grant_id)
            if keeper is not None:
                if grant_id in self._unblocked:
                    self.handle(keeper, table.Unblocked())
                self._trials.look(keeper)
                self.handle(keeper, table.Tick())
                if keeper.watchers and keeper.wants_refresh():
                    self.handle(keeper, table.Wanted())
                self.set_alarm(keeper)
            self._unblocked.discard(grant_id)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def set_alarm(self, keeper: GrantKeeper) -> None:
        """See that the keeper is looked at when it says, or when there is something to warn of."""
        for at in (keeper.wake_at(), self._warnings.look(keeper)):
            if at is not None:
                self._alarms.set(keeper.grant.id, at)

    def _take_up(self, grant: Grant) -> None:
        if not self._is_of(grant):
            self._strangers[grant.id] = grant
            return
        spec = self._specs[grant.token]
        keeper = self._keeper(spec)
        token = unsealed(grant, clock=self._clock, randomness=self._randomness, fingerprint=self._fingerprint)
        if token is not None and not self._registrations[spec.client].exchange.holds(token.jkt):
            token = None  # bound to a key that is not here: nobody could use it
        keeper.restore(grant, token)
        self._keepers.add(grant.id, keeper)
        self.set_alarm(keeper)

    def _keeper(self, spec: TokenSpec) -> GrantKeeper:
        make = partial(GrantKeeper, clock=self._clock, randomness=self._randomness, emit=self._emit)
        return make(spec, self._registrations[spec.client].issuer)

    def _count_of(self, client: str) -> int:
        """Count the grants of a client."""
        return sum(self.count(name) for name, spec in self._specs.items() if spec.client == client)

    def _is_of(self, grant: Grant) -> bool:
        """Say whether the configuration has the token, with the client that the grant was given to."""
        spec = self._specs.get(grant.token)
        registration = None if spec is None else self._registrations.get(spec.client)
        return (
            registration is not None
            and registration.issuer.issuer == grant.issuer
            and registration.client.client_id == grant.client_id
        )

    def _registration_of(self, grant: Grant) -> Registration:
        """Give a client that the grant was given to. Raises LocalError when none is configured."""
        for name, registration in self._registrations.items():
            if registration.issuer.issuer == grant.issuer and registration.client.client_id == grant.client_id:
                return self._trials.settled(name)
        raise LocalError("client_unknown", "the client of a grant is not configured any more")


def _given_up() -> LocalError:
    return LocalError("grant_given_up", "the grant was given up, or renewed by another, while it was renewed")


def _consented(specs: Iterable[TokenSpec]) -> dict[str, TokenSpec]:
    return {spec.name: spec for spec in specs if spec.consent is not None}
