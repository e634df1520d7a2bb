"""
What the authorization servers say of themselves, compared with the configuration: ``check --online``.

The metadata is fetched with the daemon's own transport and accepted by its own rules; there is no way to
weaken TLS for a check. No token is asked for, and no certificate is presented.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from broker.cli import remedies
from broker.config.settings import IssuerSettings, Settings
from broker.errors import BrokerError
from broker.events import Event
from broker.hostenv.clock import SystemClock, SystemRandomness
from broker.keys.tls import client_context
from broker.oauth.capabilities import disagreements, remarks
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.static_metadata import described_server
from broker.tokens.spec import TokenSpec
from broker.transport.metadata import METADATA_MAX_BODY, Metadata
from broker.transport.proxy import Proxy
from broker.transport.session import Session
from broker.wiring import Identities
from broker.wiring.means import proxy_of

MAX_CLOCK_DIFFERENCE = 15.0
"""Seconds: assertions live for 60 s, and strict servers allow an ``iat`` of the future 10 s or a little more."""

FEW_DAYS = 14.0
"""Days of a certificate that are so few that its renewal should be under way."""

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about the section *place*; *wrong*: tokens will fail for it."""

    place: str
    text: str
    wrong: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """
    What came of asking an issuer: its metadata or an error, and by how much our clock is ahead, in seconds.

    *urls* are those that were asked for; *described*: its dialect says it all, and nobody was asked.
    """

    server: AuthorizationServer | BrokerError
    ahead: float | None
    urls: tuple[str, ...] = ()
    described: bool = False


def compare(settings: Settings, identities: Identities) -> tuple[Finding, ...]:
    """Ask every issuer, all at the same time, and give all findings in the order of the configuration."""
    not_after = {name: certificate.not_after for name, certificate in identities.certificates.items()}
    return (
        *of_servers(settings, ask(settings, identities)),
        *(of_certificate(name, end, SystemClock().wall()) for name, end in not_after.items()),
    )


def ask(settings: Settings, identities: Identities) -> dict[str, Asked]:
    """Ask every issuer, all at the same time; of *identities* only the credentials of proxies are used."""
    return asyncio.run(_ask_all(settings.issuers, identities))


def of_servers(settings: Settings, asked: Mapping[str, Asked]) -> tuple[Finding, ...]:
    """Judge what came of asking, in the order of the configuration."""
    return (
        *(finding for name, answer in asked.items() for finding in of_issuer(name, answer)),
        *(finding for name in settings.clients for finding in _of_client(settings, name, asked)),
    )


async def _ask_all(issuers: Mapping[str, IssuerSettings], identities: Identities) -> dict[str, Asked]:
    async with asyncio.TaskGroup() as group:
        tasks = {
            name: group.create_task(_ask(issuer, proxy_of(issuer, identities))) for name, issuer in issuers.items()
        }
    return {name: task.result() for name, task in tasks.items()}


class _Watching:
    """A session that notes what it was asked for, and by how much our clock is ahead of the ``Date`` of answers."""

    def __init__(self, session: Session, clock: SystemClock) -> None:
        self._session = session
        self._clock = clock
        self.ahead: float | None = None
        self.urls: list[str] = []

    @property
    def thumbprint(self) -> str | None:
        """That of the session."""
        return self._session.thumbprint

    @property
    def not_after(self) -> float | None:
        """That of the session."""
        return self._session.not_after

    async def send(self, request: Request) -> Response:
        """Send, and compare the clocks."""
        self.urls.append(request.url)
        begin = self._clock.wall()
        response = await self._session.send(request)
        self.ahead = clock_difference(response.headers.get("date", ""), begin, self._clock.wall())
        return response


async def _ask(wanted: IssuerSettings, proxy: Proxy | None) -> Asked:
    clock = SystemClock()
    described = described_server(wanted.issuer)
    if described is not None:
        return Asked(server=described, ahead=None, described=True)
    try:
        context = await asyncio.to_thread(client_context, wanted.ca_file)
    except BrokerError as error:
        return Asked(server=error, ahead=None)
    session = Session(ssl_context=context, clock=clock, max_body=METADATA_MAX_BODY, proxy=proxy)
    watching = _Watching(session, clock)
    metadata = Metadata(
        issuer=wanted.issuer, session=watching, clock=clock, randomness=SystemRandomness(), emit=_tell_nobody
    )
    try:
        return Asked(server=await metadata.get(), ahead=watching.ahead)
    except BrokerError as error:
        return Asked(server=error, ahead=watching.ahead, urls=tuple(watching.urls))
    finally:
        await session.close()


def _tell_nobody(_event: Event) -> None:
    """Drop an event: what it says is in the result."""


def clock_difference(date: str, begin: float, end: float) -> float | None:
    """
    Give the least seconds by which our clock can be ahead (less than 0: behind); None if *date* is no date.

    The server wrote *date*, in whole seconds, somewhere between *begin* and *end* (Unix seconds of ours).
    """
    try:
        stated = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    if stated > end:
        return end - stated
    return max(0.0, begin - (stated + 1.0))


def of_issuer(name: str, asked: Asked) -> Iterator[Finding]:
    """Judge an issuer by itself: was its metadata accepted, and do the clocks agree."""
    place = f"issuer.{name}"
    if isinstance(asked.server, BrokerError):
        yield Finding(place=place, text=remedies.of_error(asked.server, asked.urls), wrong=True)
    elif asked.described:
        text = "its endpoints stand in its dialect: it has no metadata to compare them with, and was not asked"
        yield Finding(place=place, text=text, wrong=False)
    else:
        yield Finding(place=place, text="its metadata is accepted", wrong=False)
    if asked.ahead is not None and abs(asked.ahead) > MAX_CLOCK_DIFFERENCE:
        way = "ahead of" if asked.ahead > 0 else "behind"
        text = (
            f"this host's clock is {abs(asked.ahead):.0f} s {way} the server's, and assertions will be refused; "
            "compare both with a third clock, and have NTP keep this one"
        )
        yield Finding(place=place, text=text, wrong=True)


def of_certificate(name: str, not_after: float, wall_now: float) -> Finding:
    """Say how long a certificate is good for; one that is over was refused when it was loaded."""
    days = (not_after - wall_now) / DAY
    advice = ": renew it now" if days < FEW_DAYS else ""
    end = f"{dt.datetime.fromtimestamp(not_after, dt.UTC):%Y-%m-%d %H:%M} UTC"
    return Finding(place=f"certificate.{name}", text=f"{days:.0f} day(s) left, until {end}{advice}", wrong=days <= 0)


def _of_client(settings: Settings, name: str, asked: Mapping[str, Asked]) -> Iterator[Finding]:
    client = settings.clients[name].client
    server = asked[client.issuer].server
    if isinstance(server, BrokerError):
        return
    issuer = settings.issuers[client.issuer].issuer
    tokens = [token for token in settings.tokens if token.client == name]
    kinds = tuple(sorted({kind for token in tokens for kind in _grant_types(token)})) or ("client_credentials",)
    asking = [token for token in tokens if token.consent is not None]
    wrongs = disagreements(
        server,
        client,
        issuer,
        grant_types=kinds,
        openid=any("openid" in token.scope for token in asking),
        userinfo=any(token.consent.userinfo for token in asking if token.consent is not None),
    )
    named = {text.partition(" ")[0] for text in wrongs}
    told = () if asked[client.issuer].described else remarks(server, client, grant_types=kinds)
    others = [text for text in told if text.partition(" ")[0] not in named]
    for wrong, texts in ((True, wrongs), (False, others)):
        for text in texts:
            advised = remedies.of_disagreement(text, server, client, issuer)
            yield Finding(place=f"client.{name}", text=advised, wrong=wrong)


def _grant_types(token: TokenSpec) -> tuple[str, ...]:
    """Give the grant types that a token comes to: what a person consents to is kept fresh."""
    return (token.grant_type,) if token.consent is None else (token.grant_type, "refresh_token")
