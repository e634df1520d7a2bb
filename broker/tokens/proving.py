"""
DPoP proofs for requests that callers make themselves (rules.md R7): for one method, one URL and one token.

Never for an endpoint of the authorization server, where the key stands for the client; and with a nonce of a caller
only if that origin has handed it out to this broker: what nobody knows here may be anything. Under which URLs a
token may be used at all is decided by whoever calls this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from broker.errors import BrokerError
from broker.oauth.dpop import htu_of, origin_of
from broker.oauth.metadata import AuthorizationServer, endpoints_of
from broker.oauth.secret import DpopProof
from broker.tokens.acquire import Registration
from broker.tokens.proofs import JTI_BYTES, Proofs
from broker.tokens.spec import IssuedToken, TokenSpec


class ProofRefusedError(BrokerError):
    """No proof is made; *code* is ``not_dpop``, ``endpoint_of_server`` or ``nonce_unknown``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeProof:
    """A proof, and the ``jti`` by which the resource server may know it."""

    proof: DpopProof
    jti: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Endpoints:
    """The endpoints in the metadata of *server*, in plain form; *of_the_client* are those but the userinfo endpoint."""

    server: AuthorizationServer
    every: frozenset[str]
    of_the_client: frozenset[str]


class Proving:
    """Makes proofs for callers, by the name of the token."""

    def __init__(self, specs: Iterable[TokenSpec], registrations: Mapping[str, Registration]) -> None:
        """Take the *registrations* by the name of the client."""
        self.replace(specs, registrations)

    def replace(self, specs: Iterable[TokenSpec], registrations: Mapping[str, Registration]) -> None:
        """Go on under another configuration."""
        self._specs = {spec.name: spec for spec in specs}
        self._registrations = dict(registrations)
        self._endpoints: dict[str, _Endpoints] = {}  # by the name of the client

    def resources(self, token: str) -> tuple[str, ...]:
        """Give the base URLs that the configuration of *token* names, none for one that is not configured."""
        spec = self._specs.get(token)
        return () if spec is None else spec.dpop_resources

    def proofs(self, token: str) -> Proofs | None:
        """
        Give the means to make proofs for requests with *token*, None where it is not bound by DPoP.

        As they are under the configuration in force: to be asked anew for each request. Raises KeyError.
        """
        return self._registrations[self._specs[token].client].exchange.proofs

    async def is_endpoint(self, token: str, url: str) -> bool:
        """
        Say whether *url*, without its query, is an endpoint of the authorization server of *token*.

        The userinfo endpoint is none here: it is an API that wants the token. Raises RemoteError when there is no
        metadata to compare it with, and KeyError for a *token* that is not configured.
        """
        return _plain(url) in (await self._endpoints_of(self._specs[token].client)).of_the_client

    async def check(self, token: str, url: str, *, nonce: str | None) -> None:
        """
        See that a proof for *url* may be made, before the token is fetched.

        *url* is one that ``is_canonical``. Raises ProofRefusedError; RemoteError when there is no metadata to compare
        it with; KeyError for a *token* that is not configured.
        """
        proofs = self._means(token)
        if _plain(url) in (await self._endpoints_of(self._specs[token].client)).every:
            raise ProofRefusedError("endpoint_of_server", "the URL is an endpoint of the authorization server")
        if nonce is not None and not proofs.resource_nonces.is_recent(origin_of(url), nonce):
            raise ProofRefusedError("nonce_unknown", "the server has not handed out this nonce lately")

    async def prove(self, token: str, issued: IssuedToken, *, method: str, url: str, nonce: str | None) -> MadeProof:
        """Make a proof for a request with *issued*. Raises as ``check``, and LocalError when the key cannot sign."""
        proofs = self._means(token)
        jti = proofs.randomness.token(JTI_BYTES)
        proof = await proofs.for_resource(method, url, issued.access_token, jkt=issued.jkt, nonce=nonce, jti=jti)
        return MadeProof(proof=proof, jti=jti)

    def _means(self, token: str) -> Proofs:
        proofs = self.proofs(token)
        if proofs is None:
            raise ProofRefusedError("not_dpop", "the token is not bound to a key by DPoP")
        return proofs

    async def _endpoints_of(self, client: str) -> _Endpoints:
        """Give the endpoints of a client's server; read out of its metadata once, for this is asked at every call."""
        server = await self._registrations[client].metadata.get()
        known = self._endpoints.get(client)
        if known is None or known.server is not server:
            known = self._endpoints[client] = _read(server)
        return known


def _read(server: AuthorizationServer) -> _Endpoints:
    every = endpoints_of(server)
    of_userinfo = {server.userinfo_endpoint, server.mtls_endpoint_aliases.get("userinfo_endpoint")}
    return _Endpoints(
        server=server,
        every=frozenset(_plain(htu_of(one)) for one in every),
        of_the_client=frozenset(_plain(htu_of(one)) for one in every - of_userinfo),
    )


def _plain(htu: str) -> str:
    """
    Give what is compared.

    Servers are known to overlook the case of a path and a slash at its end, and take an escaped letter for the letter
    (RFC 3986 section 6.2.2).
    """
    return unquote(htu).lower().removesuffix("/")
