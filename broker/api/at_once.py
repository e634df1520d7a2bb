"""
A token that is in hand, for one connection that asks for it in words that were read before.

The same policy, the same token source and the same record as in ``serving``, without a wait and without a task.
Nothing is remembered of a decision but what it was made of: the policy in force, the grant and its owner are
compared each time, and whatever is not as it was is decided anew. What is not this plain case is left, before
anything of it has happened, to the ordinary way: every refusal but that of the audit log, every wait, every token
that needs a look first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.api import problems
from broker.api.answers import NOT_MODIFIED, OK, Answer
from broker.api.problems import ProblemError
from broker.api.serving import etag_header, token_answer
from broker.api.table import Act, Call, InTime
from broker.api.wire import Writer, head_around_date
from broker.api.world import Permission, World, permitted
from broker.events import AuditUnavailableError, TokenServed
from broker.policy.rules import Action, Policy
from broker.tokens.serving import Serving
from broker.tokens.spec import IssuedToken


def token_at_once(world: World, call: Call, writer: Writer) -> Act | None:
    """Make what answers *call* as often as it comes; None for one that asks to wait for news."""
    if call.known is not None and call.query.get("wait"):
        return None
    return _TokenAtOnce(world, call, writer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grounds:
    """A permission, and all that it was given for."""

    policy: Policy
    grant: str | None
    owner: str | None
    permission: Permission


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class _Written:
    """What answers and records have in common as long as a token, its staleness and the permission stay the same."""

    token: IssuedToken
    stale: bool
    permission: Permission
    event: TokenServed
    before_date: bytes
    after_date: bytes
    before_seconds: bytes
    after_seconds: bytes
    digits: int | None

    def answer(self, seconds: bytes, date: bytes) -> bytes:
        """Write the answer of now; a bare token says nothing of its time."""
        if self.digits is None:
            return b"".join((self.before_date, date, self.after_date, self.after_seconds))
        return b"".join((self.before_date, date, self.after_date, self.before_seconds, seconds, self.after_seconds))

    def fits(self, serving: Serving, permission: Permission, seconds: bytes) -> bool:
        """Say whether only the time differs; the length of the body depends on how many digits it has."""
        return (
            self.token is serving.token
            and self.stale is serving.stale
            and self.permission is permission
            and (self.digits is None or self.digits == len(seconds))
        )


class _TokenAtOnce:
    """Answers one request of one connection, as often as it comes."""

    __slots__ = ("_call", "_dates", "_grounds", "_last", "_min_valid", "_name", "_world", "_writer", "_written")

    def __init__(self, world: World, call: Call, writer: Writer) -> None:
        self._world = world
        self._call = call
        self._writer = writer
        self._dates, self._last = writer.dates, writer.last
        self._name = call.name
        min_valid = call.query.get("min_valid")
        self._min_valid = None if min_valid is None else float(min_valid)
        self._grounds: _Grounds | None = None
        self._written: _Written | None = None

    def __call__(self, in_time: InTime, now: float) -> tuple[bytes, bool, str] | None:
        """
        Give the answer in bytes, whether the connection ends with it, and its outcome.

        None, and nothing has happened, where the ordinary way has to be gone. Raises ProblemError where the token
        cannot be recorded.
        """
        world = self._world
        permission = self._permission()
        if permission is None or world.waiting.closed:
            return None
        serving = world.tokens.at_once(self._name, min_valid=self._min_valid)
        if serving is None or not in_time(now):
            return None
        known = self._call.known
        if known is not None and known.has(serving.token.etag):
            return *self._writer.answer(_not_modified(serving)), NOT_MODIFIED.outcome
        seconds = _seconds(serving)
        written = self._written
        if written is None or not written.fits(serving, permission, seconds):
            written = self._written = self._write(serving, permission, seconds)
        try:
            world.emit(written.event)
        except AuditUnavailableError as error:
            raise ProblemError(
                problems.AUDIT_UNAVAILABLE, token=permission.token, workload=permission.workload
            ) from error
        return written.answer(seconds, self._dates.now()), self._last, OK

    def _permission(self) -> Permission | None:
        """Give the permission by what is so now; None where there is none."""
        world, name, grounds = self._world, self._name, self._grounds
        grant = world.tokens.grant_of(name)
        owner = None if grant is None or world.grants is None else world.grants.grant(grant).owner
        if grounds is None or grounds.policy is not world.policy or grounds.grant != grant or grounds.owner != owner:
            policy = world.policy
            try:
                permission = permitted(world, self._call, Action.GET)
            except ProblemError:
                return None
            grounds = self._grounds = _Grounds(policy=policy, grant=grant, owner=owner, permission=permission)
        return grounds.permission

    def _write(self, serving: Serving, permission: Permission, seconds: bytes) -> _Written:
        """Prepare the record and the answers of a token, by what writes them on the ordinary way."""
        plain_text = self._call.plain_text
        answer = token_answer(serving, plain_text=plain_text)
        before_date, after_date = head_around_date(answer, last=self._last)
        before, _, after = (b"", b"", answer.body) if plain_text else answer.body.partition(seconds)
        return _Written(
            token=serving.token,
            stale=serving.stale,
            permission=permission,
            event=self._event(serving, permission),
            before_date=before_date,
            after_date=after_date,
            before_seconds=before,
            after_seconds=after,
            digits=None if plain_text else len(seconds),
        )

    def _event(self, serving: Serving, permission: Permission) -> TokenServed:
        peer = self._call.peer
        return TokenServed(
            listener=peer.listener,
            uid=peer.uid,
            gid=peer.gid,
            pid=peer.pid,
            workload=permission.workload,
            token=permission.token,
            fingerprint=serving.token.fingerprint,
            generation=serving.token.generation,
            stale=serving.stale,
            grant=permission.grant,
        )


def _not_modified(serving: Serving) -> Answer:
    return replace(NOT_MODIFIED, headers=etag_header(serving))


def _seconds(serving: Serving) -> bytes:
    """Write the two members that time changes; quotes of a string in JSON are escaped, so this stands there once."""
    return b'"expires_in":%d,"expires_at":%d' % (serving.expires_in, serving.expires_at)
