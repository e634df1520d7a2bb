"""What ``doctor`` learns by asking the servers: each issuer for its metadata, each API whether it is there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from broker.cli.doctor_case import Case
from broker.cli.doctor_files import loaded
from broker.cli.findings import Finding, failed, ok, skipped
from broker.cli.online import MAX_CLOCK_DIFFERENCE, Asked, ask, of_servers
from broker.cli.remedies import of_error
from broker.config.settings import Settings, UpstreamSettings
from broker.errors import BrokerError, RemoteError
from broker.hostenv.clock import SYSTEM_CLOCK
from broker.keys.tls import client_context
from broker.oauth.messages import Request
from broker.transport.proxy import Proxy
from broker.transport.session import Session
from broker.wiring import Identities


def of_issuers(_case: Case, settings: Settings) -> Iterator[Finding]:
    """Fetch the metadata of each issuer as the daemon does, and compare it, and the clocks."""
    identities, _ = loaded(settings)  # what is wrong with them is told by the key check
    asked = ask(settings, identities)
    for one in of_servers(settings, asked):
        text, _, advice = one.text.partition("; ")  # the form of all its sentences: what is, and what to do
        yield failed(one.place, text, advice or None) if one.wrong else ok(one.place, one.text)
    yield from of_clocks(asked)


def of_clocks(asked: dict[str, Asked]) -> Iterator[Finding]:
    """Say with whose clock ours agrees; one that does not was told with its issuer."""
    for name, answer in asked.items():
        if answer.ahead is None:
            yield skipped("clock", f"issuer.{name} did not tell the time")
        elif abs(answer.ahead) <= MAX_CLOCK_DIFFERENCE:
            yield ok("clock", f"agrees with that of issuer.{name} to {MAX_CLOCK_DIFFERENCE:.0f} s or better")


def of_upstreams(_case: Case, settings: Settings) -> Iterator[Finding]:
    """Ask each API for anything, with the certificate that calls go out with, and without a token."""
    if settings.upstreams:
        identities, _ = loaded(settings)
        yield from asyncio.run(_all(settings, identities))


async def _all(settings: Settings, identities: Identities) -> list[Finding]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(settings, wanted, identities)) for wanted in settings.upstreams.values()]
    return [task.result() for task in tasks]


async def _one(settings: Settings, wanted: UpstreamSettings, identities: Identities) -> Finding:
    upstream = wanted.upstream
    place = f"upstream.{upstream.name}"
    client = next(spec.client for spec in settings.tokens if spec.name == upstream.token)
    certificate = settings.clients[client].certificate
    identity = None if certificate is None else identities.certificates.get(certificate)
    if certificate is not None and identity is None:
        return skipped(place, f"not asked: its certificate, certificate.{certificate}, cannot be loaded here")
    try:
        context = await asyncio.to_thread(
            client_context if identity is None else identity.client_context, wanted.ca_file
        )
    except BrokerError as error:
        return failed(place, f"{error.message} [{error.code}]", error.hint)
    proxy = None
    if wanted.proxy is not None:
        proxy = Proxy(url=wanted.proxy, credentials=identities.upstream_proxies.get(upstream.name))
    session = Session(ssl_context=context, clock=SYSTEM_CLOCK, proxy=proxy)
    try:
        response = await session.send(Request(url=upstream.base_url, method="HEAD"))
    except RemoteError as error:
        if error.status is not None:
            return ok(place, f"answers, with status {error.status} to a request without a token")
        text, _, advice = of_error(error, (upstream.base_url,)).partition("; ")
        return failed(place, text, advice or None)
    finally:
        await session.close()
    return ok(place, f"answers, with status {response.status} to a request without a token")
