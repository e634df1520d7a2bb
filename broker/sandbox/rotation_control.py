"""Commands about keys and certificates: of clients, and of the server, while both are at work."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Protocol

from aiohttp import web

from broker.sandbox.authorities import Authorities, CertificateRefusedError, Issued, Step
from broker.sandbox.client_keys import KeysRefusedError, check_address, read_key, read_key_set
from broker.sandbox.clients import RegisteredClient, SenderConstraint
from broker.sandbox.commands import CommandRefusedError, only, read_object, yes_or_no
from broker.sandbox.demo_clients import CLIENT_ID
from broker.sandbox.fault_kinds import is_text

MAX_LIFETIME = 365 * 86_400
"""Seconds of a client certificate's life: a year."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9._~-]{1,64}")


class Rotated(Protocol):
    """What these commands change."""

    @property
    def clients(self) -> dict[str, RegisteredClient]:
        """The clients by their ids."""

    @property
    def authorities(self) -> Authorities:
        """The certificate authorities."""

    def issue_client(
        self,
        name: str,
        *,
        lifetime: timedelta | None = None,
        common_name: str | None = None,
        request: bytes | None = None,
    ) -> Issued:
        """Issue a client certificate."""

    def change_authority(self, step: str, *, cut: bool = False) -> None:
        """Take a step, and close what is open if *cut*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationControl:
    """Carries out commands on *rotated*."""

    rotated: Rotated

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_get("/sandbox/clients", self._list_clients)
        router.add_put("/sandbox/clients/{client_id}", self._put_client)
        router.add_post("/sandbox/clients/{client_id}/keys", self._add_key)
        router.add_post("/sandbox/certificates", self._issue)
        router.add_post("/sandbox/authority", self._change_authority)

    async def _list_clients(self, _request: web.Request) -> web.Response:
        return web.json_response({"clients": [described(one) for one in self.rotated.clients.values()]})

    async def _put_client(self, request: web.Request) -> web.Response:
        client_id = request.match_info["client_id"]
        if not _CLIENT_ID.fullmatch(client_id):
            raise CommandRefusedError("client_id: must be up to 64 letters, digits, dots, hyphens, _ and ~")
        given = await read_object(request)
        known = self.rotated.clients.get(client_id)
        model = known or replace(self.rotated.clients[CLIENT_ID], client_id=client_id)
        changed = _changed(model, given)
        self.rotated.clients[client_id] = changed
        return web.json_response(described(changed), status=200 if known else 201)

    async def _add_key(self, request: web.Request) -> web.Response:
        client = self.rotated.clients.get(request.match_info["client_id"])
        if client is None:
            raise CommandRefusedError("there is no such client")
        try:
            key = read_key(await read_object(request))
        except KeysRefusedError as error:
            raise CommandRefusedError(str(error)) from None
        others = tuple(one for one in client.keys if one.kid != key.kid)
        changed = replace(client, keys=(*others, key))
        self.rotated.clients[client.client_id] = changed
        return web.json_response(described(changed), status=201)

    async def _issue(self, request: web.Request) -> web.Response:
        given = only(await read_object(request), "name", "common_name", "lifetime_seconds", "csr")
        name, lifetime, csr = given.get("name", ""), given.get("lifetime_seconds"), given.get("csr")
        common_name = given.get("common_name", "client")
        if lifetime is not None and not _is_lifetime(lifetime):
            raise CommandRefusedError(f"lifetime_seconds: must be an integer from 1 to {MAX_LIFETIME}")
        if not is_text(name) or not is_text(common_name) or not 1 <= len(common_name) <= 40:
            raise CommandRefusedError("name and common_name: must be up to 40 characters of printable ASCII")
        if csr is not None and not (isinstance(csr, str) and csr.isascii()):
            raise CommandRefusedError("csr: must be PEM")
        try:
            issued = self.rotated.issue_client(
                name,
                lifetime=None if lifetime is None else timedelta(seconds=lifetime),
                common_name=common_name,
                request=None if csr is None else csr.encode(),
            )
        except CertificateRefusedError as error:
            raise CommandRefusedError(str(error)) from None
        return web.json_response(_described_certificate(name, issued), status=201)

    async def _change_authority(self, request: web.Request) -> web.Response:
        given = only(await read_object(request), "step", "cut")
        step = given.get("step")
        if not isinstance(step, str) or step not in set(Step):
            raise CommandRefusedError(f"step: must be one of {', '.join(Step)}")
        self.rotated.change_authority(step, cut=yes_or_no(given, "cut", unless=False))
        authorities = self.rotated.authorities
        return web.json_response(
            {"generation": authorities.generation, "announced": authorities.announced is not None},
        )


def described(client: RegisteredClient) -> dict[str, Any]:
    """Give what may be said of a client as JSON."""
    return {
        "client_id": client.client_id,
        "sender_constraint": str(client.sender_constraint),
        "public": client.public,
        "keys": [{"kid": key.kid, "alg": str(key.alg)} for key in client.keys],
        "jwks_uri": client.jwks_uri,
        "jwks_socket": client.jwks_socket,
    }


def _changed(client: RegisteredClient, given: dict[str, Any]) -> RegisteredClient:
    """Give *client* with the members that are *given*. Raises CommandRefusedError."""
    only(given, "sender_constraint", "public", "jwks", "jwks_uri", "jwks_socket")
    constraint = given.get("sender_constraint", client.sender_constraint)
    if constraint not in [*SenderConstraint]:
        raise CommandRefusedError(f"sender_constraint: must be one of {', '.join(SenderConstraint)}")
    socket = given.get("jwks_socket", client.jwks_socket)
    if socket is not None and not is_text(socket):
        raise CommandRefusedError("jwks_socket: must be null or a path")
    uri = given.get("jwks_uri", client.jwks_uri)
    try:
        keys = read_key_set(given["jwks"]) if "jwks" in given else client.keys
        uri = None if uri is None else check_address(uri)
    except KeysRefusedError as error:
        raise CommandRefusedError(str(error)) from None
    if uri is not None and uri != client.jwks_uri and "jwks" not in given:
        keys = ()  # they are to be fetched from there, and from nowhere else
    return replace(
        client,
        keys=keys,
        sender_constraint=SenderConstraint(constraint),
        public=yes_or_no(given, "public", unless=client.public),
        jwks_uri=uri,
        jwks_socket=socket,
    )


def _described_certificate(name: str, issued: Issued) -> dict[str, Any]:
    return {
        "name": name,
        "thumbprint": issued.thumbprint(),
        "not_after": int(issued.certificate.not_valid_after_utc.timestamp()),
        "cert_file": str(issued.cert_file),
        "key_file": None if issued.key_file is None else str(issued.key_file),
        "certificate": issued.pem().decode(),
    }


def _is_lifetime(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_LIFETIME
