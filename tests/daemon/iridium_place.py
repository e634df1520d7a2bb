"""
A fake Iridium in a thread, a broker beside it, and a person who logs in: what each flow comes to, step by step.

Everything that a step comes to is a word: ``ok``, or the closed code with which it failed, as an operator sees it.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from broker.sandbox.iridium.running import Iridium
from tests.daemon.harness import PATIENCE, Answer, BrokerProcess, exchange, split, wait_until

LIFETIME = 6
"""Seconds of an access token: it is refreshed in the middle of that."""

OK = "ok"

CONFIG = """
[issuer.iridium]
issuer = "{issuer}"
profile = "oauth2"
{trust}

[issuer.iridium.dialect]
base = "iridium"
{dialect}

[client.website]
issuer = "iridium"
client_id = "{client_id}"
sender_constraint = "none"
redirect_uris = ["{redirect_uri}"]
{client}

[token.github]
client = "website"
grant_type = "authorization_code"
scope = ["user:email"]
grants = "many"
parameters = {{ provider = "github" }}
{token}

[token.google]
client = "website"
grant_type = "authorization_code"
scope = ["email", "profile"]
grants = "many"
parameters = {{ provider = "google" }}
{token}
{service}

[upstream.github]
base_url = "{api}"
token = "github"
allow = ["GET /me"]
ca_file = "ca.pem"

[upstream.google]
base_url = "{api}"
token = "google"
allow = ["GET /me"]
ca_file = "ca.pem"

[listener.api]
path = "api.sock"
mode = "0600"

[workload.app]
listener = ["api"]
tokens = ["github", "google"{service_name}]
upstreams = ["github", "google"]
may = ["get", "authorize", "list", "revoke", "egress"]

[daemon]
state_dir = "state"

[store]
key = {{ file = "store.key" }}

[ops]
listen = "127.0.0.1:0"

[audit]
file = "audit.log"
"""

SERVICE = """
[client.service]
issuer = "iridium"
client_id = "{confidential}"
sender_constraint = "none"
{lines}

[token.service]
client = "service"
refresh = "on_demand"
"""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a configuration has beside the usual: lines of its sections; *service* is a client for itself."""

    dialect: str = ""
    client: str = 'client_auth_method = "none"'
    token: str = ""
    service: str | None = None
    client_id: str = "sandbox-single-page"
    development: bool = False


@dataclass
class Place:
    """Where a person logs in: the fake Iridium and the broker; *secrets* are what must come out nowhere."""

    iridium: Iridium
    broker: BrokerProcess
    secrets: set[str] = field(default_factory=set)

    def ask(self, method: str, target: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Make a request of the local API."""
        content = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "Content-Type: application/json\r\n"
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        return split(exchange(self.broker.socket, head.encode() + content))

    def begin(self, token: str) -> Answer:
        """Begin an authorization."""
        return self.ask("POST", "/v1/authorizations", {"token": token, "redirect_uri": self.iridium.redirect_uri})

    def finish(self, begun: Mapping[str, str], came_back: str) -> Answer:
        """Hand over where the person came back."""
        self.secrets.update(value for _, value in _pairs(came_back) if len(value) >= 16)
        body = {"binding": begun["binding"], "callback_url": came_back}
        return self.ask("POST", f"/v1/authorizations/{begun['id']}/callback", body)

    def log_in(self, token: str, person: str = "ada") -> tuple[str, dict[str, Any]]:
        """Log *person* in: what it came to, and the answer of the broker."""
        answer = self.begin(token)
        if answer.status != 201:
            return self._why("request_refused", token=token), answer.json()
        begun = answer.json()
        came_back = browse(begun["authorization_url"], self.iridium, person)
        answer = self.finish(begun, came_back)
        if answer.status != 200:
            return self._why("authorization_failed", authorization=begun["id"]), answer.json()
        return OK, answer.json()

    def who(self, token: str, grant: str) -> str:
        """Call the API with a grant: whose the token is, or the status of the answer."""
        answer = self.ask("GET", f"/v1/grants/{grant}/egress/{token}/me")
        return str(answer.json()["subject"]) if answer.status == 200 else str(answer.status)

    def refreshed(self, grant: str) -> str:
        """Wait for the first refresh of a grant: what it came to."""
        seen: list[dict[str, Any]] = []

        def tried() -> bool:
            events = {"token_refreshed", "token_refresh_failed"}
            seen[:] = [line for line in self.broker.log() if line["event"] in events and line.get("grant") == grant]
            return bool(seen)

        wait_until(tried, "a refresh")
        return OK if seen[0]["event"] == "token_refreshed" else _reason(seen[0])

    def log_out(self, grant: str) -> Any:
        """Give a grant up: whether it was revoked at the server."""
        return self.ask("DELETE", f"/v1/grants/{grant}").json()["revoked"]

    def _why(self, event: str, **members: Any) -> str:
        return _reason(self.broker.wait_for(event, **members))


def _reason(line: Mapping[str, Any]) -> str:
    """Give the closed code of a failure: the server's word, the check, or the reason."""
    return str(line.get("server_error") or line.get("check") or line["reason"])


def _pairs(url: str) -> list[tuple[str, str]]:
    return [tuple(pair.split("=", 1)) for pair in urlsplit(url).query.split("&") if "=" in pair]  # type: ignore[misc]


def browse(url: str, iridium: Iridium, person: str) -> str:
    """Follow *url* as a browser does, logging in as *person* where a page asks; gives where the application is."""
    context = ssl.create_default_context(cafile=iridium.ca_file)
    form: dict[str, str] | None = None
    for _ in range(8):
        if url.startswith(iridium.redirect_uri):
            return url
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(parts.netloc, context=context, timeout=PATIENCE)
            if secure
            else http.client.HTTPConnection(parts.netloc, timeout=PATIENCE)
        )
        try:
            content = None if form is None else urlencode(form)
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
            target = f"{parts.path}?{parts.query}"
            connection.request("GET" if form is None else "POST", target, content, headers)
            answer = connection.getresponse()
            page, location = answer.read().decode(), answer.getheader("Location")
        finally:
            connection.close()
        if location is not None:
            url, form = urljoin(url, location), None
        else:
            assert answer.status == 200, f"{answer.status} {page[:300]}"
            is_local = 'name="userToken"' in page
            form = {"userToken": iridium.user_token(person)} if is_local else {"user": person, "decision": "allow"}
    raise AssertionError("the pages lead nowhere")


@contextmanager
def fake_iridium(directory: Path, *, lifetime: int = LIFETIME) -> Iterator[Iridium]:
    """Run one in a thread of its own, with its loop."""
    ready, ended = threading.Event(), threading.Event()
    running: list[Iridium] = []

    async def serve() -> None:
        async with Iridium.start(directory, lifetime=lifetime) as iridium:
            running.append(iridium)
            ready.set()
            await asyncio.to_thread(ended.wait)
        await asyncio.sleep(0.2)  # connections that were closed end in later turns of the loop

    with ThreadPoolExecutor(max_workers=1) as pool:
        served = pool.submit(asyncio.run, serve())
        try:
            while not ready.wait(0.1):
                if served.done():
                    served.result()
            yield running[0]
        finally:
            ended.set()
            served.result(PATIENCE)


@contextmanager
def place(directory: Path, setup: Setup, switches: Mapping[str, str], *, lifetime: int = LIFETIME) -> Iterator[Place]:
    """Run both; the gate against secrets in outputs is passed when they end."""
    with fake_iridium(directory / "iridium", lifetime=lifetime) as iridium:
        for name, setting in switches.items():
            iridium.set_switch(name, setting)
        home = iridium.directory
        config = home / "broker.toml"
        config.write_text(_config(iridium, setup))
        broker = BrokerProcess(
            name="broker",
            directory=directory,
            arguments=[],
            config=config,
            socket=home / "api.sock",
            audit=home / "audit.log",
        )
        at = Place(iridium, broker)
        try:
            broker.up(ready=False)
            yield at
            broker.secrets |= at.secrets | iridium.tokens.values()
            broker.sweep()
        finally:
            broker.stop()
        broker.sweep()


def _config(iridium: Iridium, setup: Setup) -> str:
    addresses = iridium.addresses
    (iridium.directory / "client.secret").write_text(iridium.material.client_secret)
    (iridium.directory / "client.secret").chmod(0o600)
    hosts = json.dumps([urlsplit(url).netloc for url in (addresses.github, addresses.google)])
    service = ""
    if setup.service is not None:
        service = SERVICE.format(confidential="sandbox-confidential", lines=setup.service)
    return CONFIG.format(
        issuer=addresses.development if setup.development else addresses.issuer,
        trust="allow_insecure_loopback = true" if setup.development else 'ca_file = "ca.pem"',
        dialect=setup.dialect if "browser" in setup.dialect else f"provider_hosts = {hosts}\n{setup.dialect}",
        client_id=setup.client_id,
        redirect_uri=iridium.redirect_uri,
        client=setup.client,
        token=setup.token,
        service=service,
        service_name=', "service"' if service else "",
        api=addresses.api,
    )
