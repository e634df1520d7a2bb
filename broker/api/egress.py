"""
Calls of APIs: who may make which, with whose token, and the one record of each (rules.md R6).

The policy and the allow list are asked before a token is obtained, and that before a connection is made. A reply
that is small is read to its end first, so that a caller gets either all of it or a clear error, and its record is
written before it leaves; a large one is passed on as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from broker.api import consent_problems, problems, waiting
from broker.api.answers import Answer, PassedAnswer
from broker.api.limits import account_of
from broker.api.passing import BY_BASE_URL, BY_GRANT, BY_NAME, Passage
from broker.api.problems import ErrorCode, Problem, ProblemError
from broker.api.serving import DEFAULT_WAIT
from broker.api.table import Call
from broker.api.world import World, permitted_call
from broker.errors import BrokerError, RemoteError
from broker.events import AuditUnavailableError, EgressCalled
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from broker.policy.rules import Denial
from broker.policy.upstreams import AllowRule, Upstream
from broker.tokens.calls import ApiCall, ApiReply, Body, Called, Egress, EndpointOfServerError
from broker.tokens.serving import ConsentRequiredError, GrantRequiredError, Serving
from broker.tokens.source import how_to_consent

SMALL = 65_536
"""Bytes of a reply that is read to its end before any of it is written."""

OK = "ok"
CLIENT_ERROR = "client_error"
SERVER_ERROR = "server_error"
CUT_OFF = "cut_off"
CALLER_LEFT = "caller_left"
"""Outcomes of a call, beside the reasons why there was no reply."""

RELOADS = 3
"""So many in a row may change what a call wants before it is given up."""

PASSED_ROUTES = (BY_NAME, BY_GRANT, BY_BASE_URL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call that may be made: of *upstream* by *rule*, with the token of *grant* or of no grant, for *workloads*."""

    upstream: Upstream
    rule: AllowRule
    grant: str | None
    workloads: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Account:
    """What is recorded of a call; it is recorded once."""

    world: World
    peer: Peer
    method: str
    order: Order
    began_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    serving: Serving | None = None
    status: int | None = None
    waited: float | None = None
    sent: int = 0
    received: int = 0
    is_closed: bool = False
    has_place: bool = False

    async def begin(self) -> None:
        """Take a place among the calls of this caller. Raises ProblemError."""
        upstream = self.order.upstream
        await self.world.shares.take(upstream.name, account_of(self.peer), upstream.connections)
        self.has_place = True

    def close(self, outcome: str) -> None:
        """Record the call, and give its place back. Raises AuditUnavailableError."""
        if self.has_place:
            self.has_place = False
            self.world.shares.give_back(self.order.upstream.name, account_of(self.peer))
        if self.is_closed:
            return
        self.is_closed = True
        token = None if self.serving is None else self.serving.token
        peer, upstream = self.peer, self.order.upstream
        self.world.emit(
            EgressCalled(
                listener=peer.listener,
                uid=peer.uid,
                gid=peer.gid,
                pid=peer.pid,
                workload=",".join(self.order.workloads),
                upstream=upstream.name,
                token=upstream.token,
                grant=self.order.grant,
                fingerprint=None if token is None else token.fingerprint,
                jti=None if token is None else token.jti,
                method=self.method,
                pattern=self.order.rule.template,
                status=self.status,
                outcome=outcome,
                waited=self.waited,
                duration=self._elapsed(),
                sent=self.sent,
                received=self.received,
            )
        )

    def replied(self, called: Called) -> None:
        """Take in the head of a reply."""
        self.serving, self.status, self.waited = called.serving, called.reply.status, self._elapsed()

    @property
    def outcome(self) -> str:
        """What a reply that came to its end amounts to."""
        status = self.status or 0
        return OK if status < 400 else CLIENT_ERROR if status < 500 else SERVER_ERROR

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self.began_at


@dataclass(frozen=True, slots=True)
class _CountedBody:
    """The body of a call, counted as it goes out."""

    body: Body
    account: _Account

    @property
    def length(self) -> int | None:
        return self.body.length

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self.body.pieces():
            self.account.sent += len(piece)
            yield piece


@dataclass(slots=True)
class _ReplyStream:
    """Implements ``answers.Stream`` over the body of a reply."""

    reply: ApiReply
    account: _Account

    async def read(self) -> bytes:
        """Give the next piece, none at the end; that is recorded before the last piece of a known length is written."""
        try:
            piece = await self.reply.body.read()
        except BrokerError:
            self.account.close(CUT_OFF)
            raise
        self.account.received += len(piece)
        if not piece or self.account.received == self.reply.length:
            self.account.close(self.account.outcome)
        return piece

    async def end(self, *, whole: bool) -> None:
        """Let go of the connection."""
        await self.reply.body.close()
        self.account.close(self.account.outcome if whole else CALLER_LEFT)


async def call_upstream(world: World, call: Call) -> Answer:
    """Make a call of an API for the caller, with a token that it does not get."""
    passage = call.passage
    if passage is None or world.egress is None:
        raise ProblemError(problems.ROUTE_UNKNOWN)
    order = _ordered(world, call, passage)
    if not world.takes_records():
        raise ProblemError(problems.AUDIT_UNAVAILABLE, token=order.upstream.token, workload=",".join(order.workloads))
    account = _Account(world=world, peer=call.peer, method=passage.method, order=order)
    try:
        await account.begin()
        account.order, account.serving = await _ready(world, call, passage, order)
        called = await _called(world.egress, call, passage, account)
        return await _answer(called.reply, account, passage)
    except ProblemError as error:
        _close(account, str(error.problem.reason))
        raise ProblemError(error.problem, token=order.upstream.token, is_recorded=True) from error
    except asyncio.CancelledError:
        _close(account, CALLER_LEFT)
        raise
    except Exception:
        _close(account, Reason.UNEXPECTED)  # the desk reports it
        raise


async def _ready(world: World, call: Call, passage: Passage, order: Order) -> tuple[Order, Serving]:
    """
    Obtain the token of *order*, and ask for the right again: a reload may have taken it, or given the API another
    token, while it was waited for. Raises ProblemError.
    """
    for _ in range(RELOADS):
        try:
            serving = await _token(world, call, order)
        except KeyError:  # it is not configured any more, or the grant is gone: the next line says so
            order = _ordered(world, call, passage)
            continue
        now = _ordered(world, call, passage)
        if (now.upstream.token, now.grant) == (order.upstream.token, order.grant):
            return now, serving
        order = now
    raise ProblemError(problems.DRAINING)


def _ordered(world: World, call: Call, passage: Passage) -> Order:
    """Ask policy and allow list. Raises ProblemError."""
    upstream = world.upstreams().get(passage.upstream)
    grant = passage.grant
    owner: str | None = None
    if grant is None and upstream is not None:
        grant = world.tokens.grant_of(upstream.token)
        owner = None if grant is None or world.grants is None else world.grants.grant(grant).owner
    elif upstream is not None:
        owner = _owner(world, grant or "", upstream)
    try:
        workloads = permitted_call(world, call, upstream, owner=owner)
    except ProblemError as error:
        if passage.grant is None or error.problem.reason != Denial.FOREIGN_GRANT:
            raise
        # As for a grant that there is not: nobody learns which ids there are.
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE, token=error.token, workload=error.workload) from None
    assert upstream is not None  # the policy allows no call of what is not configured
    if passage.grant is not None and owner is None:
        raise ProblemError(consent_problems.GRANT_NOT_VISIBLE, token=upstream.token, workload=",".join(workloads))
    rule = upstream.rule_for(passage.method, passage.path)
    if rule is None:
        hint = "the allow list of the upstream has neither this method with this path, nor a pattern for it"
        denied = problems.access_denied(Denial.CALL_NOT_ALLOWED, hint)
        raise ProblemError(denied, token=upstream.token, workload=",".join(workloads))
    return Order(upstream=upstream, rule=rule, grant=grant, workloads=workloads)


def _owner(world: World, grant_id: str, upstream: Upstream) -> str | None:
    """Give who started a grant of the upstream's token, None where there is no such grant."""
    try:
        grant = None if world.grants is None else world.grants.grant(grant_id)
    except KeyError:
        return None
    return grant.owner if grant is not None and grant.token == upstream.token else None


async def _token(world: World, call: Call, order: Order) -> Serving:
    """Obtain the token, waiting as who asks for it itself would. Raises ProblemError."""
    name, source = _source(world, order)
    try:
        with waiting.seat(world, call, DEFAULT_WAIT, source) as seat:
            return await waiting.get(seat, call, name)
    except ConsentRequiredError as error:
        hint = how_to_consent(order.upstream.token)
        raise ProblemError(consent_problems.consent_required(error.reason, hint)) from error
    except GrantRequiredError as error:
        hint = f"name one: /v1/grants/ID/egress/{order.upstream.name}/PATH; GET /v1/grants lists them"
        raise ProblemError(replace(consent_problems.GRANT_REQUIRED, hint=hint)) from error


def _source(world: World, order: Order) -> tuple[str, waiting.Source]:
    if order.grant is not None and world.grants is not None:
        return order.grant, world.grants
    return order.upstream.token, world.tokens


async def _called(egress: Egress, call: Call, passage: Passage, account: _Account) -> Called:
    """Make the call with the token in *account*. Raises ProblemError."""
    world, order, serving = account.world, account.order, account.serving
    assert serving is not None  # it was obtained before

    async def renew(etag: str) -> Serving:
        async def ask(wait: float) -> Serving:
            name, _ = _source(world, order)
            refresher = world.tokens if order.grant is None or world.grants is None else world.grants
            return await refresher.refresh(name, rejected=etag, wait=wait, begun=lambda: None)

        with waiting.seat(world, call, DEFAULT_WAIT) as seat:
            newer = await waiting.obtain(seat, order.upstream.token, ask)
        _ordered(world, call, passage)  # its right may be gone meanwhile
        return newer

    try:
        called = await egress.call(
            ApiCall(
                upstream=order.upstream,
                method=passage.method,
                path=passage.path,
                query=passage.query,
                fields=passage.fields,
                body=None if passage.body is None else _CountedBody(passage.body, account),
                serving=serving,
                renew=renew,
                grant=order.grant,
            )
        )
    except RemoteError as error:
        raise ProblemError(failed(error)) from error
    except ProblemError:
        raise  # the caller's body
    except EndpointOfServerError as error:
        hint = "it is an endpoint of the token's authorization server: those are the broker's alone"
        raise ProblemError(problems.access_denied(Denial.CALL_NOT_ALLOWED, hint)) from error
    except BrokerError as error:
        raise ProblemError(consent_problems.problem_of(error)) from error
    account.replied(called)
    return called


async def _answer(reply: ApiReply, account: _Account, passage: Passage) -> Answer:
    """
    Give the reply as an answer: whole where it is small, else as it comes. Raises ProblemError.

    One without a length is read first, too, for a caller that would take it for whole wherever it breaks off.
    """
    is_small = not passage.takes_chunks if reply.length is None else reply.length <= SMALL
    if not is_small and passage.method != "HEAD":
        return PassedAnswer(
            status=reply.status,
            fields=reply.fields,
            length=reply.length,
            stream=_ReplyStream(reply, account),
            body=b"",
            outcome=account.outcome,
        )
    body = await _whole(reply, account)
    try:
        account.close(account.outcome)
    except AuditUnavailableError as error:
        raise ProblemError(problems.UNRECORDED) from error
    return PassedAnswer(
        status=reply.status, fields=reply.fields, length=reply.length, body=body, outcome=account.outcome
    )


async def _whole(reply: ApiReply, account: _Account) -> bytes:
    """Read a small reply to its end. Raises ProblemError."""
    body = bytearray()
    try:
        while piece := await reply.body.read():
            body += piece
            account.received = len(body)
            if len(body) > SMALL:
                account.status = None
                raise ProblemError(problems.LENGTH_UNKNOWN)
    except RemoteError as error:
        account.status = None
        raise ProblemError(failed(error)) from error
    finally:
        await reply.body.close()
    return bytes(body)


def failed(error: RemoteError) -> Problem:
    """Say why there is no reply: 504 where the API is too slow, 502 for everything else."""
    late = error.code in {Reason.TIMED_OUT, Reason.PROXY_TIMED_OUT}
    return Problem(
        status=504 if late else 502,
        error=ErrorCode.UPSTREAM_TIMEOUT if late else ErrorCode.UPSTREAM_ERROR,
        description=error.message,
        reason=str(error.code),
        hint=None if error.code == Reason.ENDPOINT_REFUSED else error.hint,
        more=(("reason", str(error.code)),),
    )


def _close(account: _Account, outcome: str) -> None:
    """Record a call that had no reply; a gap in the log is told by the log itself, and changes no refusal."""
    try:
        account.close(outcome)
    except AuditUnavailableError:
        return
