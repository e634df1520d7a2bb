"""
Signing keys that overlap (rules.md R8): a new one is published before it signs, an old one after it did.

Pure functions over values. What is remembered here lives as long as the process: after a restart the key in the
file signs at once, because the older one is nowhere any more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker.config.settings import KeySettings
from broker.keys.signer import SigningKey
from broker.wiring.identities import Identities

PUBLISHED_AFTER = 3_600.0
"""
Seconds for which a key stays published that signs no more.

What it signed is good for five minutes at most (a request object); servers look a key up when they check, and
some of them queue.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A key that signs from *at* on (boot clock)."""

    key: SigningKey
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """The public *jwk* of a key that signed, published until *until* (boot clock)."""

    jwk: Mapping[str, Any]
    thumbprint: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What overlaps, by the names of the keys."""

    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    former: Mapping[str, tuple[Former, ...]] = field(default_factory=dict)


def arranged(
    before: Identities,
    fresh: Identities,
    overlap: Overlap,
    wanted: Mapping[str, KeySettings],
    *,
    now: float,
    compromised: Collection[str] = (),
) -> tuple[Identities, Overlap]:
    """
    Give *fresh* identities with the keys that sign *now* and all that are published, and what overlaps then.

    *before* are those in force. A key of *fresh* that is the very object of *before* did not change. Of those that
    are *compromised*, by name, only the newest is left, and signs at once.
    """
    keys: dict[str, SigningKey] = {}
    waiting: dict[str, Waiting] = {}
    former: dict[str, tuple[Former, ...]] = {}
    for name, new in fresh.keys.items():
        old, due = before.keys.get(name), overlap.waiting.get(name)
        signs, waits = _one(old, new, due, wanted[name].switch_delay, now, at_once=name in compromised)
        past = tuple(one for one in overlap.former.get(name, ()) if now < one.until)
        if old is not None and old.thumbprint != signs.thumbprint:
            past += (Former(jwk=old.public_jwk(), thumbprint=old.thumbprint, until=now + PUBLISHED_AFTER),)
        keys[name] = signs
        if waits is not None:
            waiting[name] = waits
        former[name] = () if name in compromised else tuple(one for one in past if _may_stay(one, signs))
    after = Overlap(waiting=waiting, former={name: past for name, past in former.items() if past})
    return replace(fresh, keys=keys, published=_published(after)), after


def _one(
    old: SigningKey | None, new: SigningKey, due: Waiting | None, delay: float, now: float, *, at_once: bool
) -> tuple[SigningKey, Waiting | None]:
    """Say of one name which key signs, and which one waits."""
    if old is None:
        return new, None
    if new is not old:
        if new.thumbprint == old.thumbprint:
            return new, None
        waits = due is not None and due.key.thumbprint == new.thumbprint
        due = Waiting(key=new, at=due.at if waits and due is not None else now + delay)
    if due is None:
        return new, None
    # Two keys of one kid cannot be published at a time: whoever keeps the kid has the key replaced at the server.
    is_in_place = due.key.kid is not None and due.key.kid == old.kid
    if at_once or now >= due.at or is_in_place or due.key.alg != old.alg:
        return due.key, None
    return old, due


def _may_stay(former: Former, signs: SigningKey) -> bool:
    """Say whether a key may still be published beside the one that signs."""
    return former.thumbprint != signs.thumbprint and (signs.kid is None or former.jwk.get("kid") != signs.kid)


def _published(overlap: Overlap) -> dict[str, tuple[Mapping[str, Any], ...]]:
    names = dict.fromkeys((*overlap.waiting, *overlap.former))
    return {
        name: (
            *((overlap.waiting[name].key.public_jwk(),) if name in overlap.waiting else ()),
            *(one.jwk for one in overlap.former.get(name, ())),
        )
        for name in names
    }
