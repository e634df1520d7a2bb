"""
Makes DPoP proofs (RFC 9449): for requests to authorization servers, and for those to APIs with a token.

Every transmission gets a fresh proof with a fresh ``jti``. Nonces of authorization servers and of resource servers
are apart, even those of one origin: they need not be good for each other (RFC 9449 section 9).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from broker.errors import LocalError
from broker.oauth.dpop import htu_of, nonce_of, origin_of, proof_claims
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, DpopProof
from broker.tokens.nonces import Nonces
from broker.tokens.ports import Clock, ProofKey, Randomness

JTI_BYTES = 16
"""128 random bits: no two proofs or assertions of any broker share a ``jti``."""

Headers = Iterable[tuple[str, str]]
"""Of an answer; names in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """
    A client's means to prove that it holds the key its tokens are bound to.

    *key* is the one that tokens are asked for with now; *known* are all that the client's tokens and codes may be
    bound to still, by thumbprint, *key* among them. *dropped* are those of them that prove nothing any more, because
    they are in wrong hands: that set changes under all who hold this. *secure* makes *key* durable, as far as anything
    is: before anything is asked for that would be lost with it. It raises LocalError ``store_unavailable``.
    """

    key: ProofKey
    known: Mapping[str, ProofKey]
    server_nonces: Nonces
    resource_nonces: Nonces
    secure: Callable[[], Awaitable[None]]
    dropped: AbstractSet[str] = frozenset()
    clock: Clock
    randomness: Randomness

    @property
    def jkt(self) -> str:
        """The thumbprint (RFC 7638) of the key that tokens are asked for with now."""
        return self.key.jkt

    def knows(self, jkt: str | None) -> bool:
        """Say whether proofs can be made with the key of *jkt*."""
        return jkt in self.known and jkt not in self.dropped

    async def for_server(self, method: str, url: str, *, jkt: str, nonce: str | None = None) -> DpopProof:
        """
        Prove the key of *jkt* to an authorization server; *nonce* is what it has just asked for.

        Raises LocalError ``signing_failed``, ``dpop_key_unknown``.
        """
        nonce = self.server_nonces.newest(origin_of(url)) if nonce is None else nonce
        return await self._made(method, url, jkt=jkt, nonce=nonce)

    async def for_resource(
        self,
        method: str,
        url: str,
        access_token: AccessToken,
        *,
        jkt: str | None,
        nonce: str | None = None,
        jti: str | None = None,
    ) -> DpopProof:
        """
        Prove to a resource server the key of *jkt*, to which *access_token* is bound; *nonce* as above.

        *jti* is drawn for it by who has to know it, who must not use it twice.

        Raises LocalError as above, and NotAnEndpointUrlError for a *url* that is no plain absolute one.
        """
        nonce = self.resource_nonces.newest(origin_of(url)) if nonce is None else nonce
        return await self._made(method, url, jkt=jkt, nonce=nonce, access_token=access_token, jti=jti)

    def note_server(self, url: str, headers: Headers) -> str | None:
        """Take in an answer of an authorization server, whatever its status; gives the nonce in it."""
        return _taken(self.server_nonces, url, headers)

    def note_resource(self, url: str, headers: Headers) -> str | None:
        """Take in an answer of a resource server, whatever its status; gives the nonce in it."""
        return _taken(self.resource_nonces, url, headers)

    async def _made(
        self,
        method: str,
        url: str,
        *,
        jkt: str | None,
        nonce: str | None,
        access_token: AccessToken | None = None,
        jti: str | None = None,
    ) -> DpopProof:
        key = self.known.get(jkt or "")
        if key is None or key.jkt in self.dropped:
            raise LocalError(Reason.DPOP_KEY_UNKNOWN, "the DPoP key that the token or the code is bound to is gone")
        claims = proof_claims(
            htm=method,
            htu=htu_of(url),
            jti=self.randomness.token(JTI_BYTES) if jti is None else jti,
            now=self.clock.wall(),
            access_token=access_token,
            nonce=nonce,
        )
        return DpopProof(await key.prove(claims))


def _taken(nonces: Nonces, url: str, headers: Headers) -> str | None:
    nonce = nonce_of(headers)
    if nonce is not None:
        nonces.take(origin_of(url), nonce)
    return nonce
