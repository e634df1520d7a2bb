"""Who gets a proof, for what, and that it is recorded before it leaves."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.api.dpop import REQUEST, make_proof
from broker.api.problems import Problem, ProblemError, RefusalReason
from broker.api.table import Call
from broker.api.world import World
from broker.errors import BrokerError, LocalError, Outcome, RemoteError
from broker.events import AuditUnavailableError, Event, ProofServed, TokenServed
from broker.oauth.dpop import is_canonical
from broker.oauth.secret import DpopProof
from broker.policy.peer import Peer
from broker.policy.rules import Action, Denial, Policy
from broker.tokens.proving import MadeProof, ProofRefusedError
from broker.tokens.spec import IssuedToken
from tests.fakes import Events
from tests.unit.api.handlers import APP, LOOKING, OTHER, PEER, STRANGER, UNKNOWN, world
from tests.unit.api.people import APP as PEOPLE_APP
from tests.unit.api.people import api
from tests.unit.api.world import FakeTokens, serving, unavailable

URL = "https://api.example/v1/accounts"


@dataclass
class FakeProving:
    """Proves everything, or raises what it was told to."""

    refusal: BrokerError | None = None
    failure: BrokerError | None = None
    checked: list[tuple[str, str, str | None]] = field(default_factory=list)
    proved: list[tuple[str, str, str, str | None]] = field(default_factory=list)

    async def check(self, token: str, url: str, *, nonce: str | None) -> None:
        self.checked.append((token, url, nonce))
        if self.refusal is not None:
            raise self.refusal

    async def prove(self, token: str, issued: IssuedToken, *, method: str, url: str, nonce: str | None) -> MadeProof:
        if self.failure is not None:
            raise self.failure
        self.proved.append((token, method, url, nonce))
        return MadeProof(proof=DpopProof(f"proof-for-{issued.access_token.reveal()}"), jti="the-jti")


def proving_world(proving: FakeProving | None = None, *, emit: Any = None, tokens: FakeTokens | None = None) -> World:
    bound = serving(token_type="DPoP", binding="dpop", jkt="a-key")
    made = world(tokens or FakeTokens({"directory": bound, "ledger": bound}), emit=emit)
    may = replace(APP, may=frozenset({Action.GET, Action.DPOP}))
    made.policy = Policy(workloads=(may, OTHER, LOOKING), own_uid=900)
    made.proving = proving or FakeProving()  # type: ignore[assignment]
    made.resources = lambda token: ("https://api.example/v1",) if token == "directory" else ()
    return made


def asking(peer: Peer = PEER, **changes: Any) -> Call:
    members = {"token": "directory", "htm": "GET", "htu": URL} | changes
    return Call(peer=peer, body={name: value for name, value in members.items() if value is not None})


async def refused(call: Call, here: World | None = None) -> Problem:
    with pytest.raises(ProblemError) as caught:
        await make_proof(here or proving_world(), call)
    return caught.value.problem


async def test_a_token_comes_with_a_proof_for_it():
    """Of the very token that is handed out, and for no more than was asked for."""
    proving = FakeProving()

    answer = await make_proof(proving_world(proving), asking(htm="DELETE", nonce="n-1"))

    assert json.loads(answer.body) == {
        "access_token": "the-access-token",
        "token_type": "DPoP",
        "proof": "proof-for-the-access-token",
        "expires_in": 299,
    }
    assert proving.checked == [("directory", URL, "n-1")]
    assert proving.proved == [("directory", "DELETE", URL, "n-1")]


async def test_a_proof_is_recorded_before_it_leaves():
    """With who got it, for which method and server; the path may tell whose account it is, and is not told."""
    events = Events()

    await make_proof(proving_world(emit=events), asking())

    assert events.seen == [
        ProofServed(
            listener="api",
            uid=1000,
            gid=1000,
            pid=12,
            workload="app",
            token="directory",
            fingerprint="a-fingerprint",
            generation=7,
            stale=False,
            method="GET",
            origin="https://api.example",
            jti="the-jti",
        )
    ]


async def test_without_its_record_a_proof_does_not_leave():
    """Default of rules.md R9, as for tokens."""

    def full(event: Event) -> None:
        if isinstance(event, TokenServed):
            raise AuditUnavailableError

    problem = await refused(asking(), proving_world(emit=full))

    assert (problem.status, problem.reason) == (503, RefusalReason.AUDIT_UNAVAILABLE)


@pytest.mark.parametrize(
    "changes",
    [
        {"htm": ""},
        {"htm": "GET /"},
        {"htm": "A" * 33},
        {"htu": "http:/x"},
        {"htu": "https://api.example/v1/accounts?x=1"},
        {"htu": "https://api.example/v1/accounts#x"},
        {"htu": "https://API.example/v1/accounts"},
        {"htu": "https://api.example:443/v1/accounts"},
        {"htu": "https://me@api.example/v1/accounts"},
        {"htu": "https://api.example/v1/../admin"},
        {"htu": "https://api.example/v1/%2e%2e/admin"},
        {"htu": "https://api.example/v1/..%2fadmin"},
        {"htu": "https://api.example/v1/..;/admin"},
        {"nonce": ""},
        {"nonce": 'a"b'},
        {"nonce": "a b"},
    ],
)
async def test_what_cannot_be_proved_is_malformed(changes: dict[str, Any]):
    """Also a URL that one server reads as one thing and another as something else."""
    proving = FakeProving()

    problem = await refused(asking(**changes), proving_world(proving))

    assert (problem.status, problem.reason) == (400, RefusalReason.BODY_REFUSED)
    assert proving.checked == []


@pytest.mark.parametrize(
    ("token", "url"),
    [
        ("directory", "https://api.example/v11"),
        ("directory", "https://api.example/"),
        ("directory", "https://elsewhere.example/v1"),
        ("directory", "https://api.example:8443/v1"),
        ("directory", "http://api.example/v1"),
        ("ledger", URL),
    ],
)
async def test_a_url_that_the_token_is_not_for_is_refused(token: str, url: str):
    """Before anything is fetched; the hint says what it is for, or how that is written."""
    tokens = FakeTokens({"directory": serving(), "ledger": serving()})

    problem = await refused(asking(token=token, htu=url), proving_world(tokens=tokens))

    assert (problem.status, problem.error, problem.reason) == (403, "access_denied", RefusalReason.RESOURCE_REFUSED)
    assert ("https://api.example/v1" if token == "directory" else "dpop_resources") in str(problem.hint)
    assert tokens.asked == []


@pytest.mark.parametrize(
    ("proving", "status", "reason"),
    [
        (FakeProving(refusal=ProofRefusedError("not_dpop", "x")), 400, RefusalReason.NOT_DPOP),
        (FakeProving(refusal=ProofRefusedError("nonce_unknown", "x")), 400, RefusalReason.NONCE_UNKNOWN),
        (FakeProving(refusal=ProofRefusedError("endpoint_of_server", "x")), 403, RefusalReason.RESOURCE_REFUSED),
        (FakeProving(refusal=RemoteError("x", "x", outcome=Outcome.NOT_SENT)), 503, RefusalReason.NO_PROOF),
        (FakeProving(failure=LocalError("signing_failed", "x")), 503, RefusalReason.NO_PROOF),
        (FakeProving(failure=ProofRefusedError("not_dpop", "x")), 400, RefusalReason.NOT_DPOP),
    ],
)
async def test_why_there_is_no_proof_is_told(proving: FakeProving, status: int, reason: str):
    """And nothing leaves without one, no token either."""
    events = Events()

    problem = await refused(asking(), proving_world(proving, emit=events))

    assert (problem.status, problem.reason) == (status, reason)
    assert events.seen == []


async def test_where_nothing_is_bound_by_dpop_there_is_no_proof():
    """Whatever the configuration says about resources."""
    here = proving_world()
    here.proving = None

    assert (await refused(asking(), here)).reason == RefusalReason.NOT_DPOP


async def test_a_token_that_is_not_there_is_told_as_ever():
    """The same answer as at ``GET /v1/tokens/{name}``."""
    problem = await refused(asking(), proving_world(tokens=FakeTokens({"directory": unavailable()})))

    assert (problem.status, problem.reason) == (503, "connect_failed")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (asking(token="payments"), Denial.NOT_GRANTED),
        (asking(token="nothing"), Denial.UNKNOWN_TOKEN),
        (asking(Peer(listener="api", uid=3000, gid=3000)), Denial.ACTION_NOT_GRANTED),
        (asking(STRANGER), Denial.NO_WORKLOAD),
        (asking(UNKNOWN), Denial.NO_WORKLOAD),
    ],
)
async def test_who_may_not_gets_nothing(call: Call, reason: str):
    """``dpop`` has to be in ``may``; others are told nothing about the token."""
    here = proving_world(tokens=FakeTokens({"directory": serving(), "payments": serving()}))
    problem = await refused(call, here)

    assert (problem.status, problem.reason) == (403, reason)


async def test_a_grant_that_is_not_visible_has_no_proof():
    """Alike for one that does not exist, and where nobody consents to anything."""
    problem = await refused(asking(token=None, grant="g1"))

    assert (problem.status, problem.reason) == (404, RefusalReason.GRANT_NOT_VISIBLE)


async def test_a_grant_is_named_by_its_id():
    """It needs ``dpop``, and to be open to the caller; the token is the grant's."""
    proving = FakeProving()
    async with api() as through:
        grant = await through.consent(token="people")
        through.world.proving = proving  # type: ignore[assignment]
        through.world.resources = lambda _token: ("https://api.example/v1",)
        wanted = {"grant": grant, "htm": "GET", "htu": URL}

        denied = await through.send("POST", "/v1/dpop", wanted)
        may = replace(PEOPLE_APP, may=frozenset({Action.DPOP}))
        through.world.replace_policy(Policy(workloads=(may,), own_uid=900))
        answer = await through.send("POST", "/v1/dpop", wanted)
        nameless = await through.send("POST", "/v1/dpop", {"token": "people", "htm": "GET", "htu": URL})
        await through.send("POST", "/v1/dpop", wanted, peer=replace(PEER, uid=5000))

        assert (denied.status, answer.status, nameless.status) == (403, 200, 400)
        assert proving.proved == [("people", "GET", URL, None)]
        (served,) = through.consents.events.of(ProofServed)
        assert (served.token, served.grant) == ("people", grant)


@pytest.mark.parametrize("url", [URL, "https://api.example/", "https://a.b.example:8443/x/.y/z..", "https://x:80/"])
def test_what_the_document_says_of_a_url_is_taken(url: str):
    """More is, such as what is percent-encoded; nothing that the pattern admits is refused."""
    assert re.fullmatch(REQUEST.patterns["htu"], url)
    assert is_canonical(url)


@given(st.from_regex(REQUEST.patterns["htu"], fullmatch=True))
def test_no_url_of_the_documented_pattern_is_refused(url: str):
    """A caller that holds to the document is not told that its request is malformed."""
    assert is_canonical(url)
