"""
Where the public keys of clients come from: registered by command, or fetched from the client's ``jwks_uri``.

A set is fetched when a client signs with a key that is not known, as real servers do that keep what they fetched.
What cannot be fetched or read changes nothing. Only addresses of this machine are called.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from broker.sandbox.clients import RegisteredClient
from broker.sandbox.jose import (
    JsonWebKey,
    NotSignedError,
    SigningAlg,
    read_proof_key,
    unverified_claims,
    unverified_header,
)
from broker.sandbox.journal import Entry, Journal

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

DEADLINE = 5.0
"""Seconds for a fetch: the request that needs the key waits."""

MAX_SET = 65_536
"""Bytes of a JWK Set: a hundred keys."""


class KeysRefusedError(ValueError):
    """A key, a set of keys or its address is no good; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKeys:
    """Keeps the keys of *clients* up to date; each fetch is in the *journal*, at the time that *wall* gives."""

    clients: dict[str, RegisteredClient]
    journal: Journal
    wall: Callable[[], float]
    _fetching: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def freshen(self, *tokens: str | None) -> None:
        """Fetch the keys of the clients that say they signed *tokens*, where the key is not known."""
        for token in tokens:
            client_id, kid = _signer(token)
            if self._lacks(client_id, kid):
                async with self._fetching:
                    if self._lacks(client_id, kid):  # still, after others had fetched
                        await self._fetch(self.clients[client_id])

    def _lacks(self, client_id: str, kid: str) -> bool:
        client = self.clients.get(client_id)
        return client is not None and client.jwks_uri is not None and kid not in {key.kid for key in client.keys}

    async def _fetch(self, client: RegisteredClient) -> None:
        outcome = "ok"
        try:
            keys = read_key_set(json.loads(await _got(client.jwks_uri or "", client.jwks_socket)))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            outcome = "failed"
        else:
            # What was registered meanwhile is newer than what was asked for before.
            now = self.clients[client.client_id]
            if _source(now) == _source(client):
                self.clients[client.client_id] = replace(now, keys=keys)
        entry = Entry(time=self.wall(), endpoint="client_jwks", method="GET", outcome=outcome, client=client.client_id)
        self.journal.record(entry)


def _source(client: RegisteredClient) -> tuple[object, ...]:
    """Give its keys, and where they come from."""
    return client.keys, client.jwks_uri, client.jwks_socket


def read_key(jwk: Any) -> JsonWebKey:
    """Read a public JWK with ``alg`` and ``kid``. Raises KeysRefusedError."""
    if not isinstance(jwk, Mapping) or not isinstance(jwk.get("kid"), str) or jwk.get("alg") not in [*SigningAlg]:
        raise KeysRefusedError(f"a key must be a JWK with a kid, and with an alg of {', '.join(SigningAlg)}")
    try:
        return replace(read_proof_key(SigningAlg(jwk["alg"]), jwk), kid=jwk["kid"])
    except ValueError as error:
        raise KeysRefusedError(f"a key is refused: {error}") from None


def read_key_set(jwks: Any) -> tuple[JsonWebKey, ...]:
    """Read the keys of a JWK Set that are for signatures. Raises KeysRefusedError."""
    keys = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(keys, list):
        raise KeysRefusedError("not a JWK Set")
    return tuple(read_key(one) for one in keys if not isinstance(one, Mapping) or one.get("use", "sig") == "sig")


def check_address(uri: Any) -> str:
    """Give *uri* back if it may be called. Raises KeysRefusedError."""
    try:
        parts = urlsplit(uri if isinstance(uri, str) else "")
        good = parts.scheme == "http" and parts.hostname in LOOPBACK and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise KeysRefusedError("jwks_uri: must be an http URL of this machine")
    return str(uri)


def _signer(token: str | None) -> tuple[str, str]:
    """Give client and key that *token* names, without believing it; empty where it names none."""
    try:
        header, claims = unverified_header(token or ""), unverified_claims(token or "")
    except NotSignedError:
        return "", ""
    client_id, kid = claims.get("iss"), header.get("kid")
    return (client_id, kid) if isinstance(client_id, str) and isinstance(kid, str) else ("", "")


async def _got(uri: str, socket: str | None) -> bytes:
    connector = None if socket is None else aiohttp.UnixConnector(socket)
    timeout = aiohttp.ClientTimeout(total=DEADLINE)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        session.get(uri, allow_redirects=False) as answer,
    ):
        body = await answer.content.read(MAX_SET + 1)
        while len(body) <= MAX_SET and (more := await answer.content.read(MAX_SET)):
            body += more
        if answer.status != 200 or len(body) > MAX_SET:
            raise KeysRefusedError("the answer is no JWK Set")
        return body
