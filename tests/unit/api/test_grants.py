"""Grants over the API: whose are shown to whom, their tokens, and their end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.errors import Outcome, RemoteError
from broker.events import AuditUnavailableError, Event, GrantGivenUp, GrantReassigned, GrantRevived, TokenServed
from broker.policy.peer import Peer
from broker.policy.rules import Policy
from broker.tokens.grant import EndReason
from tests.unit.api.people import (
    FOREIGN_PEER,
    MEAN_PEER,
    OVER_TCP,
    OWN_PEER,
    PEER,
    ROOT,
    STRANGER,
    Api,
    api,
    members,
    refusal,
)
from tests.unit.tokens.stores import unavailable
from tests.unit.tokens.world import json_response


async def ids(through: Api, target: str = "/v1/grants", peer: Peer = PEER) -> list[str]:
    answer = await through.send("GET", target, peer=peer)
    assert answer.status == 200, answer.body
    return [grant["id"] for grant in members(answer)["grants"]]


async def test_a_grant_is_described_by_what_is_known():
    """Without any token."""
    async with api() as through:
        grant = await through.consent(token="people", label="laptop")
        [described] = members(await through.send("GET", "/v1/grants"))["grants"]

    assert described == {
        "id": grant,
        "token": "people",
        "owner": "app",
        "state": "fresh",
        "subject": "alice",
        "subject_verified": True,
        "label": "laptop",
        "scope": "openid accounts",
        "created_at": described["created_at"],
        "expires_in": described["expires_in"],
    }


async def test_each_caller_sees_the_grants_that_it_may_list():
    """All of its tokens, its own alone, or none; root and the broker's user see all."""
    async with api() as through:
        of_app = await through.consent(token="people")
        of_own = await through.consent(token="people", peer=OWN_PEER)
        both = sorted([of_app, of_own])

        assert await ids(through) == both
        assert await ids(through, peer=OWN_PEER) == [of_own]
        assert await ids(through, peer=MEAN_PEER) == both
        assert await ids(through, peer=FOREIGN_PEER) == []
        assert await ids(through, peer=ROOT) == both
        stranger = await through.send("GET", "/v1/grants", peer=STRANGER)
    assert refusal(stranger) == (403, "access_denied")


async def test_grants_are_listed_by_token_and_person_and_page():
    """The cursor leads from page to page."""
    async with api() as through:
        one = await through.consent()
        many = []
        for person in ("bob", "c d"):
            through.consents.server.subject = person
            many.append(await through.consent(token="people"))

        assert await ids(through, "/v1/grants?token=person") == [one]
        assert await ids(through, "/v1/grants?token=people") == sorted(many)
        assert await ids(through, "/v1/grants?subject=c%20d") == [many[1]]
        assert await ids(through, "/v1/grants?subject=nobody") == []
        first = members(await through.send("GET", "/v1/grants?limit=2"))
        rest = await ids(through, f"/v1/grants?limit=2&cursor={first['cursor']}")
        assert sorted([grant["id"] for grant in first["grants"]] + rest) == sorted([one, *many])


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "token=UPPER",
        "token=a&token=a",
        "subject=",
        "subject=%ff",
        "subject=%0a",
        "subject=%",
        "cursor=a/b",
        "owner=app",
        f"subject={'x' * 256}",
    ],
)
async def test_a_list_that_cannot_be_asked_for_is_refused(query: str):
    """Unknown, repeated, out of range, not text."""
    async with api() as through:
        assert refusal(await through.send("GET", f"/v1/grants?{query}")) == (400, "invalid_request")


@pytest.mark.parametrize("peer", [OWN_PEER, FOREIGN_PEER, STRANGER, ROOT, OVER_TCP])
async def test_a_foreign_grant_is_as_one_that_does_not_exist(peer: Peer):
    """Byte for byte; root may look at states, and gets no token."""
    async with api() as through:
        grant = await through.consent(token="people")
        foreign = await through.send("GET", f"/v1/grants/{grant}/token", peer=peer)
        unknown = await through.send("GET", "/v1/grants/unknown/token", peer=peer)

    assert foreign == unknown
    assert refusal(foreign) == (404, "not_found")


async def test_a_caller_that_may_list_may_not_get():
    """And is told so: it knows of the grant."""
    async with api() as through:
        grant = await through.consent(token="people")
        got = await through.send("GET", f"/v1/grants/{grant}/token", peer=MEAN_PEER)
        revoked = await through.send("DELETE", f"/v1/grants/{grant}", peer=MEAN_PEER)

    assert refusal(got) == refusal(revoked) == (403, "access_denied")


async def test_a_served_token_is_recorded_with_its_grant():
    """By its name and by the grant; with its ETag, and 304 for who has it."""
    async with api() as through:
        one = await through.consent()
        many = await through.consent(token="people")
        by_name = await through.send("GET", "/v1/tokens/person")
        by_grant = await through.send("GET", f"/v1/grants/{many}/token")
        etag = dict(by_grant.headers)["ETag"]
        again = await through.send("GET", f"/v1/grants/{many}/token", If_None_Match=etag)
        bare = await through.send("GET", f"/v1/grants/{many}/token", Accept="text/plain")
        served = through.consents.events.of(TokenServed)

    assert by_name.status == 200
    assert again.status == 304
    assert bare.body.decode() == members(by_grant)["access_token"]
    assert [(event.token, event.grant) for event in served] == [("person", one), ("people", many), ("people", many)]


async def test_a_long_poll_of_a_grant_ends_with_the_grant():
    """Whoever waits for the next token is told that there is none."""
    async with api() as through:
        grant = await through.consent(token="people")
        etag = dict((await through.send("GET", f"/v1/grants/{grant}/token")).headers)["ETag"]
        async with asyncio.TaskGroup() as group:
            held = group.create_task(through.send("GET", f"/v1/grants/{grant}/token?wait=60", If_None_Match=etag))
            await asyncio.sleep(1.0)
            revoked = await through.send("DELETE", f"/v1/grants/{grant}")
        gone = await through.send("GET", f"/v1/grants/{grant}/token")

    assert members(revoked) == {"revoked": True}
    assert refusal(held.result()) == refusal(gone) == (404, "not_found")


async def test_without_a_record_no_token_leaves():
    """Also none of a grant (rules.md R9)."""
    async with api() as through:
        grant = await through.consent(token="people")
        emit = through.world.emit

        def refuse(event: Event) -> None:
            if isinstance(event, TokenServed):
                raise AuditUnavailableError
            emit(event)

        through.world.emit = refuse
        answer = await through.send("GET", f"/v1/grants/{grant}/token")

    assert refusal(answer) == (503, "temporarily_unavailable")


async def test_a_token_without_a_consent_says_how_to_get_one():
    """409 with the reason; the list shows it, too."""
    async with api() as through:
        got = await through.send("GET", "/v1/tokens/person")
        polled = await through.send("GET", "/v1/tokens/person?wait=60", If_None_Match='"x"')
        forced = await through.send("POST", "/v1/tokens/person/refresh")
        listed = {one["name"]: one for one in members(await through.send("GET", "/v1/tokens"))["tokens"]}

    for answer in (got, polled, forced):
        assert refusal(answer) == (409, "consent_required")
        assert members(answer)["reason"] == "no_consent"
        assert "token-broker login person" in members(answer)["hint"]
    assert listed["person"]["state"] == "consent_required"
    assert listed["person"]["reason"] == "no_consent"
    assert listed["people"]["state"] == "consent_required"
    assert listed["plain"]["state"] == "pending"


async def test_a_token_with_many_grants_needs_one_named():
    """400, with a consent or without."""
    async with api() as through:
        before = await through.send("GET", "/v1/tokens/people")
        await through.consent(token="people")
        after = await through.send("GET", "/v1/tokens/people")
        listed = {one["name"]: one["state"] for one in members(await through.send("GET", "/v1/tokens"))["tokens"]}

    assert refusal(before) == refusal(after) == (400, "grant_required")
    assert listed["people"] == "fresh"


async def test_a_grant_that_has_ended_needs_its_person():
    """409 with what ended it, until it is tried again or consented to anew."""
    async with api() as through:
        grant = await through.consent(token="people")
        through.consents.server.instead["/token"] = lambda: json_response({"error": "invalid_grant"}, status=400)
        await asyncio.sleep(2_000.0)
        answer = await through.send("GET", f"/v1/grants/{grant}/token")
        [listed] = members(await through.send("GET", "/v1/grants"))["grants"]
        retried = await through.send("POST", f"/v1/grants/{grant}/retry", peer=ROOT)
        revived = through.consents.events.of(GrantRevived)

    assert refusal(answer) == (409, "consent_required")
    assert members(answer)["reason"] == EndReason.INVALID_GRANT
    assert (listed["state"], listed["reason"]) == ("consent_required", "invalid_grant")
    assert members(retried)["id"] == grant
    assert [event.reason for event in revived] == ["retried"]


async def test_a_workload_with_its_own_grants_does_not_get_the_one_of_another_by_its_name():
    """403: the token is its, the grant is not."""
    async with api() as through:
        await through.consent()
        answer = await through.send("GET", "/v1/tokens/person", peer=OWN_PEER)

    assert refusal(answer) == (403, "access_denied")


@pytest.mark.parametrize(("peer", "workload"), [(PEER, "app"), (ROOT, "")])
async def test_a_grant_is_given_up_by_who_may(peer: Peer, workload: str):
    """It is served no more, and who gave it up is recorded."""
    async with api() as through:
        grant = await through.consent(token="people")
        answer = await through.send("DELETE", f"/v1/grants/{grant}", peer=peer)
        again = await through.send("DELETE", f"/v1/grants/{grant}", peer=peer)
        listed = await ids(through)
        [event] = through.consents.events.of(GrantGivenUp)

    assert members(answer) == {"revoked": True}
    assert refusal(again) == (404, "not_found")
    assert listed == []
    assert (event.uid, event.workload, event.token, event.grant) == (peer.uid, workload, "people", grant)


async def test_a_revocation_that_takes_long_is_pending():
    """And goes on."""
    async with api() as through:
        grant = await through.consent(token="people")
        through.consents.server.delay = 60.0
        answer = await through.send("DELETE", f"/v1/grants/{grant}")

    assert members(answer) == {"revoked": "pending"}


async def test_a_server_that_does_not_revoke_is_told():
    """The grant is gone all the same."""
    async with api() as through:
        grant = await through.consent(token="people")
        through.consents.metadata.changes = {"revocation_endpoint": None}
        answer = await through.send("DELETE", f"/v1/grants/{grant}")

    assert members(answer) == {"revoked": False}


async def test_a_grant_is_given_to_another_workload_by_an_operator():
    """Then it is that one's own."""
    async with api() as through:
        grant = await through.consent(token="people")
        answer = await through.send("POST", f"/v1/grants/{grant}/reassign", {"owner": "own"}, peer=ROOT)
        listed = await ids(through, peer=OWN_PEER)
        [event] = through.consents.events.of(GrantReassigned)

    assert members(answer)["owner"] == "own"
    assert listed == [grant]
    assert (event.uid, event.workload, event.grant) == (0, "own", grant)


@pytest.mark.parametrize("owner", ["nobody", "elsewhere", ""])
async def test_a_grant_is_not_given_to_whoever_cannot_have_it(owner: str):
    """No such workload, or without the token."""
    async with api() as through:
        grant = await through.consent(token="people")
        answer = await through.send("POST", f"/v1/grants/{grant}/reassign", {"owner": owner}, peer=ROOT)

    assert refusal(answer) == (400, "invalid_request")


@pytest.mark.parametrize("peer", [PEER, STRANGER, OVER_TCP])
@pytest.mark.parametrize(("action", "body"), [("retry", None), ("retry", {}), ("reassign", {"owner": "app"})])
async def test_what_is_for_operators_is_for_nobody_else(peer: Peer, action: str, body: Any):
    """Whether the grant exists or not."""
    async with api() as through:
        grant = await through.consent(token="people")
        known = await through.send("POST", f"/v1/grants/{grant}/{action}", body, peer=peer)
        unknown = await through.send("POST", f"/v1/grants/unknown/{action}", body, peer=peer)

    assert known == unknown
    assert refusal(known) == (403, "access_denied")


async def test_an_unknown_grant_is_not_found_by_an_operator():
    """There is nothing to hide, and nothing to do."""
    async with api() as through:
        for method, target, body in (
            ("POST", "/v1/grants/unknown/retry", None),
            ("POST", "/v1/grants/unknown/reassign", {"owner": "app"}),
            ("DELETE", "/v1/grants/unknown", None),
        ):
            assert refusal(await through.send(method, target, body, peer=ROOT)) == (404, "not_found")


async def test_the_right_to_a_grant_may_go_while_somebody_waits():
    """The policy is asked again."""
    async with api() as through:
        grant = await through.consent(token="people")
        etag = dict((await through.send("GET", f"/v1/grants/{grant}/token")).headers)["ETag"]
        async with asyncio.TaskGroup() as group:
            held = group.create_task(through.send("GET", f"/v1/grants/{grant}/token?wait=60", If_None_Match=etag))
            await asyncio.sleep(1.0)
            through.world.replace_policy(Policy(workloads=through.world.policy.workloads[1:], own_uid=900))

    assert refusal(held.result()) == (404, "not_found")


async def test_a_list_is_made_by_the_policy_in_force():
    """Also when it was replaced while others had their turn."""
    async with api() as through:
        grant = await through.consent(token="people")
        policy, page = through.world.policy, through.consents.grants.page

        class Slow:
            """Grants, and a reload while they are looked at."""

            async def page(self, *arguments: Any, **options: Any) -> Any:
                found = await page(*arguments, **options)
                through.world.grants = through.consents.grants
                through.world.replace_policy(Policy(workloads=policy.workloads[1:], own_uid=900))
                return found

        through.world.grants = Slow()  # type: ignore[assignment]
        answer = await through.send("GET", "/v1/grants")
        through.world.replace_policy(policy)

        assert refusal(answer) == (403, "access_denied")
        assert await ids(through) == [grant]


async def test_where_nobody_consents_there_are_no_grants():
    """An empty list, and 404 for whatever is named."""
    async with api(without_people=True) as through:
        assert await ids(through) == []
        for method, target in (
            ("GET", "/v1/grants/g/token"),
            ("DELETE", "/v1/grants/g"),
            ("POST", "/v1/grants/g/retry"),
        ):
            assert refusal(await through.send(method, target, peer=ROOT)) == (404, "not_found")


async def test_whoever_gives_a_grant_up_hears_where_the_person_can_log_out():
    """A revoked grant ends no session at the server; where that is, its metadata say, if they are at hand."""
    async with api() as through:
        first, second = await through.consent(token="people"), await through.consent(token="people")
        through.consents.metadata.changes = {"end_session_endpoint": "https://as.example/end"}
        told = await through.send("DELETE", f"/v1/grants/{first}")
        through.consents.metadata.error = RemoteError("connect_failed", "down", outcome=Outcome.NOT_SENT)
        untold = await through.send("DELETE", f"/v1/grants/{second}")

    assert members(told)["end_session_url"].startswith("https://as.example/end?client_id=")
    assert members(untold) == {"revoked": "pending"}


async def test_what_a_full_disk_would_forget_is_not_called_done():
    """It is in force, and that is said; but a broker that is killed now would serve the grant again."""
    async with api() as through:
        grant = await through.consent(token="people")
        through.consents.store.error = unavailable()
        moved = await through.send("POST", f"/v1/grants/{grant}/reassign", {"owner": "own"}, peer=ROOT)
        given_up = await through.send("DELETE", f"/v1/grants/{grant}", peer=ROOT)
        served = await through.send("GET", f"/v1/grants/{grant}/token")
        through.consents.store.error = None
        await asyncio.sleep(5.0)

    assert [answer.status for answer in (moved, given_up)] == [503, 503]
    assert members(given_up)["reason"] == "store_unavailable"
    assert refusal(served) == (404, "not_found")
    assert through.consents.store.grant(grant) is None
