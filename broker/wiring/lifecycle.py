"""Everything that keeps tokens: of clients, of people, and the consents that are under way, over one store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from broker.api.readiness import USABLE
from broker.consent.authorizations import Authorizations
from broker.events import Emit
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.grants import Grants
from broker.tokens.passage import Passage
from broker.tokens.proving import Proving
from broker.tokens.refreshing import Refresher
from broker.tokens.registry import Registry
from broker.tokens.source import Tokens
from broker.tokens.spec import IssuedToken, TokenSpec
from broker.tokens.storing import Store
from broker.tokens.vault import Vault
from broker.wiring.proof_keys import ProofKeys

Runs = Callable[[], Coroutine[None, None, NoReturn]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """What the API asks, through *tokens*, and what runs behind it; all of it shares limits and breakers."""

    tokens: Tokens
    registry: Registry
    grants: Grants
    authorizations: Authorizations
    vault: Vault
    proof_keys: ProofKeys
    proving: Proving

    def restore(self) -> None:
        """Take up what the store has; sends nothing and spends nothing."""
        self.grants.restore()
        self.authorizations.restore()

    def runs(self) -> Mapping[str, Runs]:
        """Give what has to run for as long as the daemon does, by name; cancelled, it finishes what it began."""
        return {
            "tokens": self.registry.run,
            "grants": self.grants.run,
            "consents": self.authorizations.run,
            "dpop keys": self.proof_keys.run,
        }

    def replace(
        self,
        specs: Sequence[TokenSpec],
        registrations: Mapping[str, Registration],
        *,
        banned: frozenset[str] = frozenset(),
    ) -> tuple[asyncio.Task[None], ...]:
        """
        Go on under another configuration, at once; gives what runs with the means of the older one.

        No token is served any more that is bound to a certificate or DPoP key with one of the thumbprints *banned*,
        and nothing is signed with such a key.
        """
        under_way = self.registry.replace(_of_clients(specs), registrations, banned=banned)
        under_way += self.grants.replace(specs, registrations, banned=banned)
        under_way += self.authorizations.replace(specs)
        self.tokens.replace(specs)
        self.proving.replace(specs, registrations)
        return under_way

    def reconsider(self) -> None:
        """Look at everything again at once, after a clock was set or the machine slept."""
        self.registry.reconsider()
        self.grants.reconsider()

    async def close(self) -> None:
        """Write down what is still waiting, when nothing runs any more: a redemption may have been the last to end."""
        await self.vault.flush()
        self.proof_keys.close()

    def expiries(self) -> Iterator[tuple[str, float | None]]:
        """Look at one token after the other; one that goes meanwhile, in a reload, is left out."""
        for name in self.registry.names():
            with suppress(KeyError):
                yield name, self.registry.expires_at(name)

    async def release(self) -> None:
        """Give up the older means that no grant needs any more, for ``needs``."""
        await self.grants.release()

    def needs(self, registrations: Mapping[str, Registration]) -> bool:
        """Say whether grants are refreshed with any of these, or may have to be, or a code is redeemed with one."""
        return any(self.grants.needs(one) or self.authorizations.needs(one) for one in registrations.values())

    def in_hand(self) -> Iterator[tuple[str, IssuedToken]]:
        """Give each access token in hand, with the name of its section; there may be ten thousand."""
        yield from self.registry.in_hand()
        yield from self.grants.in_hand()

    def available(self) -> Iterator[tuple[str, bool]]:
        """Say of each token whether it can be served, but for those of many people: each grant has its own state."""
        for name in self.tokens.names():
            with suppress(KeyError):
                if not self.tokens.is_of_many(name):
                    yield name, self.tokens.status(name).state in USABLE


def lifecycle_of(
    specs: Sequence[TokenSpec],
    registrations: Mapping[str, Registration],
    *,
    acquirer: Acquirer,
    store: Store,
    proof_keys: ProofKeys,
    emit: Emit,
) -> Lifecycle:
    """Build it; nothing of it runs yet."""
    clock, randomness = acquirer.clock, acquirer.randomness
    passage = Passage(clock=clock, emit=emit)
    registry = Registry(
        _of_clients(specs),
        registrations,
        acquirer=acquirer,
        clock=clock,
        randomness=randomness,
        emit=emit,
        passage=passage,
    )
    vault = Vault(store, emit=emit)
    grants = Grants(
        specs,
        registrations,
        refresher=Refresher(acquirer=acquirer, vault=vault, passage=passage),
        randomness=randomness,
        emit=emit,
    )
    authorizations = Authorizations(specs, grants=grants, acquirer=acquirer, passage=passage, store=store, emit=emit)
    return Lifecycle(
        tokens=Tokens(registry, grants, specs),
        registry=registry,
        grants=grants,
        authorizations=authorizations,
        vault=vault,
        proof_keys=proof_keys,
        proving=Proving(specs, registrations),
    )


def _of_clients(specs: Sequence[TokenSpec]) -> list[TokenSpec]:
    """Give those that nobody has to consent to."""
    return [spec for spec in specs if spec.consent is None]
