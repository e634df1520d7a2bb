"""A client of the sandbox for tests, written against the RFCs and not with the broker's code."""

from __future__ import annotations

import json
import shutil
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from broker.sandbox.clients import ASSERTION_TYPE
from broker.sandbox.jose import SigningAlg, sign
from broker.sandbox.running import CLIENT_ID, Sandbox

DEADLINE = aiohttp.ClientTimeout(total=10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An answer, read to its end; *body* is the JSON or None."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    body: Any = None


@dataclass(slots=True)
class Talker:
    """Speaks to *sandbox*, one connection for each certificate that it uses."""

    sandbox: Sandbox
    session: aiohttp.ClientSession
    contexts: dict[str | None, ssl.SSLContext] = field(default_factory=dict)

    async def metadata(self) -> Heard:
        return await self.send("GET", f"{self.sandbox.addresses.issuer}/.well-known/openid-configuration", None)

    async def token(
        self,
        *,
        certificate: str | None = "client",
        alg: SigningAlg = SigningAlg.ES256,
        claims: Mapping[str, Any] | None = None,
        url: str | None = None,
        **form: Any,
    ) -> Heard:
        body = token_form(self.sandbox, alg=alg, claims=claims, **form)
        return await self.send("POST", url or f"{self.sandbox.addresses.mtls}/token", certificate, data=body)

    async def hello(self, token: str | None, *, certificate: str | None = "client") -> Heard:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self.send("GET", self.sandbox.addresses.hello, certificate, headers=headers)

    async def send(self, method: str, url: str, certificate: str | None, **options: Any) -> Heard:
        context = None if url.startswith("http:") else self.context(certificate)
        options = {"allow_redirects": False, **options}
        async with self.session.request(method, url, ssl=context or True, **options) as answer:
            raw = await answer.read()
            return Heard(status=answer.status, headers=answer.headers, raw=raw, body=_read_json(raw))

    def context(self, certificate: str | None) -> ssl.SSLContext:
        if certificate not in self.contexts:
            self.contexts[certificate] = client_context(self.sandbox.directory, certificate)
        return self.contexts[certificate]


def _read_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def client_context(directory: Path, certificate: str | None) -> ssl.SSLContext:
    """Trust the sandbox's authority only, as strictly as Python 3.13 does; present *certificate*, or none."""
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if certificate is not None:
        context.load_cert_chain(directory / f"{certificate}.pem", directory / f"{certificate}.key")
    return context


def token_form(
    sandbox: Sandbox, *, alg: SigningAlg = SigningAlg.ES256, claims: Mapping[str, Any] | None = None, **form: Any
) -> list[tuple[str, str]]:
    """Make the form of a good token request, apart from *claims* of the assertion and fields of the *form*."""
    now = int(time.clock_gettime(time.CLOCK_REALTIME))
    asserted = {
        "iss": CLIENT_ID,
        "sub": CLIENT_ID,
        "aud": sandbox.addresses.issuer,
        "jti": str(uuid.uuid4()),
        "iat": now,
        "exp": now + 60,
        **(claims or {}),
    }
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": sign(sandbox.material.signing_keys[alg], "JWT", asserted),
        **form,
    }
    pairs = [(name, value if isinstance(value, list) else [value]) for name, value in fields.items()]
    return [(name, one) for name, values in pairs for one in values if one is not None]


@asynccontextmanager
async def running(prepared: Path, tmp_path: Path, **options: Any) -> AsyncIterator[Sandbox]:
    """Run a sandbox with the keys of *prepared*, in a directory of the test's own."""
    directory = tmp_path / "sandbox"
    if not directory.exists():
        shutil.copytree(prepared, directory)
    async with Sandbox.start(directory, keep=True, **options) as sandbox:
        yield sandbox


@asynccontextmanager
async def talking(prepared: Path, tmp_path: Path, **options: Any) -> AsyncIterator[Talker]:
    """Run a sandbox and a client of it."""
    async with (
        running(prepared, tmp_path, **options) as sandbox,
        aiohttp.ClientSession(timeout=DEADLINE) as session,
    ):
        yield Talker(sandbox, session)
