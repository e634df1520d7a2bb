"""Whole consents at a server with ways of its own: login elsewhere, a code with its state, the person by userinfo."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from broker.consent.errors import SubjectMismatchError
from broker.consent.redemption import Redeemed
from broker.errors import BrokerError, Outcome, RemoteError
from broker.events import AuthorizationFailed, GrantRevoked
from broker.oauth.checks import CheckFailedError
from broker.oauth.client import Issuer, Profile
from broker.oauth.dialect import IRIDIUM, Placement, SubjectFrom
from broker.oauth.messages import Request, Response
from broker.oauth.metadata import AuthorizationServer
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken
from broker.oauth.static_metadata import described_server
from broker.tokens.acquire import Registration
from broker.tokens.exchange import Exchange
from broker.tokens.spec import Consent, Grants
from tests.unit.consent.world import ISSUER, PEOPLE_CLIENT, REDIRECT_URI, SPEC, ConsentWorld, query_of
from tests.unit.tokens.bearer_world import PUBLIC
from tests.unit.tokens.world import FakeMetadata, json_response

SOCIAL = replace(SPEC, scope=(), parameters=(("provider", "github"),))
ONE = replace(SOCIAL, consent=Consent(grants=Grants.ONE))
SOCIAL_ISSUER = replace(ISSUER, profile=Profile.OAUTH2, dialect=IRIDIUM)
CLIENT = replace(PUBLIC, redirect_uris=PEOPLE_CLIENT.redirect_uris)
LOCATION = "https://github.com/login/oauth/authorize?client_id=theirs&scope=user:email read:user"


@dataclass
class SocialServer:
    """
    An authorization server that leaves the login to another one.

    *instead* answers in place of a path; *requests* is what came. An access token is that of *person*.
    """

    person: str = "alice"
    thumbprint: str | None = None
    not_after: float | None = None
    members: dict[str, Any] = field(default_factory=dict)
    instead: dict[str, Callable[[], Response | BrokerError]] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    good: set[str] = field(default_factory=set)
    serial: int = 0

    async def send(self, request: Request) -> Response:
        await asyncio.sleep(0)
        self.requests.append(request)
        form = dict(request.form or ()) | {name: value.reveal() for name, value in request.secret_fields}
        self.forms.append(form)
        path = request.url.removeprefix(ISSUER.issuer)
        if path in self.instead:
            answer = self.instead[path]()
            if isinstance(answer, BrokerError):
                raise answer
            return answer
        return self._answer(path, form, request.credential)

    def _answer(self, path: str, form: dict[str, str], credential: Any) -> Response:
        bearer = credential.reveal() if isinstance(credential, AccessToken) else None
        match path:
            case "/oauth/external/authorize":
                location = f"{LOCATION}&state={form['state']}&redirect_uri={form['redirect_uri']}"
                return Response(status=302, headers={"location": location}, body=b"")
            case "/oauth/token":
                self.serial += 1
                self.good.add(f"at-{self.serial}")
                body = {"access_token": f"at-{self.serial}", "token_type": "Bearer", "expires_in": 3600}
                body |= {"refresh_token": f"rt-{self.serial}"} | self.members
                return json_response({name: value for name, value in body.items() if value is not None})
            case "/identities" if bearer in self.good:
                return json_response({"data": {"id": self.person}})
            case "/applications/app-1/tokens" if bearer in self.good:
                self.good.discard(str(bearer))
                return Response(status=204, headers={}, body=b"")
        return json_response({"code": "401", "message": "NOT AUTHORIZED"}, status=401)

    @property
    def paths(self) -> list[str]:
        """What was called."""
        return [request.url.removeprefix(ISSUER.issuer) for request in self.requests]


@dataclass
class DescribedMetadata(FakeMetadata):
    server: AuthorizationServer | None = None

    async def get(self) -> AuthorizationServer:
        assert self.server is not None
        return self.server


@dataclass
class SocialWorld(ConsentWorld):
    """Consents at such a server."""

    specs: Any = (SOCIAL,)
    issuer: Issuer = SOCIAL_ISSUER
    client: Any = CLIENT
    social: SocialServer = field(default_factory=SocialServer)

    def registrations(self) -> dict[str, Registration]:
        exchange = Exchange(
            session=self.social, signer=None, dialect=self.issuer.dialect, clock=self.clock, randomness=self.dice
        )
        metadata = DescribedMetadata(server=described_server(self.issuer))
        return {"app": Registration(client=self.client, issuer=self.issuer, metadata=metadata, exchange=exchange)}

    @asynccontextmanager
    async def going(self) -> AsyncIterator[SocialWorld]:
        """Run, as this class."""
        async with self.running():
            yield self

    async def consented(self, **changes: Any) -> Redeemed:
        """Have a person log in elsewhere and come back; *changes* are parameters of what comes back."""
        begun = await self.begin()
        state = query_of(begun.authorization_url)["state"][0]
        query = "&".join(f"{name}={value}" for name, value in ({"code": "the-code", "state": state} | changes).items())
        return await self.come_back(begun, callback_url=f"{REDIRECT_URI}?{query}")


def with_dialect(**changes: Any) -> SocialWorld:
    return SocialWorld(issuer=replace(SOCIAL_ISSUER, dialect=replace(IRIDIUM, **changes)))


# --- to the login ---


async def test_the_browser_is_sent_where_the_server_says():
    """IRI-01, IRI-02: one POST, whose redirect is read and not followed, encoded as a browser does it."""
    async with SocialWorld().going() as world:
        begun = await world.begin()

    (form,) = world.social.forms
    assert world.social.paths == ["/oauth/external/authorize"]
    assert world.social.requests[0].method == "POST"
    assert world.social.requests[0].credential is None
    assert {"response_type", "state", "redirect_uri", "client_id", "provider"} <= form.keys()
    assert form["provider"] == "github"
    assert begun.authorization_url == (
        f"{LOCATION.replace(' ', '%20')}&state={form['state']}&redirect_uri={form['redirect_uri']}"
    )
    assert begun.expires_in == 595.0


async def test_the_request_is_in_the_url_where_the_dialect_has_it_there():
    """It holds no secret but what the browser shows."""
    async with with_dialect(authorization_placement=Placement.QUERY).going() as world:
        await world.begin()

    assert world.social.requests[0].in_query


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            Response(status=302, headers={"location": "https://evil.example/?state=x"}, body=b""),
            "provider_redirect_invalid",
        ),
        (Response(status=302, headers={}, body=b""), "provider_redirect_invalid"),
        (json_response({"url": "https://github.com"}), "provider_redirect_invalid"),
        (json_response({"code": "400 BAD_REQUEST", "message": None}, status=400), "server_refused"),
        (RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN), "connection_lost"),
    ],
)
async def test_an_answer_that_leads_nowhere_ends_it(answer: Response | RemoteError, reason: str):
    """Nobody is sent there, nothing is stored, and nobody is asked twice."""
    world = SocialWorld()
    world.social.instead["/oauth/external/authorize"] = lambda: answer
    async with world.going():
        with pytest.raises(RemoteError) as caught:
            await world.begin()
        await asyncio.sleep(5_000.0)

    assert caught.value.code == reason
    assert world.social.paths == ["/oauth/external/authorize"]
    assert world.store.values == {}


# --- and back ---


async def test_the_code_is_redeemed_with_its_state_and_the_person_looked_up():
    """IRI-04, IRI-15: verified, because the server said so of the very token."""
    async with SocialWorld().going() as world:
        redeemed = await world.consented()

        serving = await world.grants.get(redeemed.grant.id, min_valid=None, wait=0.0)
    _, exchange, look_up = world.social.requests
    form = world.social.forms[1]
    assert form["state"] == world.social.forms[0]["state"]
    assert {"code", "code_verifier", "client_id"} <= form.keys()
    assert exchange.credential is None
    assert look_up.credential == AccessToken("at-1")
    assert (redeemed.grant.subject, redeemed.grant.subject_verified) == ("alice", True)
    assert serving.token.access_token == AccessToken("at-1")
    stored = world.store.grant(redeemed.grant.id)
    assert stored is not None
    assert stored.access is not None  # the next refresh takes it


async def test_a_provider_may_say_who_it_is():
    """RFC 9207: what comes back is the provider's, and so is its ``iss``."""
    async with SocialWorld().going() as world:
        for iss in ("https://accounts.google.com", "https://github.com/login/oauth", ISSUER.issuer):
            assert (await world.consented(iss=iss)).grant.subject == "alice"


@pytest.mark.parametrize(
    "iss", ["https://evil.example", "http://github.com", "https://github.com.evil.example", "github.com", ""]
)
async def test_nobody_else_answers(iss: str):
    """Only hosts that the configuration names, with https."""
    async with SocialWorld().going() as world:
        with pytest.raises(CheckFailedError) as caught:
            await world.consented(iss=iss)

    assert caught.value.check == "iss"
    assert world.social.paths == ["/oauth/external/authorize"]


async def test_an_empty_answer_to_the_code_is_a_failure_and_it_is_not_sent_again():
    """IRI-06: a failed PKCE check looks like that, and the code is spent."""
    world = SocialWorld()
    world.social.instead["/oauth/token"] = lambda: Response(status=200, headers={}, body=b"")
    async with world.going():
        with pytest.raises(RemoteError) as caught:
            await world.consented()
        await asyncio.sleep(5_000.0)

    assert caught.value.code == Reason.MALFORMED
    assert world.social.paths.count("/oauth/token") == 1


async def test_a_refused_code_is_told_by_its_registered_error():
    """IRI-09: nothing of the text."""
    world = SocialWorld()
    refusal = json_response({"error": "invalid authorization code: canary", "error_description": ""}, status=400)
    world.social.instead["/oauth/token"] = lambda: refusal
    async with world.going():
        with pytest.raises(RemoteError) as caught:
            await world.consented()

    assert caught.value.server_error == "invalid_grant"
    assert "canary" not in f"{world.events}{caught.value}{caught.value.hint}"


LOOK_UPS: list[tuple[Response | BrokerError, Reason]] = [
    (json_response({"code": "401", "message": "NOT AUTHORIZED"}, status=401), Reason.SERVER_REFUSED),
    (json_response({"data": {}}), Reason.USERINFO_INVALID),
    (Response(status=200, headers={}, body=b""), Reason.MALFORMED),
    (RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN), Reason.CONNECTION_LOST),
]


@pytest.mark.parametrize("refresh_token", ["rt", None])
@pytest.mark.parametrize(("answer", "reason"), LOOK_UPS)
async def test_a_look_up_that_fails_costs_the_grant(
    answer: Response | BrokerError, reason: Reason, refresh_token: str | None
):
    """R4: nobody knows whose it is; its access token is logged out, and nothing of it is left."""
    world = SocialWorld()
    world.social.members = {"refresh_token": refresh_token}
    world.social.instead["/identities"] = lambda: answer
    async with world.going():
        with pytest.raises(BrokerError) as caught:
            await world.consented()
        await asyncio.sleep(5_000.0)

        assert world.grants.one("person") is None
    assert caught.value.code == reason
    assert world.social.paths[1:] == ["/oauth/token", "/identities", "/applications/app-1/tokens"]
    assert world.social.good == set()
    assert not [name for name in world.store.values if name.startswith("grant/")]
    assert [event.reason for event in world.events.of(AuthorizationFailed)] == [reason]


async def test_a_logout_that_fails_is_tried_again_while_the_token_may_be_good():
    """After that there is nothing left to do, and nothing of it is left."""
    world = SocialWorld()
    world.social.instead["/identities"] = lambda: json_response({"data": {}})
    world.social.instead["/applications/app-1/tokens"] = lambda: json_response({}, status=500)
    async with world.going():
        with pytest.raises(CheckFailedError):
            await world.consented()
        await asyncio.sleep(5_000.0)

    assert 3 <= world.social.paths.count("/applications/app-1/tokens") <= 10
    assert not [name for name in world.store.values if name.startswith("grant/")]


async def test_the_same_person_renews_a_grant():
    """By the identifier of the look-up."""
    async with SocialWorld(specs=(ONE,)).going() as world:
        first = await world.consented()
        second = await world.consented()

    assert second.renewed
    assert second.grant.id == first.grant.id


async def test_another_person_does_not_renew_it():
    """R4: the grant is left as it was, and what the other gave is logged out."""
    async with SocialWorld(specs=(ONE,)).going() as world:
        first = await world.consented()
        world.social.person = "mallory"
        with pytest.raises(SubjectMismatchError):
            await world.consented()
        await asyncio.sleep(100.0)

        serving = await world.grants.get(first.grant.id, min_valid=None, wait=0.0)
        assert world.grants.one("person") == first.grant.id
    assert serving.token.access_token == AccessToken("at-1")
    assert world.social.good == {"at-1"}
    assert world.grants.grant(first.grant.id).subject == "alice"


async def test_where_nobody_is_looked_up_nobody_is_named():
    """The subject stays what it is without OpenID: unverified."""
    async with with_dialect(subject_from=SubjectFrom.ID_TOKEN).going() as world:
        redeemed = await world.consented()

    assert (redeemed.grant.subject, redeemed.grant.subject_verified) == (None, False)
    assert "/identities" not in world.social.paths


async def test_a_grant_that_was_consented_to_lives_on_and_is_logged_out():
    """From the login to the end, with each access token for the next."""
    world = SocialWorld()
    async with world.going():
        redeemed = await world.consented()
        assert await world.grants.revoke(redeemed.grant.id) == "revoked"

    assert world.social.good == set()
    assert [event.outcome for event in world.events.of(GrantRevoked)] == ["revoked"]
