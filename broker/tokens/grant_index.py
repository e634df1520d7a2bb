"""The keepers of grants by id, and by the token that they are of: there may be ten thousand of one."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Iterator, Mapping

from broker.tokens.grant_keeper import GrantKeeper

AT_ONCE = 500
"""Grants, or tokens, to look at before others have their turn: a fraction of a millisecond."""


class GrantIndex(Mapping[str, GrantKeeper]):
    """A mapping by id that callers can look at; what is in it changes by ``add`` and ``pop`` alone."""

    def __init__(self) -> None:
        self._by_id: dict[str, GrantKeeper] = {}
        self._by_token: dict[str, dict[str, GrantKeeper]] = {}

    def __getitem__(self, grant_id: str) -> GrantKeeper:
        return self._by_id[grant_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, grant_id: str, keeper: GrantKeeper) -> None:
        """Take in the keeper of a grant, whose token stays what it is."""
        self._by_id[grant_id] = self._by_token.setdefault(keeper.spec.name, {})[grant_id] = keeper

    def pop(self, grant_id: str) -> GrantKeeper:
        """Give up the keeper of a grant. Raises KeyError."""
        keeper = self._by_id.pop(grant_id)
        del self._by_token[keeper.spec.name][grant_id]
        return keeper

    def of(self, token: str) -> Mapping[str, GrantKeeper]:
        """Give those of *token*, by id and in the order in which they came."""
        return self._by_token.get(token, {})

    def of_client(self, client: str) -> tuple[GrantKeeper, ...]:
        """Give those of *client*, to which all grants of one token belong: one of each token is looked at."""
        found: list[GrantKeeper] = []
        for keepers in self._by_token.values():
            if keepers and next(iter(keepers.values())).spec.client == client:
                found += keepers.values()
        return tuple(found)

    def came_of(self, authorization_id: str) -> str | None:
        """Give the id of the grant that is in use because of an authorization; looks through all of them."""
        found = (one for one, keeper in self._by_id.items() if keeper.grant.authorization == authorization_id)
        return next(found, None)

    async def first(
        self, most: int, visible: Mapping[str, frozenset[str] | None], *, subject: str | None, after: str | None
    ) -> list[str]:
        """Give the *most* lowest ids that there are in a list, as ``Grants.page`` says; some may be gone by then."""
        found: list[str] = []
        for token, owners in visible.items():
            for number, (grant_id, keeper) in enumerate(tuple(self.of(token).items()), 1):
                grant = keeper.grant
                if (
                    (after is None or grant_id > after)
                    and (owners is None or grant.owner in owners)
                    and (subject is None or grant.subject == subject)
                ):
                    found.append(grant_id)
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)
        return heapq.nsmallest(most, found)
