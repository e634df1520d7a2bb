"""Handing out tokens: what is obtained, recorded and written, and when it is not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from broker.api.limits import Limits
from broker.api.problems import ProblemError
from broker.api.routes import list_tokens
from broker.api.serving import get_token, refresh_token
from broker.api.table import Call
from broker.api.world import World
from broker.events import AuditUnavailableError, Event, TokenRefreshForced, TokenServed
from broker.policy.peer import Peer
from broker.policy.rules import Action, Policy, Workload
from broker.tokens.serving import TokenState, TokenStatus
from tests.fakes import Events
from tests.jumping import loop_time
from tests.unit.api.handlers import PEER, ROOT, STRANGER, UNKNOWN, call, world
from tests.unit.api.world import FakeTokens, serving, unavailable


async def refused(of: World, asked: Call) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await get_token(of, asked)
    return caught.value


async def test_a_token_is_served_with_everything_that_is_known_of_it():
    """The serve contract, member by member."""
    answer = await get_token(world(), call())

    assert answer.status == 200
    assert json.loads(answer.body) == {
        "access_token": "the-access-token",
        "token_type": "Bearer",
        "expires_in": 299,
        "expires_at": 1_790_000_300,
        "scope": "accounts payments",
        "issuer": "https://as.example",
        "stale": False,
        "cnf": {"x5t#S256": "a-thumbprint"},
    }


@pytest.mark.parametrize("plain_text", [False, True])
async def test_a_served_token_carries_the_mark_of_its_generation(plain_text: bool):
    """By its ETag a caller tells whether it got another token; weak, for expires_in changes under it."""
    answer = await get_token(world(), call(plain_text=plain_text))

    assert answer.headers == (("ETag", 'W/"an-etag"'),)


@pytest.mark.parametrize(
    "binding",
    [
        {"binding": "none", "certificate_thumbprint": None},
        {"binding": "unverified", "certificate_thumbprint": "a-thumbprint"},
        {"binding": "unverified", "jkt": "a-thumbprint", "token_type": "DPoP"},
    ],
)
async def test_a_binding_that_was_not_checked_is_not_claimed(binding: dict[str, Any]):
    """No cnf without a certificate or a key that the token was seen to be bound to."""
    answer = await get_token(world(FakeTokens({"directory": serving(**binding)})), call())

    assert "cnf" not in json.loads(answer.body)


async def test_a_token_that_is_bound_by_dpop_says_to_which_key():
    """And of which type it is: an API that took it for a bearer token would refuse it, or worse."""
    bound = serving(binding="dpop", token_type="DPoP", jkt="a-key", certificate_thumbprint=None)

    answer = json.loads((await get_token(world(FakeTokens({"directory": bound})), call())).body)

    assert (answer["token_type"], answer["cnf"]) == ("DPoP", {"jkt": "a-key"})


async def test_a_token_that_is_bound_to_a_key_and_a_certificate_says_both():
    """A workload that knew of the key alone would call with another certificate, and be refused."""
    bound = serving(binding="dpop", token_type="DPoP", jkt="a-key", certificate_thumbprint="a-thumbprint")

    answer = json.loads((await get_token(world(FakeTokens({"directory": bound})), call())).body)

    assert answer["cnf"] == {"jkt": "a-key", "x5t#S256": "a-thumbprint"}


async def test_a_stale_token_says_so():
    """It is good, and past the time when it should have been refreshed."""
    answer = await get_token(world(FakeTokens({"directory": serving(stale=True)})), call())

    assert json.loads(answer.body)["stale"] is True


async def test_plain_text_is_the_token_and_nothing_else():
    """No newline either."""
    answer = await get_token(world(), call(plain_text=True))

    assert answer.body == b"the-access-token"
    assert answer.content_type.startswith("text/plain")


async def test_a_token_is_recorded_before_it_leaves():
    """With who got it, and without the token."""
    events = Events()

    await get_token(world(emit=events), call())

    assert events.seen == [
        TokenServed(
            listener="api",
            uid=1000,
            gid=1000,
            pid=12,
            workload="app",
            token="directory",
            fingerprint="a-fingerprint",
            generation=7,
            stale=False,
        )
    ]


async def test_without_its_record_a_token_does_not_leave():
    """Default of rules.md R9: refuse."""

    def full(_event: Event) -> None:
        raise AuditUnavailableError

    error = await refused(world(emit=full), call())

    assert error.problem.status == 503
    assert dict(error.problem.headers)["Retry-After"]
    assert (error.token, error.workload) == ("directory", "app")


@pytest.mark.parametrize("name", ["payments", "nonesuch", "", "Directory", "%64irectory"])
async def test_a_foreign_token_and_an_unknown_one_are_refused_alike(name: str):
    """In all that the caller can see."""
    known, other = await refused(world(), call("payments")), await refused(world(), call(name))

    seen = [(e.problem.status, e.problem.error, e.problem.description, e.problem.hint) for e in (known, other)]
    assert seen[0] == seen[1]
    assert seen[0][3] == "this caller may get: directory, ledger"


async def test_the_record_of_a_refusal_knows_the_difference():
    """And still holds no name that only the caller knows."""
    foreign, unknown = await refused(world(), call("payments")), await refused(world(), call("canary"))

    assert (foreign.problem.reason, foreign.token, foreign.workload) == ("not_granted", "payments", "app")
    assert (unknown.problem.reason, unknown.token, unknown.workload) == ("unknown_token", None, "app")


async def test_a_denied_caller_causes_no_request():
    """The policy comes first."""
    tokens = FakeTokens({"directory": serving(), "payments": serving()})

    await refused(world(tokens), call("payments"))

    assert tokens.asked == []


async def test_a_stranger_is_told_as_whom_it_is_seen():
    """That is what an operator needs to write the section that is missing."""
    error = await refused(world(), call(peer=STRANGER))

    assert error.problem.hint == (
        "no [workload] section lets this caller get a token: listener api, uid 4000, gid 4000"
    )
    assert (error.problem.reason, error.workload) == ("no_workload", None)


async def test_an_unknown_caller_is_told_that_it_is_unknown():
    """A user namespace is in between, and no number would help."""
    error = await refused(world(), call(peer=UNKNOWN))

    assert "unknown in the broker's user namespace" in (error.problem.hint or "")


async def test_root_gets_no_token_without_a_workload():
    """Reading states is not getting tokens."""
    assert (await refused(world(), call(peer=ROOT))).problem.status == 403


async def test_a_caller_that_may_list_only_gets_no_token():
    """And is not told that it could."""
    error = await refused(world(), call(peer=Peer(listener="api", uid=3000, gid=3000)))

    assert error.problem.reason == "action_not_granted"
    assert (error.problem.hint or "").startswith("no [workload] section")


async def test_what_the_caller_asks_for_reaches_the_lifecycle():
    """Validity and patience, and the defaults where it says nothing."""
    tokens = FakeTokens()
    of = world(tokens)

    await get_token(of, call())
    await get_token(of, call(wait=0))
    await get_token(of, call(wait=30, min_valid=120))

    assert tokens.asked == [("directory", None, 10.0), ("directory", None, 0.0), ("directory", 120.0, 30.0)]


async def test_no_token_is_503_with_a_time_to_come_back():
    """And with why, for the record."""
    error = await refused(world(FakeTokens({"directory": unavailable(retry_after=3)})), call())

    assert error.problem.status == 503
    assert error.problem.error == "temporarily_unavailable"
    assert error.problem.headers == (("Retry-After", "3"),)
    assert error.problem.reason == "connect_failed"


async def test_a_server_that_refuses_the_client_is_502_with_its_code():
    """The code is a registered one, or unrecognized: the lifecycle sees to that."""
    failure = unavailable(code="authorization_server_error", server_error="invalid_client", hint="see the registration")

    error = await refused(world(FakeTokens({"directory": failure})), call())

    assert (error.problem.status, error.problem.error) == (502, "authorization_server_error")
    assert (error.problem.server_error, error.problem.hint) == ("invalid_client", "see the registration")


async def test_no_token_yet_and_no_failure_either_has_a_reason_too():
    """The set of reasons is closed."""
    error = await refused(world(FakeTokens({"directory": unavailable(reason=None)})), call())

    assert error.problem.reason == "no_token"


async def test_who_finds_no_place_to_wait_is_told_to_slow_down():
    """It does not wait, and it was not a failure of the token."""
    tokens = FakeTokens({"directory": unavailable()}, held=asyncio.Event())
    of = world(tokens, limits=Limits(max_waiting=1))

    async with asyncio.TaskGroup() as group:
        first = group.create_task(refused(of, call(wait=20)))
        await asyncio.sleep(1)
        second = await refused(of, call(wait=20))

    assert (second.problem.status, second.problem.error) == (429, "slow_down")
    assert first.result().problem.status == 503
    assert tokens.asked == [("directory", None, 20.0), ("directory", None, 0.0)]


async def test_a_good_token_needs_no_place_to_wait():
    """A full waiting room keeps nobody from what is there."""
    of = world(limits=Limits(max_waiting=0))

    assert (await get_token(of, call())).status == 200


async def test_who_would_not_wait_is_not_told_to_slow_down():
    """It is told what it asked: there is none now."""
    of = world(FakeTokens({"directory": unavailable()}), limits=Limits(max_waiting=0))

    assert (await refused(of, call(wait=0))).problem.status == 503


async def test_when_the_broker_stops_a_waiting_caller_is_answered_at_once():
    """With a time to come back, when another broker may be there."""
    of = world(FakeTokens({"directory": unavailable()}, held=asyncio.Event()))

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(refused(of, call(wait=60)))
        await asyncio.sleep(5)
        of.waiting.close()
        closed_at = loop_time()
        error = await waiting

    assert loop_time() == closed_at
    assert (error.problem.status, error.problem.reason) == (503, "draining")


async def test_when_the_broker_stops_a_waiting_caller_gets_the_token_in_hand():
    """It waited for a fresher one; what there is, is good."""
    tokens = FakeTokens(held=asyncio.Event())
    of = world(tokens)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(get_token(of, call(wait=60, min_valid=250)))
        await asyncio.sleep(5)
        of.waiting.close()

    assert waiting.result().status == 200
    assert tokens.asked == [("directory", 250.0, 60.0), ("directory", 0.0, 0.0)]


async def test_a_token_that_is_dropped_in_the_moment_when_the_broker_stops_is_unknown():
    """Who waited for it is told as if it had never been there, and it is no bug."""
    tokens = FakeTokens({"directory": unavailable()}, held=asyncio.Event())
    of = world(tokens)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(refused(of, call(wait=60)))
        await asyncio.sleep(5)
        of.waiting.close()
        tokens.answers.clear()
        of.replace_policy(replace(of.policy))
        error = await waiting

    assert (error.problem.status, error.problem.reason) == (403, "unknown_token")


async def test_host_names_that_a_server_chose_stay_in_the_log():
    """Callers learn the reason; the line to add to the configuration is not for them."""
    failure = unavailable(reason="endpoint_refused", hint='endpoint_hosts = ["evil.example"]')
    state = TokenStatus(
        name="directory", state=TokenState.UNAVAILABLE, required=False, reason="endpoint_refused", hint="evil.example"
    )
    of = world(FakeTokens({"directory": failure}, {"directory": state}))

    error = await refused(of, call())
    listed = await list_tokens(of, call())

    assert (error.problem.reason, error.problem.hint) == ("endpoint_refused", None)
    assert b"evil.example" not in listed.body


async def test_while_the_broker_stops_a_good_token_is_still_served():
    """Only waiting has come to its end."""
    of = world()
    of.waiting.close()

    assert (await get_token(of, call())).status == 200


async def test_while_the_broker_stops_nobody_begins_to_wait():
    """There is no token, and none will come."""
    of = world(FakeTokens({"directory": unavailable()}))
    of.waiting.close()

    assert (await refused(of, call())).problem.reason == "draining"


async def test_a_timeout_that_nobody_caused_is_a_bug():
    """It is not taken for the end of the broker."""
    of = world(FakeTokens({"directory": TimeoutError()}))

    with pytest.raises(TimeoutError):
        await get_token(of, call())


MAY_REFRESH = Workload(
    name="renewing",
    uids=frozenset({1_000}),
    tokens=frozenset({"directory"}),
    may=frozenset({Action.REFRESH}),
)


def refreshing(tokens: FakeTokens | None = None, *, emit: Any = None, limits: Limits | None = None) -> World:
    """A world whose caller may refresh, and may not get."""
    made = world(tokens, emit=emit, limits=limits)
    made.replace_policy(Policy(workloads=(MAY_REFRESH,), own_uid=900))
    return made


def force(peer: Peer = PEER, name: str = "directory", **body: object) -> Call:
    return replace(call(name, peer), body=body)


async def refused_refresh(of: World, asked: Call) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        await refresh_token(of, asked)
    return caught.value


async def test_a_forced_refresh_is_answered_like_a_get_and_recorded_like_one():
    """The right to refresh is enough to get what came of it. Who began the attempt has a record, too."""
    events = Events()

    answer = await refresh_token(refreshing(emit=events), force())

    assert answer.status == 200
    assert json.loads(answer.body)["access_token"] == "the-access-token"
    assert answer.headers == (("ETag", 'W/"an-etag"'),)
    forced, served = events.seen
    assert isinstance(served, TokenServed)
    assert forced == TokenRefreshForced(
        listener="api", uid=1000, gid=1000, pid=12, workload="renewing", token="directory"
    )


async def test_only_who_begins_an_attempt_is_recorded_for_it():
    """Not who shares one, nor who gets what is in hand."""
    events = Events()

    await refresh_token(refreshing(FakeTokens(begins=False), emit=events), force())

    assert [type(event) for event in events.seen] == [TokenServed]


async def test_the_rejected_token_and_the_patience_reach_the_lifecycle():
    """The tag without its quotes, weak or not."""
    tokens = FakeTokens()
    of = refreshing(tokens)

    await refresh_token(of, force(rejected='W/"an-etag"'))
    await refresh_token(of, force(rejected='"other"'))
    await refresh_token(of, force())

    assert tokens.forced == [
        ("directory", "an-etag", 10.0),
        ("directory", "other", 10.0),
        ("directory", None, 10.0),
    ]


@pytest.mark.parametrize("rejected", ["", "an-etag", "*", '"a", "b"', "W/an-etag"])
async def test_what_is_no_etag_is_refused(rejected: str):
    """It would never match, and each call would fetch a token."""
    tokens = FakeTokens()

    error = await refused_refresh(refreshing(tokens), force(rejected=rejected))

    assert (error.problem.status, error.problem.reason) == (400, "body_refused")
    assert tokens.forced == []


async def test_without_the_right_to_refresh_there_is_no_refresh():
    """Though it may get; and it is told what it may refresh."""
    tokens = FakeTokens()

    error = await refused_refresh(world(tokens), force())

    assert (error.problem.status, error.problem.reason) == (403, "action_not_granted")
    assert (error.problem.hint or "").startswith("no [workload] section lets this caller refresh a token")
    assert (await refused_refresh(refreshing(), force(name="ledger"))).problem.hint == (
        "this caller may refresh: directory"
    )
    assert tokens.forced == []


async def test_a_failed_forced_refresh_serves_what_is_good_or_says_why_there_is_none():
    """As a GET does."""
    stale = await refresh_token(refreshing(FakeTokens({"directory": serving(stale=True)})), force())
    error = await refused_refresh(refreshing(FakeTokens({"directory": unavailable(retry_after=3)})), force())

    assert json.loads(stale.body)["stale"] is True
    assert (error.problem.status, error.problem.headers) == (503, (("Retry-After", "3"),))
    assert (error.token, error.workload) == ("directory", "renewing")


async def test_a_forced_refresh_waits_in_a_place_of_its_own():
    """Without one, what is in hand is the answer."""
    tokens = FakeTokens()

    await refresh_token(refreshing(tokens, limits=Limits(max_waiting=0)), force())

    assert tokens.forced == [("directory", None, 0.0)]


async def test_when_the_broker_stops_a_forced_refresh_is_answered_at_once():
    """With the token in hand."""
    of = refreshing(FakeTokens(held=asyncio.Event()))

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(refresh_token(of, force()))
        await asyncio.sleep(5)
        of.waiting.close()
        closed_at = loop_time()

    assert (waiting.result().status, loop_time()) == (200, closed_at)


async def test_a_right_that_is_removed_while_the_caller_waits_is_gone_for_failures_too():
    """It does not learn how the token stands."""
    tokens = FakeTokens({"directory": unavailable()}, held=asyncio.Event())
    of = world(tokens)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(refused(of, call(wait=20)))
        await asyncio.sleep(1)
        of.replace_policy(Policy(workloads=(), own_uid=900))

    assert waiting.result().problem.status == 403
