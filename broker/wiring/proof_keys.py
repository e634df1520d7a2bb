"""
The DPoP keys of all clients, for as long as the process lives: those of the configuration, and those made here.

One key for each client (rules.md R7). A key for each grant of a public client is not needed: the key that is made
for it is sealed in the store and never replaced, so that it outlives every refresh token that is bound to it, and
the configuration of such a client can name no other. Where another client gets another key, by a reload, the older
one goes on proving what is bound to it: tokens until they are refreshed, and codes until they are redeemed.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import NoReturn

from broker.errors import LocalError
from broker.events import DpopKeyInUse, DpopKeyUnreadable, Emit, Event
from broker.keys.proof_key import ProofKey, make_proof_key, stored_proof_key
from broker.oauth.client import Client
from broker.oauth.reasons import Reason
from broker.tokens.acquire import Registration
from broker.tokens.nonces import Nonces
from broker.tokens.ports import Clock, Randomness
from broker.tokens.proofs import Proofs
from broker.tokens.storing import Put, Store

KIND = "dpop/"
"""Keys that were made have names of their own in the store."""

RETRY_INTERVAL = 1.0
"""Seconds between two tries to write down a key, as for grants (rules.md R2.2)."""

MAX_KNOWN = 8
"""Keys of one client: so many reloads with another one each, while what is bound to the first is still used."""


@dataclass(slots=True, kw_only=True)
class _Holder:
    """
    What one client has, under whatever name.

    *made* is the key that was made, *unsaved* the same as it is to be written down, until it is durable. *lost*: the
    store has one that this version cannot read, and leaves alone. *dropped* is shared by all Proofs of the client.
    """

    server_nonces: Nonces
    resource_nonces: Nonces
    known: dict[str, ProofKey] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    made: ProofKey | None = None
    unsaved: Put | None = None
    lost: bool = False
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)


class ProofKeys:
    """Keeps the keys; ``run`` writes those down that were made, and tells of them."""

    def __init__(self, store: Store, *, clock: Clock, randomness: Randomness, emit: Emit) -> None:
        """*store* has those of earlier processes."""
        self._store = store
        self._clock = clock
        self._randomness = randomness
        self._emit = emit
        self._holders: dict[str, _Holder] = {}
        self._stored: dict[str, bytes] | None = None
        self._in_use: dict[str, str] = {}
        self._news: list[Event] = []
        self._wanted = asyncio.Event()

    def proofs(self, client: Client, issuer: str, configured: ProofKey | None) -> Proofs:
        """
        Give *client* of *issuer* the means to make proofs: with the *configured* key, or with one that is made.

        Blocks for a moment where the store is looked into. May be called outside of the loop.
        """
        place = place_of(issuer, client.client_id)
        holder = self._holders.get(place) or self._new(place, client)
        key = configured or self._made(holder, place, client)
        key = holder.known.get(key.jkt, key)  # one that is in use already goes on, whoever loaded it again
        known = {jkt: one for jkt, one in holder.known.items() if jkt != key.jkt}
        while len(known) >= MAX_KNOWN:
            # Not closed: what was handed out before goes on with it.
            known.pop(next(jkt for jkt, one in known.items() if one is not holder.made))
        holder.known = {**known, key.jkt: key}
        self._holders[place] = holder
        return Proofs(
            key=key,
            known=MappingProxyType(holder.known),
            server_nonces=holder.server_nonces,
            resource_nonces=holder.resource_nonces,
            secure=partial(self._secure, client.name, place, key),
            dropped=holder.dropped,
            clock=self._clock,
            randomness=self._randomness,
        )

    def adopt(self, registrations: Mapping[str, Registration]) -> None:
        """Take in what is in use from now on; ``run`` tells of what is new in it. Not to be called beside the loop."""
        for name, registration in registrations.items():
            proofs = registration.exchange.proofs
            if proofs is not None:
                # What comes back is good again: whoever puts it there means it.
                place = place_of(registration.issuer.issuer, registration.client.client_id)
                self._holders[place].dropped.discard(proofs.jkt)
            if proofs is not None and self._in_use.get(name) != proofs.jkt:
                self._in_use[name] = proofs.jkt
                self._news.append(DpopKeyInUse(client=name, alg=proofs.key.alg, thumbprint=proofs.jkt))
        self._wanted.set()

    def configured(self, name: str) -> frozenset[str]:
        """Give the thumbprints of the keys that ``[key.NAME]`` had, as far as anything is still proved with them."""
        return frozenset(
            key.jkt
            for holder in self._holders.values()
            for key in holder.known.values()
            if key.name == name and key is not holder.made and key.jkt not in holder.dropped
        )

    def drop(self, jkts: Collection[str]) -> None:
        """Prove nothing any more with the keys of *jkts*, by whatever was handed out with them."""
        for holder in self._holders.values():
            holder.dropped.update(jkts)
            for jkt in holder.known.keys() & set(jkts):
                holder.known[jkt].close()
            holder.known = {jkt: key for jkt, key in holder.known.items() if jkt not in jkts}

    async def run(self) -> NoReturn:
        """Write down what was made, until cancelled; again and again where the disk refuses."""
        while True:
            self._wanted.clear()
            while self._news:
                self._emit(self._news.pop(0))
            try:
                for holder in tuple(self._holders.values()):
                    await self._save(holder)
            except LocalError:  # the store has said so by an event of its own
                await asyncio.sleep(RETRY_INTERVAL)
            else:
                await self._wanted.wait()

    def close(self) -> None:
        """Sign no more."""
        for holder in self._holders.values():
            for key in holder.known.values():
                key.close()

    def _new(self, place: str, client: Client) -> _Holder:
        """Begin with what the store has of a client, which may be bound to a key that the file does not name."""
        holder = _Holder(server_nonces=Nonces(self._clock), resource_nonces=Nonces(self._clock))
        if self._stored is None:
            self._stored = {name: one.value for name, one in self._store.records(KIND).items()}
        written = self._stored.get(KIND + place)
        if written is not None:
            try:
                holder.made = stored_proof_key(client.name, written)
            except LocalError:
                holder.lost = True
                self._news.append(DpopKeyUnreadable(client=client.name, record=KIND + place))
            else:
                holder.known[holder.made.jkt] = holder.made
                del self._stored[KIND + place]  # a private key in the clear
        return holder

    def _made(self, holder: _Holder, place: str, client: Client) -> ProofKey:
        if holder.made is None:
            holder.made, written = make_proof_key(client.name)
            # What cannot be read is not written over: another version of the broker may read it.
            holder.unsaved = None if holder.lost else Put(name=KIND + place, value=written)
        return holder.made

    async def _secure(self, client: str, place: str, key: ProofKey) -> None:
        """Make *key* durable if it was made, as far as anything is. Raises LocalError."""
        holder = self._holders[place]
        if holder.lost and key is holder.made:
            message = f"the DPoP key of client {client} in the store cannot be understood"
            raise LocalError(Reason.DPOP_KEY_UNREADABLE, message, hint="run the version of the broker that wrote it")
        await self._save(holder)

    async def _save(self, holder: _Holder) -> None:
        """Write down the key that was made. Raises LocalError ``store_unavailable``."""
        async with holder.saving:
            if holder.unsaved is not None:
                await self._store.write([holder.unsaved])
                holder.unsaved = None


def place_of(issuer: str, client_id: str) -> str:
    """
    Give the name under which the key of a client is kept: that of its registration, not that of its section.

    Grants are the registration's, too: whoever renames ``[client.NAME]`` keeps both.
    """
    digest = sha256(f"{issuer}\n{client_id}".encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
