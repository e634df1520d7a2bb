"""Calls of APIs at the desk: who may make which, what of a reply is an answer, and the one record of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from broker.api import egress, problems
from broker.api.answers import PassedAnswer
from broker.api.egress import SMALL, call_upstream
from broker.api.passing import BY_NAME, Passage
from broker.api.problems import ProblemError, RefusalReason
from broker.api.shares import share_of
from broker.api.table import Call
from broker.api.world import World
from broker.errors import LocalError, Outcome, RemoteError
from broker.events import AuditUnavailableError, EgressCalled, Event
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from broker.policy.rules import Action, Denial, Policy, Workload
from broker.policy.upstreams import Upstream, read_rule
from broker.tokens.calls import ApiCall, ApiReply, Called, EndpointOfServerError
from tests.fakes import Events
from tests.unit.api.handlers import PEER, STRANGER, world
from tests.unit.api.world import FakeTokens, serving, unavailable

CALLER = Workload(
    name="app", uids=frozenset({1000}), upstreams=frozenset({"api", "other"}), may=frozenset({Action.EGRESS})
)
API = Upstream(
    name="api",
    base_url="https://api.example",
    token="directory",
    allow=(read_rule("GET /accounts/*"), read_rule("POST /accounts")),
    connections=4,
)


@dataclass
class FakeBody:
    pieces: list[bytes | Exception]
    closed: int = 0

    async def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece

    async def close(self) -> None:
        self.closed += 1


@dataclass
class FakeEgress:
    """Replies with *pieces*, or raises."""

    pieces: tuple[bytes | Exception, ...] = (b"hello",)
    status: int = 200
    length: int | None = 5
    raises: Exception | None = None
    calls: list[ApiCall] = field(default_factory=list)
    bodies: list[FakeBody] = field(default_factory=list)
    then: Callable[[], None] = lambda: None

    async def call(self, call: ApiCall) -> Called:
        self.calls.append(call)
        if call.body is not None:
            _ = [piece async for piece in call.body.pieces()]
        if self.raises is not None:
            raise self.raises
        body = FakeBody(list(self.pieces))
        self.bodies.append(body)
        reply = ApiReply(status=self.status, fields=(("X", "1"),), length=self.length, body=body)
        return Called(reply=reply, serving=call.serving)


class Body:
    length: int | None = 6

    async def pieces(self) -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"def"


def place(fake: FakeEgress, *, emit: Any = None, tokens: FakeTokens | None = None, **changes: Any) -> World:
    made = world(tokens, emit=emit)
    made.policy = Policy(workloads=(CALLER,), own_uid=900)
    made.egress = fake
    made.upstreams = lambda: {"api": API}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def asked(method: str = "GET", path: str = "/accounts/1", peer: Peer = PEER, **changes: Any) -> Call:
    passage = Passage(route=BY_NAME, upstream="api", method=method, path=path, query="q=1", fields=(("A", "b"),))
    return Call(peer=peer, name="api", passage=replace(passage, **changes))


def records(of: World) -> list[EgressCalled]:
    assert isinstance(of.emit, Events)
    return of.emit.of(EgressCalled)


async def refusal(of: World, call: Call) -> ProblemError:
    with pytest.raises(ProblemError) as raised:
        await call_upstream(of, call)
    return raised.value


async def drained(answer: Any) -> bytes:
    assert isinstance(answer, PassedAnswer)
    if answer.stream is None:
        return answer.body
    body = b""
    while piece := await answer.stream.read():
        body += piece
    await answer.stream.end(whole=True)
    return body


async def test_a_small_reply_is_whole_and_recorded_before_it_leaves():
    """With the pattern that allowed it; its caller gets no token."""
    of = place(FakeEgress())

    answer = await call_upstream(of, asked())

    assert isinstance(answer, PassedAnswer)
    assert (answer.status, answer.body, answer.fields, answer.stream) == (200, b"hello", (("X", "1"),), None)
    (record,) = records(of)
    assert (record.method, record.pattern, record.status, record.outcome) == ("GET", "/accounts/*", 200, "ok")
    assert (record.upstream, record.token, record.workload, record.received) == ("api", "directory", "app", 5)
    assert record.fingerprint == "a-fingerprint"


@pytest.mark.parametrize("length", [SMALL + 1, None])
async def test_a_large_reply_is_passed_on_as_it_comes(length: int | None):
    """Its record comes with its end."""
    pieces = (b"x" * SMALL, b"y")
    of = place(FakeEgress(pieces=pieces, length=length))

    answer = await call_upstream(of, asked())
    before = len(records(of))
    body = await drained(answer)

    assert before == 0
    assert body == b"".join(pieces)
    assert [(record.received, record.outcome) for record in records(of)] == [(SMALL + 1, "ok")]


@pytest.mark.parametrize(("status", "outcome"), [(302, "ok"), (404, "client_error"), (503, "server_error")])
async def test_what_an_api_says_is_passed_on_whatever_it_is(status: int, outcome: str):
    """It is the caller's."""
    of = place(FakeEgress(status=status))

    answer = await call_upstream(of, asked())

    assert (answer.status, answer.outcome, records(of)[0].outcome) == (status, outcome, outcome)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (asked(peer=STRANGER), Denial.NO_WORKLOAD),
        (asked(upstream="another"), Denial.UNKNOWN_UPSTREAM),
        (asked("DELETE"), Denial.CALL_NOT_ALLOWED),
        (asked(path="/accounts"), Denial.CALL_NOT_ALLOWED),
        (asked(path="/admin"), Denial.CALL_NOT_ALLOWED),
    ],
)
async def test_what_is_not_allowed_gets_no_token_and_no_connection(call: Call, reason: Denial):
    """It is recorded as a refusal, and as no call."""
    fake, tokens = FakeEgress(), FakeTokens()
    of = place(fake, tokens=tokens)

    refused = await refusal(of, call)

    assert (refused.problem.status, refused.problem.reason) == (403, reason)
    assert not refused.is_recorded
    assert (fake.calls, tokens.asked, records(of)) == ([], [], [])


async def test_without_grants_nobody_has_one():
    """A grant that there is not is not told from one of somebody else."""
    refused = await refusal(place(FakeEgress()), asked(grant="g"))

    assert (refused.problem.status, refused.problem.reason) == (404, RefusalReason.GRANT_NOT_VISIBLE)


@pytest.mark.parametrize(
    ("raises", "status", "reason"),
    [
        (RemoteError(Reason.CONNECT_FAILED, "no", outcome=Outcome.NOT_SENT), 502, "connect_failed"),
        (RemoteError(Reason.TIMED_OUT, "late", outcome=Outcome.UNKNOWN), 504, "timed_out"),
        (ProblemError(problems.TOO_SLOW), 408, "too_slow"),
        (LocalError("certificate_gone", "it is"), 503, "certificate_gone"),
        (EndpointOfServerError(), 403, "call_not_allowed"),
    ],
)
async def test_a_call_without_a_reply_is_recorded_with_the_reason(raises: Exception, status: int, reason: str):
    """Once, and its place is free again."""
    of = place(FakeEgress(raises=raises))

    refused = await refusal(of, asked("POST", "/accounts", body=Body()))

    assert (refused.problem.status, refused.is_recorded) == (status, True)
    (record,) = records(of)
    assert (record.outcome, record.status, record.sent) == (reason, None, 6)
    assert of.shares._taken == {}


async def test_a_missing_token_is_told_as_to_who_asks_for_it():
    """And nothing is called."""
    fake = FakeEgress()
    of = place(fake, tokens=FakeTokens(answers={"directory": unavailable()}))

    refused = await refusal(of, asked())

    assert (refused.problem.status, fake.calls) == (503, [])
    assert records(of)[0].outcome == "connect_failed"


async def test_a_small_reply_that_breaks_off_is_a_clear_error():
    """Its caller has seen nothing of it yet."""
    of = place(FakeEgress(pieces=(b"he", RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN))))

    refused = await refusal(of, asked())

    assert refused.problem.status == 502
    assert records(of)[0].outcome == "connection_lost"


async def test_a_large_reply_that_breaks_off_is_recorded_as_that():
    """Its caller has seen a part of it."""
    error = RemoteError(Reason.CONNECTION_LOST, "lost", outcome=Outcome.UNKNOWN)
    of = place(FakeEgress(pieces=(b"x", error), length=SMALL + 1))
    answer = await call_upstream(of, asked())

    with pytest.raises(RemoteError):
        await drained(answer)

    assert [record.outcome for record in records(of)] == ["cut_off"]


async def test_a_caller_that_leaves_is_recorded_as_that():
    """The connection is let go."""
    fake = FakeEgress(pieces=(b"x", b"y"), length=SMALL + 1)
    of = place(fake)
    answer = await call_upstream(of, asked())
    assert isinstance(answer, PassedAnswer)
    assert answer.stream is not None
    await answer.stream.read()

    await answer.stream.end(whole=False)

    assert [record.outcome for record in records(of)] == ["caller_left"]
    assert fake.bodies[0].closed == 1
    assert of.shares._taken == {}


async def test_nothing_is_called_while_it_could_not_be_recorded():
    """As for tokens (rules.md R9)."""
    fake = FakeEgress()
    refused = await refusal(place(fake, takes_records=lambda: False), asked())

    assert (refused.problem, fake.calls) == (problems.AUDIT_UNAVAILABLE, [])


async def test_a_reply_whose_record_fails_stays():
    """The call was made, and its caller is not told what came of it."""

    def emit(event: Event) -> None:
        if isinstance(event, EgressCalled):
            raise AuditUnavailableError

    refused = await refusal(place(FakeEgress(), emit=emit), asked())

    assert refused.problem is problems.UNRECORDED
    assert refused.problem.headers == (), "who obeyed a Retry-After would have it made twice"


async def test_a_right_that_goes_while_the_token_is_waited_for_is_gone():
    """The policy is asked again."""
    tokens = FakeTokens()
    fake = FakeEgress()
    of = place(fake, tokens=tokens)
    get = tokens.get

    async def slow(name: str, *, min_valid: float | None, wait: float) -> Any:
        of.replace_policy(Policy(workloads=(), own_uid=900))
        return await get(name, min_valid=min_valid, wait=wait)

    tokens.get = slow  # type: ignore[method-assign]
    refused = await refusal(of, asked())

    assert (refused.problem.status, fake.calls) == (403, [])


async def test_an_api_that_gets_another_token_meanwhile_is_called_with_that():
    """The one that was waited for is not sent to where it does not belong."""
    tokens = FakeTokens(answers={"directory": serving(), "ledger": serving(etag="of-the-ledger")})
    fake = FakeEgress()
    of = place(fake, tokens=tokens)
    get = tokens.get

    async def slow(name: str, *, min_valid: float | None, wait: float) -> Any:
        of.upstreams = lambda: {"api": replace(API, token="ledger", base_url="https://new.example")}
        return await get(name, min_valid=min_valid, wait=wait)

    tokens.get = slow  # type: ignore[method-assign]
    await call_upstream(of, asked())

    (made,) = fake.calls
    assert (made.upstream.base_url, made.serving.token.etag) == ("https://new.example", "of-the-ledger")
    assert records(of)[0].token == "ledger"


async def test_a_right_that_goes_while_a_refused_token_is_replaced_is_gone():
    """The caller gets the refusal of the API instead."""
    fake = FakeEgress()
    of = place(fake)
    await call_upstream(of, asked())
    of.policy = Policy(workloads=(), own_uid=900)

    with pytest.raises(ProblemError):
        await fake.calls[0].renew("an-etag")


async def test_a_token_that_an_api_refuses_is_fetched_anew_for_it():
    """As who asks for it itself would; the ETag says which."""
    tokens = FakeTokens()
    fake = FakeEgress()
    of = place(fake, tokens=tokens)
    await call_upstream(of, asked())

    newer = await fake.calls[0].renew("an-etag")

    assert newer == serving()
    assert [(name, rejected) for name, rejected, _ in tokens.forced] == [("directory", "an-etag")]


async def test_a_bug_costs_its_call_and_no_place():
    """The desk reports it."""
    of = place(FakeEgress(raises=ZeroDivisionError()))

    for _ in range(share_of(API.connections) + 1):
        with pytest.raises(ZeroDivisionError):
            await call_upstream(of, asked())

    assert {record.outcome for record in records(of)} == {"unexpected"}


def test_the_routes_of_calls_are_metrics_labels():
    """All of them are announced."""
    assert BY_NAME in egress.PASSED_ROUTES
