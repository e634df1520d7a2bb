"""
A sandbox that runs: its listeners, its state, and what a test may tell it.

The one place where the parts are put together, and where the clock and chance come from.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from broker.sandbox.authorities import Authorities, Issued, Step
from broker.sandbox.authorization_endpoint import AuthorizationEndpoint
from broker.sandbox.authorization_request import RequestReader
from broker.sandbox.authorization_response import Responder
from broker.sandbox.broker_config import SOCKET, TOKEN, broker_config
from broker.sandbox.client_keys import ClientKeys
from broker.sandbox.clients import RegisteredClient
from broker.sandbox.control import Control
from broker.sandbox.demo_clients import CLIENT_ID, REDIRECT_URIS, demo_clients
from broker.sandbox.dpop import Nonces, ProofReader
from broker.sandbox.families import Families
from broker.sandbox.fault_kinds import Where
from broker.sandbox.faults import KINDS, Fault, FaultBoard, read_fault
from broker.sandbox.grant_endpoints import GrantEndpoints
from broker.sandbox.grant_routes import GrantRoutes
from broker.sandbox.jose import SigningAlg
from broker.sandbox.journal import Journal
from broker.sandbox.keyring import Keyring
from broker.sandbox.layout import (
    ADDRESSES,
    CLIENTS_CA,
    CONFIG,
    CONSENTS_CONFIG,
    SERVER,
    Material,
    claim,
    load,
    make,
    read_addresses,
    write_private,
    write_public,
)
from broker.sandbox.listeners import (
    HOST,
    NAME,
    Certificate,
    ClientCertificates,
    Handshake,
    Listener,
    bind,
    origin,
    server_context,
)
from broker.sandbox.metadata import SCOPES, Addresses
from broker.sandbox.options import NonceMode, Options
from broker.sandbox.resource import Guard
from broker.sandbox.responding import Responding
from broker.sandbox.server import Server
from broker.sandbox.token_endpoint import DEFAULT_LIFETIME, TokenEndpoint

SERVER_CERTIFICATES = ("good", "expired", "wrong_name", "self_signed")


LISTENERS = ("issuer", "mtls", "resource", "elsewhere", "control")


class Sandbox:
    """
    An authorization server and a resource API on loopback, for tests and demonstrations.

    Made by ``start``. *addresses* says where everything is, *material* holds keys and certificates;
    *faults* and *journal* may be used directly.
    """

    def __init__(
        self, material: Material, sockets: Mapping[str, socket.socket], *, lifetime: int, wall: Callable[[], float]
    ) -> None:
        self.material = material
        self.addresses = _addresses(sockets)
        self.faults = FaultBoard(wall)
        self.journal = Journal()
        self.options = Options()
        self.down = False
        self._ports = {name: bound.getsockname()[1] for name, bound in sockets.items()}
        self._wall = wall
        self.authorities = Authorities.load(material.directory, material.authority)
        self.keyring = Keyring(access_token_key=material.access_token_key, keys=dict(material.identity_keys))
        self.families = Families(options=self.options, new_value=lambda: secrets.token_urlsafe(32))
        self._resource_proofs = self._proof_reader(lambda: self.options.resource_dpop_nonces)
        self._tokens = TokenEndpoint(
            issuer=self.addresses.issuer,
            signing_key=material.access_token_key,
            clients=demo_clients(material, self.addresses),
            new_jti=lambda: secrets.token_urlsafe(16),
            families=self.families,
            keyring=self.keyring,
            options=self.options,
            proofs=self._proof_reader(lambda: self.options.dpop_nonces),
            lifetime=lifetime,
        )
        self._listeners: dict[str, Listener] = {}

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        directory: Path,
        *,
        keep: bool = False,
        ports: Mapping[str, int] | None = None,
        strict: bool = False,
        lifetime: int = DEFAULT_LIFETIME,
        wall: Callable[[], float] = time.time,  # noqa: TID251 (the one place where the sandbox gets a clock)
    ) -> AsyncIterator[Sandbox]:
        """
        Run a sandbox in *directory* until the context ends.

        *keep* goes on with keys, certificates and ports of an earlier run there; else all is made anew.
        *ports* of any of ``LISTENERS`` are chosen by the kernel where they are not given. *strict* refuses
        clients without a certificate in the TLS handshake. *lifetime* of access tokens in seconds. Raises
        DirectoryRefusedError, and OSError for a port that is taken.
        """
        async with AsyncExitStack() as stack:
            stack.enter_context(claim(directory))
            if keep:
                material = await asyncio.to_thread(load, directory)
                ports = {**read_addresses(directory).get("ports", {}), **(ports or {})}
            else:
                material = await asyncio.to_thread(make, directory, now=wall())
            sockets = {name: stack.enter_context(bind((ports or {}).get(name, 0))) for name in LISTENERS}
            sandbox = cls(material, sockets, lifetime=lifetime, wall=wall)
            for name, listener in sandbox._listen(sockets, strict=strict).items():
                sandbox._listeners[name] = listener
                stack.push_async_callback(listener.end)
                await listener.open()
            sandbox._write_files()
            yield sandbox

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self.material.directory

    @property
    def config_file(self) -> Path:
        """The configuration for a broker."""
        return self.directory / CONFIG

    @property
    def control_token(self) -> str:
        """What the control listener wants to see."""
        return self.material.control_token

    @property
    def lifetime(self) -> int:
        """Seconds that access tokens issued from now on live."""
        return self._tokens.lifetime

    def set_lifetime(self, seconds: int) -> None:
        """Set the seconds that access tokens issued from now on live."""
        self._tokens.lifetime = seconds

    def set_options(self, **changes: Any) -> None:
        """Change options, as named in ``Options``. Raises OptionRefusedError."""
        self.options.change(changes)

    def fault(self, where: str, kind: str, **parameters: Any) -> None:
        """Put a fault up, described as to the control listener. Raises FaultRefusedError."""
        self.add_fault(read_fault({"where": where, "kind": kind, **parameters}))

    def add_fault(self, fault: Fault) -> None:
        """Put *fault* up; one of the handshake closes the connections that are open at its listener."""
        self.faults.add(fault)
        if KINDS[fault.kind].handshake:
            self._listeners[HANDSHAKES_AT[fault.where]].cut()

    async def set_down(self, down: bool) -> None:
        """Close all listeners but the control listener, cutting what is open; or open them again."""
        self.down = down
        for name in LISTENERS:
            if name != "control":
                await (self._listeners[name].close() if down else self._listeners[name].open())

    def register_client(self, client: RegisteredClient) -> None:
        """Let *client* ask for tokens, in place of an earlier one of the same ``client_id``."""
        self._tokens.clients[client.client_id] = client

    @property
    def clients(self) -> dict[str, RegisteredClient]:
        """The clients by their ids."""
        return self._tokens.clients

    def issue_client(
        self,
        name: str,
        *,
        lifetime: timedelta | None = None,
        common_name: str | None = None,
        request: bytes | None = None,
    ) -> Issued:
        """Issue a client certificate as ``Authorities.issue_client`` does. Raises CertificateRefusedError."""
        return self.authorities.issue_client(
            name, now=self._wall(), lifetime=lifetime, common_name=common_name, request=request
        )

    def change_authority(self, step: str, *, cut: bool = False) -> None:
        """Take one of ``authorities.Step``; open connections go on unless they are *cut*."""
        self.authorities.take(Step(step), now=self._wall())
        for name in ("issuer", "mtls", "resource", "elsewhere") if cut else ():
            self._listeners[name].cut()

    def _proof_reader(self, mode: Callable[[], NonceMode]) -> ProofReader:
        nonces = Nonces(options=self.options, mode=mode, new_value=lambda: secrets.token_urlsafe(16))
        return ProofReader(nonces=nonces, options=self.options)

    def _listen(self, sockets: Mapping[str, socket.socket], *, strict: bool) -> dict[str, Listener]:
        server = self._server()
        control = Control(controlled=self, token=self.control_token)
        wanted = ClientCertificates.REQUIRED if strict else ClientCertificates.ASKED
        contexts = {
            "issuer": self._context(Where.METADATA, ClientCertificates.NOT_ASKED),
            "mtls": self._context(Where.TOKEN, wanted),
            "resource": self._context(Where.RESOURCE, wanted),
            "elsewhere": self._context(None, ClientCertificates.ASKED),
            "control": None,
        }
        applications = {
            "issuer": server.issuer_application(),
            "mtls": server.mtls_application(),
            "resource": server.resource_application(),
            "elsewhere": server.elsewhere_application(),
            "control": control.application(),
        }
        return {name: Listener(sockets[name], applications[name], contexts[name]) for name in LISTENERS}

    def _server(self) -> Server:
        issuer, key = self.addresses.issuer, self.material.access_token_key
        responding = Responding(
            addresses=self.addresses,
            faults=self.faults,
            journal=self.journal,
            wall=self._wall,
            client_keys=ClientKeys(clients=self.clients, journal=self.journal, wall=self._wall),
        )
        reader = RequestReader(
            issuer=issuer,
            clients=self._tokens.clients,
            options=self.options,
            new_value=lambda: secrets.token_urlsafe(32),
        )
        authorization = AuthorizationEndpoint(
            reader=reader,
            families=self.families,
            responder=Responder(issuer=issuer, options=self.options, keyring=self.keyring),
        )
        endpoints = GrantEndpoints(
            tokens=self._tokens,
            reader=reader,
            families=self.families,
            options=self.options,
            guard=Guard(
                issuer=issuer,
                audience=None,
                scope="openid",
                signing_key=key,
                proofs=self._tokens.proofs,
                is_over=self.families.is_over,
            ),
        )
        return Server(
            tokens=self._tokens,
            grants=GrantRoutes(authorization=authorization, endpoints=endpoints, responding=responding),
            guard=Guard(
                issuer=issuer,
                audience=self.addresses.resource,
                scope=SCOPES[0],
                signing_key=key,
                proofs=self._resource_proofs,
                is_over=self.families.is_over,
            ),
            responding=responding,
        )

    def _context(self, where: Where | None, clients: ClientCertificates) -> ssl.SSLContext:
        server = self.directory / SERVER
        certificates = {
            name: Certificate(cert_file=server / f"{name}.pem", key_file=server / f"{name}.key")
            for name in SERVER_CERTIFICATES
        }

        def next_handshake() -> Handshake:
            fault = None if where is None else self.faults.take(where, handshake=True)
            if fault is None:
                return Handshake()
            if fault.kind == "bad_certificate":
                return Handshake(certificate=fault.parameters["variant"])
            return Handshake(believe_clients=False)

        return server_context(
            certificates,
            server / CLIENTS_CA,
            clients=clients,
            next_handshake=next_handshake,
            generation=lambda: self.authorities.generation,
        )

    def _write_files(self) -> None:
        described = {
            **asdict(self.addresses),
            "hello": self.addresses.hello,
            "token": TOKEN,
            "socket": str(self.directory / SOCKET),
            "pid": os.getpid(),
            "ports": self._ports,
        }
        for file, consents in ((CONFIG, False), (CONSENTS_CONFIG, True)):
            text = broker_config(
                self.addresses,
                self.material.signing_keys[SigningAlg.PS256],
                client_id=CLIENT_ID,
                scope=SCOPES[0],
                uid=os.getuid(),
                ops_port=0,
                redirect_uris=REDIRECT_URIS,
                consents=consents,
            )
            write_private(self.directory / file, text.encode())
        write_public(self.directory / ADDRESSES, json.dumps(described, indent=1).encode() + b"\n")


HANDSHAKES_AT = {Where.TOKEN: "mtls", Where.METADATA: "issuer", Where.RESOURCE: "resource"}
"""At which listener the handshake faults of a place strike."""


def _addresses(sockets: Mapping[str, socket.socket]) -> Addresses:
    named = {name: origin(sockets[name], "https", NAME) for name in ("issuer", "mtls", "resource")}
    # Another host, not only another port: a broker must tell it from the issuer whether it compares ports or not.
    foreign = {"elsewhere": origin(sockets["elsewhere"], "https", HOST)}
    return Addresses(**named, **foreign, control=origin(sockets["control"], "http", HOST))
