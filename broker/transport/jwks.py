"""
The public keys of one issuer: fetched when something has to be verified, kept, and fetched anew for a key
that is missing.

A server may rotate its key just before it signs, so that a miss is worth a fetch at once; but anybody can
make up the name of a key, so that the next miss has to wait (JWKS-03). Which keys are of use is decided in
``broker.oauth.jwks``; this module only keeps them.
"""

from __future__ import annotations

import asyncio

from broker.errors import Outcome, RemoteError
from broker.oauth.jwks import JwkSet, read_jwks
from broker.oauth.messages import Request
from broker.oauth.reasons import Reason
from broker.tokens.ports import Clock, MetadataSource, Randomness, Session
from broker.transport.retries import Sleep, get_with_retries

KEYS_TTL = 300.0
"""Seconds that a set is good for without a reason to doubt it."""

MISS_COOLDOWN = 60.0
"""Seconds after a fetch that a missing key caused, in which no other missing key causes one."""

FAILED_TTL = 10.0
"""Seconds that a failed fetch is not repeated: many refreshes may want the keys at once, one behind the other."""

FETCH_DEADLINE = 15.0
"""Seconds for a fetch with its tries, and for the metadata that say where: callers wait for it, in a row."""

STALE_CAP = 86_400.0
"""Seconds that a set is used whose successor cannot be fetched: a key that was withdrawn a day ago is not trusted."""


class KeySource:
    """Implements ``tokens.ports.KeySource`` for one issuer, whose *metadata* says where the keys are."""

    def __init__(
        self,
        *,
        metadata: MetadataSource,
        session: Session,
        clock: Clock,
        randomness: Randomness,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._metadata = metadata
        self._session = session
        self._clock = clock
        self._randomness = randomness
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._keys: JwkSet | None = None
        self._fetched_at = 0.0
        self._missed_at: float | None = None
        self._failed_at: float | None = None
        self._failed_with: str = ""

    async def get(self) -> JwkSet:
        """Give the keys. Raises RemoteError ``keys_unavailable`` when there are none that may be used."""
        async with self._lock:
            if self._failed_just_now():
                self._make_do()
            elif self._keys is None or self._age() >= KEYS_TTL:
                await self._fetch()
            assert self._keys is not None
            return self._keys

    async def get_newer(self, than: JwkSet) -> JwkSet | None:
        """
        Give keys that were fetched after *than*, because a key was missing in it; None when it is too soon.

        Raises RemoteError ``keys_unavailable`` as ``get`` does.
        """
        async with self._lock:
            if self._keys is not than and self._keys is not None:
                return self._keys  # somebody else missed a key, too
            now = self._clock.boot()
            if self._missed_at is not None and now - self._missed_at < MISS_COOLDOWN:
                return None
            self._missed_at = now
            await self._fetch()
            return None if self._keys is than else self._keys

    def renew(self, session: Session) -> None:
        """Fetch with *session* from now on; the keys in hand stay."""
        self._session = session

    def _failed_just_now(self) -> bool:
        return self._failed_at is not None and self._clock.boot() - self._failed_at < FAILED_TTL

    def _age(self) -> float:
        return self._clock.boot() - self._fetched_at

    async def _fetch(self) -> None:
        """Fetch; when that fails the set in hand stays for a day after it was fetched."""
        try:
            async with asyncio.timeout(FETCH_DEADLINE):
                keys = await self._ask()
        except (RemoteError, TimeoutError) as error:
            self._failed_at = self._clock.boot()
            self._failed_with = str(error.code) if isinstance(error, RemoteError) else Reason.TIMED_OUT
            self._make_do(error)
            return
        self._keys, self._fetched_at, self._failed_at = keys, self._clock.boot(), None

    def _make_do(self, error: Exception | None = None) -> None:
        """Go on with the set in hand after a fetch that failed with *error*. Raises RemoteError where there is none."""
        if self._keys is not None and self._age() < STALE_CAP:
            return
        self._keys = None
        raise RemoteError(
            Reason.KEYS_UNAVAILABLE,
            "the public keys of the authorization server cannot be had",
            outcome=Outcome.NOT_SENT,
            hint=f"the request for them failed: {self._failed_with}",
        ) from error

    async def _ask(self) -> JwkSet:
        server = await self._metadata.get()
        if server.jwks_uri is None:
            raise RemoteError(Reason.METADATA_INSUFFICIENT, "the metadata has no jwks_uri", outcome=Outcome.NOT_SENT)
        response = await get_with_retries(
            self._session,
            Request(method="GET", url=server.jwks_uri),
            clock=self._clock,
            randomness=self._randomness,
            sleep=self._sleep,
        )
        return read_jwks(response, wall_now=self._clock.wall())
