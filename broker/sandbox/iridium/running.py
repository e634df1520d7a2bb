"""
A fake Iridium that runs: its listeners, its state, and what a test may tell it.

The one place where the parts are put together, and where the clock comes from.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aiohttp import web

from broker.sandbox.commands import CommandRefusedError
from broker.sandbox.iridium.broker_config import SOCKET, TOKENS, Served, broker_config
from broker.sandbox.iridium.client_credentials import ClientCredentials
from broker.sandbox.iridium.control import SECONDS, Control, check_redirect_uri
from broker.sandbox.iridium.external import CALLBACK, ExternalFlow
from broker.sandbox.iridium.journal import Journal
from broker.sandbox.iridium.local_flow import LocalFlow
from broker.sandbox.iridium.material import Material, load, make
from broker.sandbox.iridium.protected import API, Protected
from broker.sandbox.iridium.providers import GITHUB, GOOGLE, Manner, Provider, ProviderPages
from broker.sandbox.iridium.redemption import Redemption
from broker.sandbox.iridium.refreshing import Refreshing
from broker.sandbox.iridium.registry import DEFAULT_REDIRECT_URI, SINGLE_PAGE, Registry, subject_of
from broker.sandbox.iridium.server import Server
from broker.sandbox.iridium.switches import Switches
from broker.sandbox.iridium.tokens import DEFAULT_LIFETIME, Tokens
from broker.sandbox.iridium.troubles import Troubles, read_trouble
from broker.sandbox.layout import ADDRESSES, CA, CONFIG, SERVER, claim, read_addresses, write_private, write_public
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

LISTENERS = ("issuer", "development", "github", "google", "control")

PLAIN = frozenset({"development", "control"})
"""Those without TLS."""

DEVELOPMENT_CONFIG = "development.toml"


class Iridium:
    """
    A fake Iridium with its providers and a small API, on loopback.

    Made by ``start``. *addresses* says where everything is; *switches*, *journal*, *registry*, *tokens*, *troubles* and
    *providers* may be used directly.
    """

    def __init__(
        self,
        material: Material,
        sockets: Mapping[str, socket.socket],
        *,
        lifetime: int,
        redirect_uri: str,
        wall: Callable[[], float],
    ) -> None:
        self.material = material
        self.addresses = _addresses(sockets)
        self.switches = Switches()
        self.journal = Journal()
        self.troubles = Troubles()
        self.registry = Registry(redirect_uri=redirect_uri, secret=material.client_secret)
        self.tokens = Tokens(self.switches, lifetime=lifetime)
        self.providers = {
            manner.name: _provider(manner, getattr(self.addresses, manner.name)) for manner in (GITHUB, GOOGLE)
        }
        self.external = ExternalFlow(switches=self.switches, registry=self.registry, providers=self.providers)
        self.local = LocalFlow(switches=self.switches, registry=self.registry)
        self._wall = wall
        self._ports = {name: bound.getsockname()[1] for name, bound in sockets.items()}

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        directory: Path,
        *,
        keep: bool = False,
        ports: Mapping[str, int] | None = None,
        lifetime: int = DEFAULT_LIFETIME,
        redirect_uri: str = DEFAULT_REDIRECT_URI,
        wall: Callable[[], float] = time.time,  # noqa: TID251 (the one place where it gets a clock)
    ) -> AsyncIterator[Iridium]:
        """
        Run one in *directory* until the context ends.

        *keep* goes on with authority, secrets and ports of an earlier run there; tokens and codes are forgotten in any
        case. *ports* of any of ``LISTENERS`` are chosen by the kernel where they are not given. *lifetime* of access
        tokens in seconds; *redirect_uri* is registered for all applications. Raises CommandRefusedError for one that
        is no URL, DirectoryRefusedError, and OSError for a port that is taken.
        """
        check_redirect_uri(redirect_uri)
        async with AsyncExitStack() as stack:
            stack.enter_context(claim(directory))
            if keep:
                material = load(directory)
                ports = {**read_addresses(directory).get("ports", {}), **(ports or {})}
            else:
                material = await asyncio.to_thread(make, directory, now=wall())
            sockets = {name: stack.enter_context(bind((ports or {}).get(name, 0))) for name in LISTENERS}
            iridium = cls(material, sockets, lifetime=lifetime, redirect_uri=redirect_uri, wall=wall)
            for listener in iridium._listen(sockets):
                stack.push_async_callback(listener.end)
                await listener.open()
            iridium._write_files()
            yield iridium

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self.material.directory

    @property
    def config_file(self) -> Path:
        """The configuration for a broker."""
        return self.directory / CONFIG

    @property
    def development_config_file(self) -> Path:
        """The one for http."""
        return self.directory / DEVELOPMENT_CONFIG

    @property
    def redirect_uri(self) -> str:
        """Where people come back to who log in for the application of the configuration."""
        return self.registry.applications[SINGLE_PAGE].redirect_uri

    @property
    def ca_file(self) -> Path:
        """The authority of all its certificates."""
        return self.directory / CA

    @property
    def control_token(self) -> str:
        """What the control listener wants to see."""
        return self.material.control_token

    def set_switch(self, name: str, setting: str) -> None:
        """Set ``IRI-08``, ``IRI-13`` (all parts) or ``IRI`` (everything). Raises CommandRefusedError."""
        self.switches.set(name, setting)

    def settings(self) -> dict[str, Any]:
        """Give switches and lifetimes by name."""
        seconds = (self.tokens.lifetime, self.tokens.refresh_lifetime, self.external.code_lifetime)
        return {**dict(zip(SECONDS, seconds, strict=True)), **self.switches.as_json()}

    def set_lifetimes(self, **seconds: int | None) -> None:
        """Set any of ``control.SECONDS`` for what is issued from now on; only refresh tokens may have None: no end."""
        if set(seconds) - set(SECONDS):
            raise CommandRefusedError(f"no such lifetime: there are {', '.join(SECONDS)}")
        lifetime, code_lifetime = seconds.get("lifetime_seconds"), seconds.get("code_lifetime_seconds")
        if lifetime is not None:
            self.tokens.lifetime = lifetime
        if code_lifetime is not None:
            self.external.code_lifetime = self.local.code_lifetime = code_lifetime
        if "refresh_lifetime_seconds" in seconds:
            self.tokens.refresh_lifetime = seconds["refresh_lifetime_seconds"]

    def set_application(
        self, client_id: str, *, redirect_uri: str | None = None, secret: str | None = None
    ) -> dict[str, Any]:
        """Change what is registered, and write the configuration anew. Raises CommandRefusedError."""
        application = self.registry.application(client_id)
        if application is None:
            raise CommandRefusedError(f"no application {client_id}: there are {', '.join(self.registry.applications)}")
        if redirect_uri is not None:
            application.redirect_uri = check_redirect_uri(redirect_uri)
        if secret is not None:
            application.secret = secret
        self._write_configs()
        return application.as_json()

    def set_redirect_uri(self, redirect_uri: str) -> None:
        """Register *redirect_uri* for all applications. Raises CommandRefusedError."""
        for client_id in self.registry.applications:
            self.set_application(client_id, redirect_uri=redirect_uri)

    def trouble(self, where: str, kind: str, **members: Any) -> None:
        """Put a fault up, described as to the control listener. Raises CommandRefusedError."""
        self.troubles.add(read_trouble({"where": where, "kind": kind, **members}))

    def user_token(self, person: str) -> str:
        """Log *person* in at Iridium itself: give the ``userToken`` of the local flow."""
        return self.local.user_token(person)

    def subject_of(self, person: str, provider: str) -> str:
        """Give the identity of *person* at ``github``, ``google`` or, for the local flow, ``iridium``."""
        return subject_of(person, provider)

    def _listen(self, sockets: Mapping[str, socket.socket]) -> list[Listener]:
        server = self._server()
        addresses = self.addresses
        applications = {
            "issuer": server.application("issuer", addresses.issuer),
            "development": server.application("development", addresses.development),
            **{name: server.provider_application(self._pages(provider)) for name, provider in self.providers.items()},
            "control": Control(controlled=self, token=self.control_token).application(),
        }
        return [self._listener(name, sockets[name], applications[name]) for name in LISTENERS]

    def _listener(self, name: str, bound: socket.socket, application: web.Application) -> Listener:
        server = self.directory / SERVER
        good = Certificate(cert_file=server / "good.pem", key_file=server / "good.key")
        context = server_context(
            {"good": good}, self.ca_file, clients=ClientCertificates.NOT_ASKED, next_handshake=Handshake
        )
        return Listener(bound, application, None if name in PLAIN else context)

    def _server(self) -> Server:
        parts = (self.switches, self.registry, self.tokens)
        return Server(
            switches=self.switches,
            journal=self.journal,
            troubles=self.troubles,
            external=self.external,
            local=self.local,
            redemption=Redemption(*parts, external=self.external, local=self.local),
            client_credentials=ClientCredentials(*parts),
            refreshing=Refreshing(*parts),
            protected=Protected(*parts),
            wall=self._wall,
        )

    def _pages(self, provider: Provider) -> ProviderPages:
        own = [f"{place}{CALLBACK}" for place in (self.addresses.issuer, self.addresses.development)]

        def known() -> list[str]:
            return [*own, *(one.redirect_uri for one in self.registry.applications.values())]

        return ProviderPages(provider=provider, redirect_uris=known)

    def _write_files(self) -> None:
        self._write_configs()
        described = {
            **asdict(self.addresses),
            "dialect": "iridium",
            "tokens": list(TOKENS),
            "applications": list(self.registry.applications),
            "socket": str(self.directory / SOCKET),
            "pid": os.getpid(),
            "ports": self._ports,
        }
        write_public(self.directory / ADDRESSES, json.dumps(described, indent=1).encode() + b"\n")

    def _write_configs(self) -> None:
        for file, development in ((self.config_file, False), (self.development_config_file, True)):
            text = broker_config(
                self.addresses,
                client_id=SINGLE_PAGE,
                redirect_uri=self.redirect_uri,
                uid=os.getuid(),
                development=development,
            )
            write_private(file, text.encode())


def _provider(manner: Manner, where: str) -> Provider:
    return Provider(manner=manner, origin=where, scope=manner.scope)


def _addresses(sockets: Mapping[str, socket.socket]) -> Served:
    secure = {name: origin(sockets[name], "https", NAME) for name in ("issuer", "github", "google")}
    return Served(
        **secure,
        development=origin(sockets["development"], "http", NAME),
        api=f"{secure['issuer']}{API}",
        control=origin(sockets["control"], "http", HOST),
    )
