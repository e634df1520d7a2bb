"""A client of the fake Iridium for tests, and a browser that goes where it is sent."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
from yarl import URL

from broker.sandbox.iridium.registry import CONFIDENTIAL, SINGLE_PAGE
from broker.sandbox.iridium.running import Iridium
from tests.unit.sandbox.talking import DEADLINE, Heard

VERIFIER = "a-verifier-of-sufficient-length-for-rfc-7636"
CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
HEX_CHALLENGE = urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).hexdigest().encode()).rstrip(b"=").decode()
STATE = "a-state_of-128-bits"
BCRYPT = re.compile(r"\$2a\$10\$[./A-Za-z0-9]{53}")
IDENTITY = "application/vnd.iridium.id.identity-response.1+json"


def basic(client_id: str, secret: str) -> str:
    return f"Basic {b64encode(f'{client_id}:{secret}'.encode()).decode()}"


def parameters_of(location: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))


def given(parameters: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is None."""
    return {name: value for name, value in parameters.items() if value is not None}


@dataclass(slots=True)
class Visitor:
    """Speaks to *iridium*, as an application and as a browser."""

    iridium: Iridium
    session: aiohttp.ClientSession
    context: ssl.SSLContext

    async def send(self, method: str, url: str, **options: Any) -> Heard:
        """Send a request; *url* is one, or a path at the issuer. It follows no redirect."""
        whole = url if "://" in url else f"{self.iridium.addresses.issuer}{url}"
        headers = given({"Accept": "application/json", **options.pop("headers", {})})
        skipped = [] if "Accept" in headers else ["Accept"]
        async with self.session.request(
            method,
            URL(whole, encoded=True),
            ssl=self.context if whole.startswith("https") else True,
            allow_redirects=False,
            headers=headers,
            skip_auto_headers=skipped,
            **options,
        ) as answer:
            raw = await answer.read()
        return Heard(status=answer.status, headers=answer.headers, raw=raw, body=_json(raw))

    async def external(self, **changes: Any) -> Heard:
        """Ask for a way to a provider, as documented and as observed, apart from *changes*."""
        good = {
            "response_type": "code",
            "state": STATE,
            "scope": "user:email",
            "client_id": SINGLE_PAGE,
            "redirect_uri": self.iridium.redirect_uri,
            "provider": "github",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        return await self.send("POST", "/oauth/external/authorize", data=given({**good, **changes}))

    async def allow(self, location: str, *, person: str = "ada", decision: str = "allow") -> str:
        """Be *person* at a provider, and follow to the application: give the address where that ends."""
        heard = await self.send("POST", location, data={"user": person, "decision": decision})
        while heard.status == 302 and not heard.headers["Location"].startswith(self.iridium.redirect_uri):
            heard = await self.send("GET", heard.headers["Location"])
        assert heard.status == 302, heard.raw
        return heard.headers["Location"]

    async def code(self, *, person: str = "ada", **changes: Any) -> str:
        """Give the code that an application gets."""
        return parameters_of(await self.allow((await self.external(**changes)).headers["Location"], person=person))[
            "code"
        ]

    async def redeem(self, code: str, /, *, headers: Any = None, **changes: Any) -> Heard:
        """Redeem *code*, as documented and as observed, apart from *changes*."""
        good = {
            "grant_type": "authorization_code",
            "code": code,
            "client_id": SINGLE_PAGE,
            "redirect_uri": self.iridium.redirect_uri,
            "state": STATE,
            "code_verifier": VERIFIER,
            "code_verfier": VERIFIER,
        }
        return await self.send("POST", "/oauth/token", data=given({**good, **changes}), headers=headers or {})

    async def granted(self, *, person: str = "ada", provider: str = "github") -> dict[str, Any]:
        """Give the body of the token answer for *person*."""
        heard = await self.redeem(await self.code(person=person, provider=provider))
        assert heard.status == 200, heard.raw
        body: dict[str, Any] = heard.body
        return body

    async def local(self, *, person: str | None = "ada", **changes: Any) -> Heard:
        """Authorize in the local flow, logged in as *person*."""
        good = {
            "response_type": "code",
            "state": STATE,
            "client_id": SINGLE_PAGE,
            "redirect_uri": self.iridium.redirect_uri,
            "code_challenge": HEX_CHALLENGE,
            "code_challenge_method": "S256",
            "userToken": None if person is None else self.iridium.user_token(person),
        }
        return await self.send("POST", "/oauth/authorize", data=given({**good, **changes}))

    async def local_code(self, **changes: Any) -> str:
        """Give a code of the local flow."""
        return parameters_of((await self.local(**changes)).headers["Location"])["code"]

    async def refresh(self, refresh_token: str, *, bearer: str | None = None, **changes: Any) -> Heard:
        """Refresh, as the confidential application unless *changes* say otherwise."""
        good = {"grant_type": "refresh_token", "refresh_token": refresh_token, "client_id": CONFIDENTIAL}
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self.send("POST", "/oauth/token/refresh", data=given({**good, **changes}), headers=headers)

    async def for_itself(self, *, secret: str | None = None, client_id: str = CONFIDENTIAL, **options: Any) -> Heard:
        """Get a token of an application's own, with Basic credentials."""
        known = self.iridium.registry.applications[CONFIDENTIAL].secret
        headers = {"Authorization": basic(client_id, known if secret is None else secret)}
        options.setdefault("headers", headers)
        return await self.send("POST", "/oauth/token", data={"grant_type": "client_credentials"}, **options)

    async def me(self, token: str) -> Heard:
        return await self.send("GET", "/api/me", headers={"Authorization": f"Bearer {token}"})

    async def identity(self, token: str, **headers: Any) -> Heard:
        wanted = {"Authorization": f"Bearer {token}", "Accept": IDENTITY, **headers}
        return await self.send("GET", "/identities", headers=wanted)

    async def logout(self, token: str | None, client_id: str = SINGLE_PAGE, *, path: str = "applications") -> Heard:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self.send("DELETE", f"/{path}/{client_id}/tokens", headers=headers)

    async def command(self, method: str, path: str, body: Any = None, **headers: str) -> Heard:
        """Send a command with the control token, unless *headers* say otherwise."""
        sent = {"Authorization": f"Bearer {self.iridium.control_token}", **headers}
        options = {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        return await self.send(method, f"{self.iridium.addresses.control}/sandbox/{path}", headers=sent, **options)


def query(**parameters: Any) -> str:
    return urlencode(given(parameters))


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


@asynccontextmanager
async def visiting(tmp_path: Path, *, documented: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Visitor]:
    """Run a fake Iridium, with the switches that are *documented*, and a client of it."""
    async with (
        Iridium.start(tmp_path / "iridium", **options) as iridium,
        aiohttp.ClientSession(timeout=DEADLINE) as session,
    ):
        for name in documented:
            iridium.set_switch(name, "documented")
        yield Visitor(iridium, session, ssl.create_default_context(cafile=iridium.ca_file))
