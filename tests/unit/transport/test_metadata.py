from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from broker.errors import RemoteError
from broker.events import MetadataLoaded, MetadataRefused, SandboxIssuerInUse
from broker.oauth.client import Discovery, Issuer
from broker.oauth.messages import Response
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason
from broker.transport.metadata import DOUBTED_TTL, FAILED_TTL, JITTER, KEPT_TTL, METADATA_TTL, Described, Metadata
from tests.fakes import Dice, Events, LoopClock
from tests.jumping import advance
from tests.unit.transport.scripted import ISSUER, ScriptedSession, answer, document, failure

REFUSED = failure(Reason.SERVER_CERTIFICATE_REFUSED)
"""A failure that is not tried again within one fetch."""


@dataclass
class World:
    """A metadata source over a scripted session."""

    session: ScriptedSession
    source: Metadata
    events: Events = field(default_factory=Events)


def world(
    *script: Response | RemoteError,
    delay: float = 0.0,
    sandbox: bool = False,
    discovery: Discovery = Discovery.OIDC,
    face: float = 0.0,
) -> World:
    session, events = ScriptedSession(list(script), delay=delay), Events()
    source = Metadata(
        issuer=Issuer(name="main", issuer=ISSUER, discovery=discovery, sandbox=sandbox),
        session=session,
        clock=LoopClock(),
        randomness=Dice(face=face),
        emit=events,
    )
    return World(session, source, events)


async def test_metadata_is_fetched_once_and_kept_for_its_time():
    """Each token request asks for it; the server is asked once an hour."""
    here = world(document())

    first = await here.source.get()
    advance(METADATA_TTL - 1)
    second = await here.source.get()

    assert first is second
    assert first.token_endpoint == f"{ISSUER}/token"
    assert [request.url for request in here.session.sent] == [f"{ISSUER}/.well-known/openid-configuration"]
    assert here.events.seen == [MetadataLoaded(issuer="main", token_endpoint="https://" + ISSUER.split("/")[2])]


async def test_metadata_is_fetched_anew_when_its_time_is_over():
    """An endpoint that moved is found."""
    here = world(document(), document(token_endpoint=f"{ISSUER}/v2/token"))

    await here.source.get()
    advance(METADATA_TTL)

    assert (await here.source.get()).token_endpoint == f"{ISSUER}/v2/token"
    assert len(here.events.of(MetadataLoaded)) == 2


async def test_brokers_that_started_together_do_not_ask_together():
    """A part of the time is left to chance."""
    here = world(document(), face=0.999)

    await here.source.get()
    advance(METADATA_TTL * (1 - JITTER) + 10)
    await here.source.get()

    assert len(here.session.sent) == 2


async def test_only_a_404_leads_to_the_second_place():
    """DISC-02: OpenID Connect's place first, then RFC 8414's."""
    here = world(answer(404), document(), discovery=Discovery.AUTO)

    await here.source.get()

    assert [request.url.removeprefix(ISSUER) for request in here.session.sent] == [
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
    ]


@pytest.mark.parametrize(
    "first", [answer(403), answer(200, b"<html>"), answer(302), document(issuer="https://other.example")]
)
async def test_any_other_refusal_is_final(first: Response):
    """A document that was refused is not replaced by one from another place."""
    here = world(first, document(), discovery=Discovery.AUTO)

    with pytest.raises(RemoteError):
        await here.source.get()

    assert len(here.session.sent) == 1


async def test_nowhere_to_be_found_is_an_error():
    """Both places answer 404."""
    here = world(answer(404), discovery=Discovery.AUTO)

    with pytest.raises(RemoteError) as caught:
        await here.source.get()

    assert caught.value.status == 404
    assert "issuer is right to the letter" in (caught.value.hint or "")
    assert len(here.session.sent) == 2


@pytest.mark.parametrize("later", [REFUSED, answer(200, b"{"), document(token_endpoint="https://evil.example/token")])
async def test_good_metadata_outlives_any_failure(later: Response | RemoteError):
    """Promise 1: neither an outage nor a document that turned bad stops tokens; the event says it is kept."""
    here = world(document(), later)

    first = await here.source.get()
    advance(30 * 86_400)

    assert await here.source.get() is first
    assert [event.kept for event in here.events.of(MetadataRefused)] == [True]


async def test_renewed_metadata_is_fetched_with_the_new_session_and_kept_if_that_fails():
    """After a reload: an endpoint that moved is found at once, and a server that is away stops no token."""
    here = world(document())
    first = await here.source.get()
    away, back = ScriptedSession([REFUSED]), ScriptedSession([document(token_endpoint=f"{ISSUER}/v2/token")])

    here.source.renew(away)
    kept = await here.source.get()
    here.source.renew(back)
    moved = await here.source.get()

    assert kept is first
    assert moved.token_endpoint == f"{ISSUER}/v2/token"
    assert [len(session.sent) for session in (here.session, away, back)] == [1, 1, 1]


async def test_after_a_failure_kept_metadata_is_served_without_asking_for_a_while():
    """A hanging server must not add its time-out to every token request."""
    here = world(document(), REFUSED)

    await here.source.get()
    advance(METADATA_TTL)
    for _ in range(3):
        await here.source.get()
    advance(KEPT_TTL)
    await here.source.get()

    assert len(here.session.sent) == 1 + 2


async def test_metadata_that_recovers_is_good_for_its_whole_time():
    """The short time is for kept metadata only."""
    here = world(document(), REFUSED, document())

    await here.source.get()
    advance(METADATA_TTL)
    await here.source.get()
    advance(KEPT_TTL)
    await here.source.get()
    advance(METADATA_TTL - 1)
    await here.source.get()

    assert len(here.session.sent) == 3


async def test_without_good_metadata_a_failure_is_raised_and_reported():
    """With the reason and the hint of what failed."""
    here = world(REFUSED)

    with pytest.raises(RemoteError) as caught:
        await here.source.get()

    assert (caught.value.code, caught.value.hint) == (REFUSED.code, REFUSED.hint)
    assert here.events.seen == [
        MetadataRefused(issuer="main", reason=REFUSED.code, hint=REFUSED.hint, kept=False),
    ]


async def test_the_next_caller_after_a_failure_asks_again():
    """When to try again is the keeper's decision, not the cache's."""
    here = world(REFUSED, document())

    with pytest.raises(RemoteError):
        await here.source.get()
    advance(FAILED_TTL)

    assert (await here.source.get()).issuer == ISSUER


async def test_a_failure_in_passing_is_bridged():
    """Within one fetch, by the retries of GETs."""
    here = world(failure(Reason.CONNECTION_LOST), document())

    assert (await here.source.get()).issuer == ISSUER
    assert here.events.of(MetadataRefused) == []


async def test_callers_that_come_together_share_one_fetch():
    """A hundred tokens of one issuer at start make one request."""
    here = world(document(), delay=1.0)

    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(here.source.get()) for _ in range(100)]

    assert len({id(caller.result()) for caller in callers}) == 1
    assert len(here.session.sent) == 1
    assert len(here.events.seen) == 1


async def test_callers_that_come_together_share_a_failure_too():
    """Each gets an error of its own, so that tracebacks do not mix, and the server is asked once."""
    here = world(REFUSED, delay=1.0)

    results = await asyncio.gather(*(here.source.get() for _ in range(10)), return_exceptions=True)

    assert len(here.session.sent) == 1
    assert {result.code for result in results if isinstance(result, RemoteError)} == {REFUSED.code}
    assert len({id(result) for result in results}) == 10


async def test_a_fetch_whose_caller_gives_up_is_taken_over_by_the_next():
    """The others do not wait for longer than one more fetch, and none of them is cancelled."""
    here = world(document(), delay=1.0)

    async with asyncio.TaskGroup() as group:
        impatient = group.create_task(here.source.get())
        patient = [group.create_task(here.source.get()) for _ in range(3)]
        await asyncio.sleep(0.5)
        impatient.cancel()

    assert impatient.cancelled()
    assert {caller.result().issuer for caller in patient} == {ISSUER}
    assert len(here.session.sent) == 2


async def test_a_waiting_caller_that_gives_up_changes_nothing_for_the_others():
    """It only leaves the queue."""
    here = world(document(), delay=1.0)

    async with asyncio.TaskGroup() as group:
        first = group.create_task(here.source.get())
        impatient = group.create_task(here.source.get())
        last = group.create_task(here.source.get())
        await asyncio.sleep(0.5)
        impatient.cancel()

    assert first.result() is last.result()
    assert len(here.session.sent) == 1


async def test_a_sandbox_is_reported_once():
    """It is in the audit log (rules.md R10), and not once an hour."""
    here = world(document(token_broker_sandbox=True), sandbox=True)

    await here.source.get()
    advance(METADATA_TTL)
    await here.source.get()

    assert here.events.of(SandboxIssuerInUse) == [SandboxIssuerInUse(issuer="main")]


async def test_a_sandbox_that_nobody_asked_for_is_refused():
    """The configuration has to say so."""
    here = world(document(token_broker_sandbox=True))

    with pytest.raises(RemoteError) as caught:
        await here.source.get()

    assert caught.value.code == Reason.SANDBOX_REFUSED
    assert here.events.of(SandboxIssuerInUse) == []


async def test_a_server_that_asks_to_wait_is_understood_with_a_date_too():
    """The wall clock is handed to the reading of ``Retry-After``."""
    header = {"retry-after": "Tue, 22 Sep 2026 14:30:00 GMT"}
    here = world(answer(503, headers=header))

    with pytest.raises(RemoteError) as caught:
        await here.source.get()

    assert caught.value.code == Reason.RATE_LIMITED
    assert caught.value.retry_after is not None


async def test_metadata_in_doubt_is_fetched_anew_before_long():
    """A token request failed: the endpoint may have moved, so the hour is cut short, but not to nothing."""
    here = world(document(), document(token_endpoint=f"{ISSUER}/v2/token"))

    await here.source.get()
    advance(DOUBTED_TTL - 1)
    here.source.doubt()
    before = await here.source.get()
    advance(1)
    after = await here.source.get()

    assert before.token_endpoint == f"{ISSUER}/token"
    assert after.token_endpoint == f"{ISSUER}/v2/token"


async def test_a_failing_token_endpoint_costs_the_metadata_six_requests_a_minute():
    """Doubt after each of many failures does not make a request of each."""
    here = world(document())

    for _ in range(60):
        await here.source.get()
        here.source.doubt()
        advance(1)

    assert len(here.session.sent) == 6


async def test_a_failure_is_shared_by_the_tokens_that_ask_close_together():
    """Fifty tokens without metadata make one request in a second, and all of them learn why."""
    here = world(REFUSED, document())

    for _ in range(50):
        with pytest.raises(RemoteError) as caught:
            await here.source.get()
        assert caught.value.code == Reason.SERVER_CERTIFICATE_REFUSED
        advance(FAILED_TTL / 100)
    advance(FAILED_TTL)

    assert (await here.source.get()).issuer == ISSUER
    assert len(here.session.sent) == 2


async def test_a_server_that_a_dialect_describes_is_never_asked():
    """Whatever fails, and whatever session there is: what an operator wrote is what there is."""
    server = AuthorizationServer(issuer="https://as.example", token_endpoint="https://as.example/t")
    described, session = Described(server), ScriptedSession([])

    described.doubt()
    described.renew(session)

    assert await described.get() is server
    assert session.sent == []
