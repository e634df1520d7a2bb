"""The keepers of grants by id, and by the token that they are of: there may be ten thousand of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from broker.tokens.grant_keeper import GrantKeeper


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
