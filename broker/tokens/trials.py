"""
Moves grants from one generation of certificate and key to the next: one tries, and the others follow.

``handover`` says with what a grant is refreshed; this sees to it that something comes of it in time, and reports
it. Looking at all grants of a client is spread over the alarms, so that ten thousand do not stop the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import astuple

from broker.events import ClientTrialBegun, ClientTrialFailed, ClientTrialPassed, Emit
from broker.tokens import grant_state as table
from broker.tokens.acquire import Registration
from broker.tokens.grant_index import AT_ONCE, GrantIndex
from broker.tokens.grant_keeper import GrantKeeper
from broker.tokens.handover import Choice, Handovers, Shown, identity_of
from broker.tokens.passage import Passage
from broker.tokens.ports import Clock
from broker.tokens.refreshing import INVALID_GRANT


class Trials:
    """Holds the generations of each client, and which grants are to be looked at because of them."""

    def __init__(
        self,
        registrations: Mapping[str, Registration],
        *,
        keepers: GrantIndex,
        clock: Clock,
        passage: Passage,
        emit: Emit,
        settle: Callable[[GrantKeeper, table.Event], None],
        wake: Callable[[str, float], None],
    ) -> None:
        """*settle* takes an event through a keeper; *wake* has ``look`` called with that of an id, at a time."""
        self._handovers = Handovers(registrations, clock=clock)
        self._keepers = keepers
        self._clock = clock
        self._passage = passage
        self._emit = emit
        self._settle = settle
        self._wake = wake
        self._banned: frozenset[str] = frozenset()
        self._candidates: set[str] = set()
        self._following: set[str] = set()

    def replace(self, registrations: Mapping[str, Registration], banned: frozenset[str]) -> None:
        """
        Take in the newest means of every client; nothing older is served or used that has one of *banned*.

        What comes back is good again: whoever puts it there means it.
        """
        shown = {one for each in registrations.values() for one in (*astuple(identity_of(each)), each.exchange.jkt)}
        self._banned = (self._banned | banned) - shown
        self._handovers.replace(registrations, has_grants=self._has_witnesses, banned=self._banned)
        for client in registrations:
            self._schedule(client)
            self._follow(client)

    def choose(self, keeper: GrantKeeper) -> Choice:
        """Say with what the attempt is made that begins now."""
        state, client = keeper.state, keeper.spec.client
        is_refused = _is_to_be_confirmed(state)

        def in_doubt() -> bool:
            # A grant in doubt is a poor witness, but may be the only one; no verdict comes of its trial then.
            return is_refused or (_is_in_doubt(state) and any(map(_is_witness, self._of(client))))

        choice = self._handovers.choose(client, keeper.grant, in_doubt=in_doubt, is_refused=is_refused)
        if choice.on_trial:
            self._emit(ClientTrialBegun(client=client, token=keeper.spec.name, grant=keeper.grant.id))
        return choice

    def ended(self, keeper: GrantKeeper, choice: Choice, event: table.Succeeded | table.Failed | None) -> None:
        """Take in how an attempt ended; None: it was overtaken."""
        if choice.on_trial:
            self._tried(keeper, choice, event)
        if isinstance(event, table.Succeeded) and self._handovers.is_newest(keeper.spec.client, choice.registration):
            self._passage.trust(choice.registration)
        # When it is known what the client shows from now on: whoever tried that is bound to it already.
        if isinstance(event, table.Succeeded) and (not choice.confirms or keeper.is_bound_to(self._banned)):
            self.welcome(keeper)

    def _tried(self, keeper: GrantKeeper, choice: Choice, event: table.Succeeded | table.Failed | None) -> None:
        """Take in how a trial ended, and see that what comes of it is done by others, too."""
        client = keeper.spec.client
        match event:
            case table.Succeeded() if self._handovers.passed(client, choice.registration):
                self._emit(ClientTrialPassed(client=client, token=keeper.spec.name, grant=keeper.grant.id))
                self._follow(client)
            case table.Failed(failure=failure):
                pause = self._handovers.failed(client, choice.registration)
                if pause is not None:
                    self._emit(
                        ClientTrialFailed(
                            client=client,
                            token=keeper.spec.name,
                            grant=keeper.grant.id,
                            reason=failure.code,
                            hint=failure.hint,
                            retry_in=pause,
                        )
                    )
            case _:
                self._handovers.let_go(client, keeper.grant.id)
        self._schedule(client, but=keeper.grant.id)

    def welcome(self, keeper: GrantKeeper) -> None:
        """Look at a grant soon whose token in hand is not bound to what its client shows; drop one that is banned."""
        if self._keepers.get(keeper.grant.id) is not keeper:
            return
        if keeper.is_bound_to(self._banned):
            self._settle(keeper, table.Disowned())
            return
        shown = self._handovers.settled(keeper.spec.client).exchange.session.thumbprint
        if _is_bound_to_another(keeper, shown):
            self._following.add(keeper.grant.id)
            self._wake(keeper.grant.id, self._clock.boot())

    def look(self, keeper: GrantKeeper) -> None:
        """See to what a grant was woken for."""
        grant_id, client = keeper.grant.id, keeper.spec.client
        if grant_id in self._following:
            self._following.discard(grant_id)
            self._settle(keeper, table.Rebound())
        if grant_id in self._candidates:
            due_at = self._handovers.trial_due_at(client)
            if due_at is None:
                self._candidates.discard(grant_id)
            elif due_at <= self._clock.boot():
                self._candidates.discard(grant_id)
                if _is_witness(keeper):
                    self._settle(keeper, table.Rebound())
                else:
                    self._schedule(client, but=grant_id)

    def forget(self, keeper: GrantKeeper) -> None:
        """Take in that a grant is gone, or not to be refreshed any more."""
        self._following.discard(keeper.grant.id)
        if keeper.grant.id in self._candidates:
            self._candidates.discard(keeper.grant.id)
            self._schedule(keeper.spec.client, but=keeper.grant.id)

    def settled(self, client: str) -> Registration:
        """Give with what the server is known to take a client, as far as it is."""
        return self._handovers.settled(client)

    def needs(self, registration: Registration) -> bool:
        """Say whether anything may still be asked with *registration*."""
        return self._handovers.needs(registration)

    async def release(self) -> None:
        """Give up older means that no grant needs any more; others have their turn between some grants and the next."""
        if not self._handovers.is_keeping():
            return
        last: dict[str, set[Shown]] = {}
        for number, keeper in enumerate(tuple(self._keepers.values()), 1):
            if _is_alive(keeper):
                last.setdefault(keeper.spec.client, set()).add((keeper.grant.thumbprint, keeper.grant.key_id))
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        self._handovers.release(last)

    def _follow(self, client: str) -> None:
        """Have all grants of a client looked at whose tokens are bound to something older than it shows."""
        for keeper in self._of(client):
            self.welcome(keeper)

    def _schedule(self, client: str, *, but: str | None = None) -> None:
        """See that some grant makes the trial that is to be made: another one than *but*, if there is one."""
        due_at = self._handovers.trial_due_at(client)
        if due_at is None:
            return
        witnesses = [keeper for keeper in self._of(client) if _is_witness(keeper)]
        if not witnesses:
            return  # whoever is out of doubt first makes it, when it is due
        chosen = next((keeper for keeper in witnesses if keeper.grant.id != but), witnesses[0])
        self._candidates.add(chosen.grant.id)
        self._wake(chosen.grant.id, max(due_at, self._clock.boot()))

    def _has_witnesses(self, client: str) -> bool:
        """Say whether a client has grants that can be lost."""
        return any(_is_alive(keeper) for keeper in self._of(client))

    def _of(self, client: str) -> tuple[GrantKeeper, ...]:
        return self._keepers.of_client(client)


def _is_alive(keeper: GrantKeeper) -> bool:
    """Say whether a grant may still be refreshed."""
    return not isinstance(keeper.state, table.Over) and keeper.grant.refresh_token is not None


def _is_in_doubt(state: table.State) -> bool:
    return not isinstance(state, table.Over) and state.doubt is not table.Doubt.NONE


def _is_to_be_confirmed(state: table.State) -> bool:
    """Say whether a refusal is still to be confirmed that came last: not after something else went wrong with that."""
    if isinstance(state, table.Over) or state.doubt not in {table.Doubt.REFUSED, table.Doubt.PREVIOUS}:
        return False
    return state.failure is None or state.failure.server_error == INVALID_GRANT


def _is_witness(keeper: GrantKeeper) -> bool:
    """Say whether what comes of a grant can tell something about its client."""
    state = keeper.state
    return (
        isinstance(state, table.Resting) and state.doubt is table.Doubt.NONE and state.grant.refresh_token is not None
    )


def _is_bound_to_another(keeper: GrantKeeper, thumbprint: str | None) -> bool:
    token = keeper.in_hand()
    return token is not None and token.certificate_thumbprint not in {None, thumbprint}
