"""
What becomes of a token when the configuration is replaced: is it kept, kept and renewed, or dropped?

Pure. Whoever narrows a token does not want the wide one in hands, so one that asks for less is dropped, and
so is one of which that cannot be told; a token that asks for more is served until its successor is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from broker.oauth.client import Client, Issuer
from broker.tokens import state as table
from broker.tokens.acquire import Registration
from broker.tokens.spec import IssuedToken, TokenSpec


class Fate(Enum):
    """What becomes of a token in hand."""

    KEPT = auto()
    """Nothing about it changed: this very token is served on, until its own time to refresh."""
    RENEWED = auto()
    """It is served on, and its successor fetched at once: it lacks something, or its certificate or key is old."""
    DROPPED = auto()
    """It is never served again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    Under what a token is asked for.

    *thumbprint* is that of the certificate that connections present now, *jkt* that of the key of DPoP proofs.
    """

    spec: TokenSpec
    client: Client
    issuer: Issuer
    thumbprint: str | None
    jkt: str | None = None


def terms_of(spec: TokenSpec, registration: Registration) -> Terms:
    """Give the terms of *spec* under *registration*."""
    return Terms(
        spec=spec,
        client=registration.client,
        issuer=registration.issuer,
        thumbprint=registration.exchange.session.thumbprint,
        jkt=registration.exchange.jkt,
    )


def fate_of(before: Terms, after: Terms) -> Fate:
    """Say what becomes of a token that was asked for under the terms *before*."""
    if _identity(before) != _identity(after):
        return Fate.DROPPED
    asked = [(before.spec.scope, after.spec.scope)]
    asked += [(before.spec.resource, after.spec.resource), (before.spec.audience, after.spec.audience)]
    if not all(_is_as_wide(old, new) for old, new in asked):
        return Fate.DROPPED
    same = all(set(old) == set(new) for old, new in asked)
    is_bound_alike = (before.thumbprint, before.jkt) == (after.thumbprint, after.jkt)
    return Fate.KEPT if same and is_bound_alike else Fate.RENEWED


def carried(state: table.State, fate: Fate, *, now: float, spread: float, eager: bool = True) -> table.State:
    """
    Give the state under the new configuration.

    An attempt that runs belongs to the older one: the state no longer waits for it, so that whatever it ends
    in is not taken, and another one is due now. Only where a token in hand is kept, so is the answer that is
    on its way: nothing about it changed, and reloads in a row must not keep a token from being refreshed.
    Renewals are spread over ``UNBLOCKED_WITHIN`` by *spread*.
    Without *eager* the token is on demand from now on; what somebody asked for already is fetched still.
    """
    token = table.token_of(state)
    if isinstance(state, table.Fetching):
        return table.Missing(due_at=now, failure=None if fate is Fate.DROPPED else state.failure)
    if fate is Fate.DROPPED or token is None:
        return table.at_rest(_without(state, fate, now), eager=eager)
    soon = now + table.UNBLOCKED_WITHIN * spread
    match state:
        case table.Refreshing() if fate is Fate.RENEWED:
            return table.Fresh(token=token, refresh_at=min(state.refresh_at, now))
        case table.Fresh() if fate is Fate.RENEWED:
            return replace(state, refresh_at=min(state.refresh_at, soon))
        case table.Stale() if fate is Fate.RENEWED:
            return replace(state, due_at=min(state.due_at, soon))
        case _:
            return state


def as_served(token: IssuedToken, state: table.State) -> bool:
    """Say whether *token* is the one in hand: the answer to an attempt of an older configuration is not."""
    return table.token_of(state) is token


def _without(state: table.State, fate: Fate, now: float) -> table.State:
    if isinstance(state, table.Missing | table.Idle) and fate is not Fate.DROPPED:
        return state
    return table.Missing(due_at=now)


def _identity(terms: Terms) -> tuple[object, ...]:
    """Give what must be equal; of further parameters nobody knows what they widen, so any change counts."""
    return (
        terms.issuer.issuer,
        terms.client.client_id,
        terms.client.sender_constraint,
        terms.spec.grant_type,
        frozenset(terms.spec.parameters),
    )


def _is_as_wide(before: tuple[str, ...], after: tuple[str, ...]) -> bool:
    """Say whether *after* asks for all of *before*; nothing is compared with what the server gives unasked."""
    return before == after or (bool(before) and set(before) <= set(after))
