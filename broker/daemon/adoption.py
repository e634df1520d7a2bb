"""
Puts settings and identities to use, for a reload and for a rotation alike, and takes the older means down.

One at a time: whoever prepares something holds ``turn`` until it is adopted. Older means (sessions and keys) are
closed when the attempts that began with them are done and no grant needs them any more; the older generations of
certificates are retired when, beyond that, no token in hand is bound to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from broker.config.settings import Settings
from broker.events import (
    CertificateLoaded,
    CertificateRetired,
    SigningKeyLoaded,
    SigningKeyPublished,
)
from broker.keys.identity import TransportCertificate
from broker.keys.signer import SigningKey
from broker.tokens.grant_index import AT_ONCE
from broker.wiring import Identities, Means, Parts
from broker.wiring.key_overlap import Overlap, arranged
from broker.wiring.watched import CERTIFICATE, KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Means that are built and not in use yet, with the keys that overlap when they are."""

    means: Means
    overlap: Overlap


@dataclass(frozen=True, slots=True)
class _Older:
    """Means that are not in force any more, and the attempts that run with them."""

    means: Means
    under_way: tuple[asyncio.Task[None], ...]


class Adoption:
    """Holds all means: those in force, and the older ones that are not closed yet."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.turn = asyncio.Lock()
        self._older: list[_Older] = []
        self._overlap = Overlap()

    def is_due(self) -> bool:
        """Say whether a key is to sign now that waited, or one is to be published no longer."""
        now = self.parts.clock.boot()
        ends = (one.until for past in self._overlap.former.values() for one in past)
        return any(at <= now for at in (*(one.at for one in self._overlap.waiting.values()), *ends))

    def prepare(self, settings: Settings, fresh: Identities, *, compromised: Collection[str] = ()) -> Prepared:
        """
        Build the means of *fresh* identities, and put nothing to use. Blocks. Raises LocalError.

        *compromised* are sections (``key.NAME``) of which nothing older is to be left.
        """
        before = self.parts.identities
        numbered = replace(fresh, certificates=_numbered(before.certificates, fresh.certificates))
        identities, overlap = arranged(
            before,
            numbered,
            self._overlap,
            settings.keys,
            now=self.parts.clock.boot(),
            compromised={item.removeprefix(f"{KEY}.") for item in compromised if item.startswith(f"{KEY}.")},
        )
        return Prepared(means=self.parts.prepare(settings, identities), overlap=overlap)

    def adopt(
        self,
        settings: Settings,
        prepared: Prepared,
        *,
        restart: tuple[str, ...] | None = None,
        compromised: Collection[str] = (),
    ) -> tuple[str, ...]:
        """
        Put *prepared* to use, at once; to be called on the loop, by whoever holds ``turn``.

        *restart* names the sections whose changes wait for one, None: those that did before. Gives those of the
        sections that are *compromised* of which there was an older generation: none of it is used any more, but
        for requests under way, whose answers may hold the only refresh token that a grant has.
        """
        parts, before = self.parts, self.parts.means
        dropped, banned = self._banned(prepared.means.identities, compromised)
        restart = parts.serving.restart if restart is None else restart
        under_way = parts.adopt(settings, prepared.means, restart=restart, banned=banned)
        self._overlap = prepared.overlap
        self._older.append(_Older(before, under_way))
        if banned:
            self._retire(kept=parts.generations.thumbprints() - banned, reason="compromised")
        return dropped

    def announce(self, before: Identities) -> None:
        """Report the certificates and keys that are other ones than those of *before*."""
        after, emit = self.parts.identities, self.parts.emit
        for name, certificate in after.certificates.items():
            old = before.certificates.get(name)
            if old is None or old.thumbprint != certificate.thumbprint:
                emit(certificate_loaded(certificate))
        for name, key in after.keys.items():
            former = before.keys.get(name)
            if former is None or _told(former) != _told(key):
                emit(signing_key_loaded(key))
        self.announce_waiting(before.published)

    def announce_waiting(self, published: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({})) -> None:
        """Report the keys that are to sign later, but for those that were *published* before."""
        now = self.parts.clock.boot()
        for name, waits in self._overlap.waiting.items():
            key = waits.key
            if key.public_jwk() not in published.get(name, ()):
                signs_in = max(0.0, waits.at - now)
                self.parts.emit(SigningKeyPublished(key=name, alg=key.alg, kid=key.kid, signs_in=signs_in))

    async def sweep(self) -> None:
        """Close the means that nothing needs any more, and retire the certificates that nothing is bound to."""
        if self._older:
            await self.parts.life.release()
        for older in tuple(self._older):
            if all(task.done() for task in older.under_way) and not self.parts.life.needs(older.means.registrations):
                self._older.remove(older)
                await older.means.close(but=self._keys_in_use())
        if self.parts.generations.earlier():
            bound = await self._bound()
            # Looked at last: an attempt that ended meanwhile may have brought a token.
            self._retire(kept=bound | {session.thumbprint for older in self._older for session in older.means.sessions})

    async def _bound(self) -> set[str | None]:
        """Give the thumbprints that tokens in hand are bound to; however many there are, others have their turn."""
        bound: set[str | None] = set()
        for number, (_, token) in enumerate(self.parts.life.in_hand(), 1):
            bound.add(token.certificate_thumbprint)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return bound

    async def close(self) -> None:
        """Close all means, the older ones too, whatever runs with them."""
        for means in self._all_means():
            await means.close()
        for waits in self._overlap.waiting.values():
            waits.key.close()

    def _keys_in_use(self) -> Sequence[object]:
        """Give the keys that other means sign with, too: what did not change is the very same object."""
        return [key for means in self._all_means() for key in means.identities.keys.values()]

    def _banned(self, after: Identities, compromised: Collection[str]) -> tuple[tuple[str, ...], frozenset[str]]:
        """Give the sections of which something older was in use, and the thumbprints of that: certificates and keys."""
        before = self.parts.identities
        dropped: list[str] = []
        banned: set[str] = set()
        for item in compromised:
            kind, _, name = item.partition(".")
            if kind == CERTIFICATE:
                newest = after.certificates[name].thumbprint
                known = (*self.parts.generations.earlier(), before.certificates.get(name, after.certificates[name]))
                old = {one.thumbprint for one in known if one.name == name} - {newest}
            else:
                old = self._former_signing(name, after) | self._former_proving(name, after)
            banned |= old
            dropped += [item] if old else []
        return tuple(dropped), frozenset(banned)

    def _former_signing(self, name: str, after: Identities) -> set[str]:
        """Give the thumbprints of the keys that ``[key.NAME]`` signed with and does not any more."""
        known = (means.identities.keys.get(name) for means in self._all_means())
        newest = after.keys.get(name)
        return {
            key.thumbprint
            for key in known
            if key is not None and (newest is None or key.thumbprint != newest.thumbprint)
        }

    def _former_proving(self, name: str, after: Identities) -> set[str]:
        """Give those of the DPoP keys that it had, however long ago; not what another section has still."""
        known = (means.identities.proof_keys.get(name) for means in self._all_means())
        old = {key.jkt for key in known if key is not None} | self.parts.proof_keys.configured(name)
        return old - {key.jkt for key in after.proof_keys.values()}

    def _all_means(self) -> tuple[Means, ...]:
        return (self.parts.means, *(older.means for older in self._older))

    def _retire(self, *, kept: Collection[str | None], reason: str | None = None) -> None:
        wall = self.parts.clock.wall()
        for old in self.parts.generations.retire(kept):
            why = reason or ("expired" if old.not_after <= wall else "unused")
            self.parts.emit(
                CertificateRetired(
                    certificate=old.name, generation=old.generation, thumbprint=old.thumbprint, reason=why
                )
            )


def certificate_loaded(certificate: TransportCertificate) -> CertificateLoaded:
    """Make the event of a certificate that is in use."""
    return CertificateLoaded(
        certificate=certificate.name,
        generation=certificate.generation,
        thumbprint=certificate.thumbprint,
        not_after=certificate.not_after,
    )


def signing_key_loaded(key: SigningKey) -> SigningKeyLoaded:
    """Make the event of a key that signs."""
    return SigningKeyLoaded(key=key.name, alg=key.alg, kid=key.kid, not_after=key.not_after)


def _told(key: SigningKey) -> tuple[str, str | None, float | None]:
    """Give what was said of a key when it was loaded: with a new certificate its end moves, and the key stays."""
    return key.thumbprint, key.kid, key.not_after


def _numbered(
    before: Mapping[str, TransportCertificate], fresh: Mapping[str, TransportCertificate]
) -> dict[str, TransportCertificate]:
    """Count the generations of certificates on: one whose content is the same is the same generation."""
    numbered = {}
    for name, new in fresh.items():
        old = before.get(name)
        generation = 0 if old is None else old.generation
        is_old = old is not None and old.thumbprint == new.thumbprint
        numbered[name] = replace(new, generation=generation if is_old else generation + 1)
    return numbered
