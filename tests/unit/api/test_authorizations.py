"""Consents over the API: who may ask, who may come back, and what each is told."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import pytest

from broker.api.limits import Limits
from broker.errors import Outcome, RemoteError
from broker.events import AuthorizationAbandoned, AuthorizationFailed, AuthorizationStarted, RequestRefused
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from broker.policy.rules import Policy
from tests.jumping import loop_time
from tests.unit.api.people import (
    FOREIGN_PEER,
    MEAN_PEER,
    OVER_TCP,
    OWN_PEER,
    PEER,
    ROOT,
    STRANGER,
    api,
    members,
    refusal,
)
from tests.unit.consent.world import REDIRECT_URI
from tests.unit.tokens.stores import unavailable
from tests.unit.tokens.world import json_response


async def test_a_caller_gets_a_persons_grant_and_its_token():
    """The whole way over the API."""
    async with api() as through:
        begun = await through.begin()
        answer = await through.come_back(begun)
        grant = members(answer)["grant"]
        by_name = await through.send("GET", "/v1/tokens/person")
        by_grant = await through.send("GET", f"/v1/grants/{grant}/token")

    assert members(answer) == {"grant": grant, "subject": "alice", "subject_verified": True, "scope": "openid accounts"}
    assert members(by_name)["access_token"] == members(by_grant)["access_token"]


async def test_a_begun_authorization_says_where_it_is():
    """And nothing of it in the URL."""
    async with api() as through:
        answer = await through.send(
            "POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT_URI, "label": "laptop"}
        )
        state = through.consents.pushed()["state"]

        [event] = through.consents.events.of(AuthorizationStarted)

    begun = members(answer)
    assert (event.authorization, event.workload, event.uid) == (begun["id"], "app", 1000)
    assert dict(answer.headers)["Location"] == f"/v1/authorizations/{begun['id']}"
    assert begun["expires_in"] == 55
    assert begun["binding"] not in begun["authorization_url"]
    assert begun["state_sha256"] == sha256(state.encode()).hexdigest()


@pytest.mark.parametrize("peer", [MEAN_PEER, FOREIGN_PEER, STRANGER, ROOT, OVER_TCP])
async def test_who_may_not_authorize_asks_nobody(peer: Peer):
    """Root neither: it may look, not act."""
    async with api() as through:
        answer = await through.send("POST", "/v1/authorizations", {"token": "person"}, peer=peer)

        assert refusal(answer) == (403, "access_denied")
        assert through.consents.server.calls == []


async def test_a_token_that_does_not_exist_is_as_a_foreign_one():
    """403 alike."""
    async with api() as through:
        answer = await through.send("POST", "/v1/authorizations", {"token": "no-such-token"})

    assert refusal(answer) == (403, "access_denied")
    assert "no-such-token" not in answer.body.decode()


@pytest.mark.parametrize("without_people", [False, True])
async def test_a_token_that_needs_no_consent_is_refused(without_people: bool):
    """Also where no token needs one."""
    async with api(without_people=without_people) as through:
        answer = await through.send("POST", "/v1/authorizations", {"token": "plain"})

    assert refusal(answer) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"redirect_uri": REDIRECT_URI},
        *(
            {"token": "person", "redirect_uri": REDIRECT_URI, name: "x"}
            for name in (
                "client_id", "response_type", "response_mode", "state", "nonce", "code_challenge",
                "code_challenge_method", "request", "request_uri", "dpop_jkt", "iss", "aud", "client_assertion",
                "client_assertion_type", "prompt", "max_age", "resource", "audience", "claims", "acr_values",
            )
        ),
        {"token": "person", "redirect_uri": "https://evil.example"},
        {"token": "person", "redirect_uri": 7},
        {"token": "person", "redirect_uri": REDIRECT_URI, "scope": "openid admin"},
        {"token": "person", "redirect_uri": REDIRECT_URI, "scope": ""},
        {"token": "person", "redirect_uri": REDIRECT_URI, "authorization_details": [{"type": "x"}]},
        {"token": "person", "redirect_uri": REDIRECT_URI, "login_hint": ""},
        b'{"token":"person","token":"person"}',
        b"[]",
        b"{",
    ],
    ids=str,
)  # fmt: skip
async def test_what_a_caller_may_not_choose_is_refused(body: Any):
    """Every parameter that is the broker's (rules.md R4), and every choice above the ceiling; nothing is sent."""
    async with api() as through:
        answer = await through.send("POST", "/v1/authorizations", body)

        assert refusal(answer) == (400, "invalid_request")
        assert through.consents.server.calls == []
        assert "evil" not in answer.body.decode()


async def test_a_choice_below_the_ceiling_is_what_is_asked():
    """Scope and hint."""
    async with api() as through:
        await through.begin(scope="accounts", login_hint="kaethe")

        assert through.consents.pushed()["scope"] == "openid accounts"
        assert through.consents.pushed()["login_hint"] == "kaethe"


@pytest.mark.parametrize(
    ("peer", "changes"),
    [
        (PEER, {"binding": "another"}),
        (PEER, {"binding": ""}),
        (OWN_PEER, {}),
        (MEAN_PEER, {}),
        (STRANGER, {}),
        (ROOT, {}),
    ],
)
async def test_whoever_is_not_the_one_who_started_is_answered_as_for_an_unknown_id(peer: Peer, changes: Any):
    """Byte for byte, and the authorization is as it was (rules.md R4)."""
    async with api() as through:
        begun = await through.begin()
        foreign = await through.come_back(begun, peer=peer, **changes)
        unknown = await through.come_back({"id": "unknown", "binding": "b"}, peer=peer, **changes)
        answer = await through.come_back(begun)
        told = [event.reason for event in through.consents.events.of(RequestRefused)]

    assert told == ["binding_wrong" if changes else "authorization_not_visible", "authorization_not_visible"]
    assert refusal(foreign) == (404, "not_found")
    assert foreign == unknown
    assert answer.status == 200


async def test_a_workload_that_lost_its_right_does_not_come_back():
    """The policy of now decides."""
    async with api() as through:
        begun = await through.begin()
        policy = through.world.policy
        through.world.replace_policy(Policy(workloads=policy.workloads[1:], own_uid=900))
        assert (await through.come_back(begun)).status == 404
        through.world.replace_policy(policy)
        assert (await through.come_back(begun)).status == 200


@pytest.mark.parametrize("body", [None, {}, {"binding": "b"}, {"binding": "b", "callback_url": 7}, b"{"])
async def test_a_callback_that_is_no_callback_spends_nothing(body: Any):
    """Malformed, or an address that no browser was sent to."""
    async with api() as through:
        begun = await through.begin()
        answer = await through.send("POST", f"/v1/authorizations/{begun['id']}/callback", body)
        relative = await through.come_back(begun, callback_url="/callback?code=a")
        strange = await through.come_back(begun, form={"code": 7})
        assert (await through.come_back(begun)).status == 200

    assert {refusal(one) for one in (answer, relative, strange)} == {(400, "invalid_request")}


async def test_a_response_that_fails_a_check_names_it_and_is_spent():
    """400: it was the caller who brought it. One event tells of the check and of the caller; the next is refused."""
    async with api() as through:
        begun = await through.begin()
        answer = await through.come_back(begun, callback_url=through.consents.url(state="canary-of-a-state"))
        again = await through.come_back(begun)
        events = through.consents.events

    assert refusal(answer) == (400, "invalid_request")
    assert members(answer)["check"] == "state"
    assert refusal(again) == (410, "invalid_request")
    assert (members(again)["state"], members(again)["check"]) == ("failed", "state")
    [failed], [refused] = events.of(AuthorizationFailed), events.of(RequestRefused)
    assert (failed.check, failed.listener, failed.uid, failed.gid, failed.pid) == ("state", "api", 1000, 1000, 12)
    assert (refused.status, refused.reason) == (410, "authorization_finished")
    assert "canary" not in f"{answer.body!r}{events.seen}"


async def test_a_refusal_of_the_person_is_passed_on_by_its_code():
    """A person is needed again, and nothing is to be repeated: 409 with the registered code."""
    async with api() as through:
        begun = await through.begin()
        answer = await through.come_back(begun, callback_url=through.consents.url(code=None, error="access_denied"))

    assert refusal(answer) == (409, "consent_required")
    assert "Retry-After" not in dict(answer.headers)
    assert (members(answer)["server_error"], members(answer)["check"]) == ("access_denied", "error")


async def test_an_id_token_that_fails_a_check_is_the_servers_fault():
    """502, the name of the check, and not a claim."""
    async with api() as through:
        through.consents.server.claims = {"aud": "canary"}
        answer = await through.come_back(await through.begin())

    assert refusal(answer) == (502, "authorization_server_error")
    assert (members(answer)["reason"], members(answer)["check"]) == ("id_token_invalid", "aud")
    assert b"canary" not in answer.body


async def test_a_server_that_refuses_the_client_is_a_bad_gateway():
    """At the first request and at the second."""
    async with api() as through:
        through.consents.server.instead["/token"] = lambda: json_response({"error": "invalid_grant"}, status=400)
        at_token = await through.come_back(await through.begin())
        through.consents.server.instead["/par"] = lambda: json_response({"error": "invalid_client"}, status=401)
        at_par = await through.send("POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT_URI})

    assert refusal(at_token) == refusal(at_par) == (502, "authorization_server_error")
    assert members(at_token)["server_error"] == "invalid_grant"
    assert members(at_par)["server_error"] == "invalid_client"


async def test_what_may_pass_by_itself_is_temporary():
    """A server that is busy, a disk that is full, keys that cannot be had."""
    async with api() as through:
        begun = await through.begin()
        url = through.consents.url()
        through.consents.server.instead["/par"] = lambda: json_response(
            {"error": "slow_down"}, status=429, headers={"retry-after": "17"}
        )
        busy = await through.send("POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT_URI})
        through.consents.store.error = unavailable()
        full = await through.come_back(begun, callback_url=url)
        through.consents.store.error = None
        through.consents.keys.error = RemoteError(Reason.KEYS_UNAVAILABLE, "down", outcome=Outcome.NOT_SENT)
        keyless = await through.come_back(begun, callback_url=url)
        through.consents.keys.error = None
        good = await through.come_back(begun, callback_url=url)
        refused = [event.reason for event in through.consents.events.of(RequestRefused)]

    assert refusal(busy) == refusal(full) == refusal(keyless) == (503, "temporarily_unavailable")
    assert dict(busy.headers)["Retry-After"] == "17"
    assert members(full)["reason"] == "store_unavailable"
    assert members(keyless)["reason"] == "keys_unavailable"
    assert refused == ["rate_limited", "store_unavailable", "keys_unavailable"]
    assert good.status == 200


async def test_a_bug_is_a_bug():
    """500 with the incident of its report."""
    async with api() as through:
        through.consents.server.instead["/token"] = ZeroDivisionError
        answer = await through.come_back(await through.begin())

    assert refusal(answer) == (500, "server_error")


async def test_another_person_does_not_renew_the_grant():
    """409, and whoever has the grant is served as before."""
    async with api() as through:
        grant = await through.consent()
        through.consents.server.subject = "mallory"
        answer = await through.come_back(await through.begin())
        served = await through.send("GET", f"/v1/grants/{grant}/token")

    assert refusal(answer) == (409, "subject_mismatch")
    assert served.status == 200


@pytest.mark.parametrize("peer", [OWN_PEER, FOREIGN_PEER])
async def test_a_foreign_grant_is_not_renewed(peer: Peer):
    """As if it did not exist."""
    async with api() as through:
        grant = await through.consent(token="people")
        token = "people" if peer is OWN_PEER else "other"
        foreign, unknown = [
            await through.send(
                "POST", "/v1/authorizations", {"token": token, "grant": name, "redirect_uri": REDIRECT_URI}, peer=peer
            )
            for name in (grant, "unknown")
        ]

    assert foreign == unknown
    assert foreign.status in {403, 404}


async def test_a_grant_of_another_token_is_not_renewed():
    """Each token has its own."""
    async with api() as through:
        grant = await through.consent()
        answer = await through.send(
            "POST", "/v1/authorizations", {"token": "people", "grant": grant, "redirect_uri": REDIRECT_URI}
        )

    assert refusal(answer) == (404, "not_found")


async def test_a_workload_with_its_own_grants_does_not_renew_the_one_of_another():
    """Though the token is its, too."""
    async with api() as through:
        await through.consent()
        answer = await through.send(
            "POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT_URI}, peer=OWN_PEER
        )
        [refused] = through.consents.events.of(RequestRefused)

    assert refusal(answer) == (403, "access_denied")
    assert (refused.reason, refused.token) == ("foreign_grant", "person")


async def test_the_state_of_an_authorization_is_its_owners_business():
    """Open: 200. Others: 404. Over: 410."""
    async with api() as through:
        begun = await through.begin()
        path = f"/v1/authorizations/{begun['id']}"
        mine = await through.send("GET", path)
        foreign = await through.send("GET", path, peer=OWN_PEER)
        grant = members(await through.come_back(begun))["grant"]
        over = await through.send("GET", path)

    assert members(mine) == {"id": begun["id"], "token": "person", "state": "waiting", "expires_in": 600}
    assert refusal(foreign) == (404, "not_found")
    assert refusal(over) == (410, "invalid_request")
    assert (members(over)["state"], members(over)["grant"]) == ("granted", grant)


async def test_who_waits_for_a_state_is_told_when_it_changes():
    """Or when the time is up."""
    async with api() as through:
        begun = await through.begin()
        path = f"/v1/authorizations/{begun['id']}"
        started = loop_time()
        same = await through.send("GET", f"{path}?wait=20")
        waited = loop_time() - started
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(through.send("GET", f"{path}?wait=60"))
            await asyncio.sleep(1.0)
            through.consents.server.delay = 1.0
            await through.come_back(begun)

    assert waited == pytest.approx(20.0)
    assert members(same)["state"] == "waiting"
    assert members(waiting.result())["state"] == "redeeming"


async def test_places_to_wait_are_counted():
    """As for tokens."""
    async with api(limits=Limits(max_waiting=1)) as through:
        begun = await through.begin()
        path = f"/v1/authorizations/{begun['id']}?wait=60"
        async with asyncio.TaskGroup() as group:
            held = group.create_task(through.send("GET", path))
            await asyncio.sleep(1.0)
            answer = await through.send("GET", path)
            through.world.waiting.close()
        stopping = await through.send("GET", path)

    assert refusal(answer) == (429, "slow_down")
    assert held.result().status == 200
    assert refusal(stopping) == (503, "temporarily_unavailable")


async def test_an_authorization_is_given_up_once():
    """204, then 410; nobody else can."""
    async with api() as through:
        begun = await through.begin()
        path = f"/v1/authorizations/{begun['id']}"
        foreign = await through.send("DELETE", path, peer=OWN_PEER)
        gone = await through.send("DELETE", path)
        again = await through.send("DELETE", path)

        [event] = through.consents.events.of(AuthorizationAbandoned)

    assert refusal(foreign) == (404, "not_found")
    assert (event.listener, event.uid) == ("api", 1000)
    assert (gone.status, gone.body) == (204, b"")
    assert refusal(again) == (410, "invalid_request")
    assert members(again)["state"] == "abandoned"


async def test_where_nobody_consents_there_is_no_authorization():
    """404 for whatever is asked."""
    async with api(without_people=True) as through:
        for method in ("GET", "DELETE"):
            assert refusal(await through.send(method, "/v1/authorizations/an-id")) == (404, "not_found")
        body = {"binding": "b", "callback_url": "https://a.example"}
        answer = await through.send("POST", "/v1/authorizations/an-id/callback", body)
        renewal = await through.send("POST", "/v1/authorizations", {"token": "plain", "grant": "a-grant"})

    assert refusal(answer) == (404, "not_found")
    assert refusal(renewal) == (400, "invalid_request")


async def test_too_many_open_authorizations_are_refused():
    """Until some are over."""
    async with api() as through:
        for _ in range(200):
            begun = await through.begin()
        answer = await through.send("POST", "/v1/authorizations", {"token": "person", "redirect_uri": REDIRECT_URI})
        await through.send("DELETE", f"/v1/authorizations/{begun['id']}")
        await through.begin()

    assert refusal(answer) == (429, "slow_down")


async def test_nothing_is_redeemed_while_the_broker_stops():
    """The person can try again at the next one."""
    async with api() as through:
        begun = await through.begin()
    answer = await through.come_back(begun)

    assert refusal(answer) == (503, "temporarily_unavailable")
