"""
What the local API gets tokens from, whether a person consented to them or nobody had to.

A token with one grant is asked for by its name like any other; one with a grant for each person needs to be
asked for by the grant. This module keeps nothing; it knows which of the two has what.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from broker.tokens.grant import Grant, GrantStatus, Page
from broker.tokens.ports import TokenSource, Watch
from broker.tokens.revoking import Outcome
from broker.tokens.serving import ConsentRequiredError, GrantRequiredError, Serving, TokenState, TokenStatus
from broker.tokens.spec import Grants, TokenSpec

NO_CONSENT = "no_consent"
"""The reason where there never was a grant, or it was given up."""

USABLE = frozenset({TokenState.FRESH, TokenState.STALE})


class GrantSource(Protocol):
    """Grants by id: implemented by ``tokens.grants.Grants``. All but ``one`` and ``page`` raise KeyError."""

    def one(self, token: str) -> str | None:
        """Give the id of a grant of *token*, None where there is none."""

    def count(self, token: str) -> int:
        """Count the grants of *token*. Raises nothing."""

    def has_usable(self, token: str) -> bool:
        """Say whether any grant of *token* has an access token in hand. Raises nothing."""

    def is_idle(self, grant_id: str) -> bool:
        """Say whether a grant has no access token because it is refreshed on demand and nobody asks."""

    def grant(self, grant_id: str) -> Grant:
        """Give what is known of a grant."""

    def status(self, grant_id: str) -> GrantStatus:
        """Say how a grant stands."""

    def at_once(self, name: str, /, *, min_valid: float | None) -> Serving | None:
        """Give an access token, as ``ports.TokenSource.at_once``. Raises nothing."""

    async def get(self, name: str, /, *, min_valid: float | None, wait: float) -> Serving:
        """Give an access token, as ``ports.TokenSource.get``; raises ConsentRequiredError, too."""

    async def refresh(self, name: str, /, *, rejected: str | None, wait: float, begun: Callable[[], None]) -> Serving:
        """Fetch another access token now: as ``ports.TokenSource.refresh``."""

    def watch(self, name: str, /) -> AbstractContextManager[Watch]:
        """Let a caller wait for news: as ``ports.TokenSource.watch``."""

    async def page(
        self, visible: Mapping[str, frozenset[str] | None], *, subject: str | None, limit: int, cursor: str | None
    ) -> Page:
        """Give grants sorted by id, after *cursor*: of tokens that are *visible*, and of their owners, None for all."""

    async def revoke(self, grant_id: str) -> Outcome:
        """Stop serving a grant at once, and revoke it."""

    async def end_session_url(self, grant: Grant) -> str | None:
        """Give the URL at which the person logs out at the server, None where there is none."""

    def is_saved(self, grant_id: str) -> bool:
        """Say whether everything about a grant, also that it is gone, is on the disk."""

    def retry(self, grant_id: str) -> None:
        """Have an ended grant tried again."""

    async def reassign(self, grant_id: str, owner: str) -> None:
        """Give a grant to another workload."""


class Tokens:
    """Implements ``ports.TokenSource`` over all tokens of a configuration."""

    def __init__(self, registry: TokenSource, grants: GrantSource, specs: Iterable[TokenSpec]) -> None:
        """Take the tokens that nobody consents to from *registry*, the others from *grants*."""
        self._registry = registry
        self._grants = grants
        self.replace(specs)

    def replace(self, specs: Iterable[TokenSpec]) -> None:
        """Go on under another configuration."""
        self._specs = {spec.name: spec for spec in specs}
        self._required = {name: None for name, spec in self._specs.items() if spec.required}

    def names(self) -> Collection[str]:
        """Give all configured names, in the order of the configuration; that of a moment, whatever is reloaded."""
        return self._specs.keys()  # of a mapping that is replaced, and never changed

    def required(self) -> Collection[str]:
        """Give the names of those without which the broker is not ready."""
        return self._required.keys()

    def is_of_many(self, name: str) -> bool:
        """Say whether each person has a grant of its own to the token *name*. Raises KeyError."""
        spec = self._specs[name]
        return spec.consent is not None and spec.consent.grants is Grants.MANY

    def grant_of(self, name: str) -> str | None:
        """Give the one grant of a token, None where it has none, or many."""
        spec = self._specs.get(name)
        if spec is None or spec.consent is None or spec.consent.grants is Grants.MANY:
            return None
        return self._grants.one(name)

    def status(self, name: str) -> TokenStatus:
        """Say how the token *name* stands. Raises KeyError."""
        spec = self._specs[name]
        if spec.consent is None:
            return self._registry.status(name)
        if spec.consent.grants is Grants.MANY:
            return self._status_of_many(spec)
        grant_id = self._grants.one(name)
        if grant_id is None:
            return _without_consent(spec)
        status = self._grants.status(grant_id)
        state = TokenState.IDLE if self._grants.is_idle(grant_id) else TokenState(status.state)
        return TokenStatus(
            name=name,
            state=state,
            required=spec.required,
            expires_in=status.expires_in,
            reason=status.reason,
            hint=how_to_consent(name) if state is TokenState.CONSENT_REQUIRED else status.hint,
            retry_in=status.retry_in,
        )

    def at_once(self, name: str, *, min_valid: float | None) -> Serving | None:
        """Give a token where that takes no wait and changes nothing: see ``ports.TokenSource``."""
        spec = self._specs.get(name)
        if spec is None:
            return None
        if spec.consent is None:
            return self._registry.at_once(name, min_valid=min_valid)
        grant_id = self.grant_of(name)
        return None if grant_id is None else self._grants.at_once(grant_id, min_valid=min_valid)

    async def get(self, name: str, *, min_valid: float | None, wait: float) -> Serving:
        """Give a token: see ``ports.TokenSource``. Raises ConsentRequiredError and GrantRequiredError, too."""
        source, key = self._where(name)
        return await source.get(key, min_valid=min_valid, wait=wait)

    async def refresh(self, name: str, *, rejected: str | None, wait: float, begun: Callable[[], None]) -> Serving:
        """Give another token than the one in hand: see ``ports.TokenSource``. Raises as ``get`` does."""
        source, key = self._where(name)
        return await source.refresh(key, rejected=rejected, wait=wait, begun=begun)

    def watch(self, name: str) -> AbstractContextManager[Watch]:
        """Let a caller wait for news: see ``ports.TokenSource``. Raises as ``get`` does."""
        source, key = self._where(name)
        return source.watch(key)

    def _where(self, name: str) -> tuple[TokenSource | GrantSource, str]:
        """Give who has the token *name*, and by what to ask for it."""
        spec = self._specs[name]
        if spec.consent is None:
            return self._registry, name
        if spec.consent.grants is Grants.MANY:
            raise GrantRequiredError
        grant_id = self._grants.one(name)
        if grant_id is None:
            raise ConsentRequiredError(NO_CONSENT)
        return self._grants, grant_id

    def _status_of_many(self, spec: TokenSpec) -> TokenStatus:
        """Say whether anybody's grant can be served: how each of them stands is to be asked of the grants."""
        count = self._grants.count(spec.name)
        if not count:
            return _without_consent(spec)
        state = TokenState.FRESH if self._grants.has_usable(spec.name) else TokenState.UNAVAILABLE
        return TokenStatus(name=spec.name, state=state, required=spec.required, grants=count)


def how_to_consent(name: str) -> str:
    """Say what a person can do about a missing consent."""
    return f"a person has to consent: token-broker login {name}, or POST /v1/authorizations"


def _without_consent(spec: TokenSpec) -> TokenStatus:
    return TokenStatus(
        name=spec.name,
        state=TokenState.CONSENT_REQUIRED,
        required=spec.required,
        reason=NO_CONSENT,
        hint=how_to_consent(spec.name),
    )
