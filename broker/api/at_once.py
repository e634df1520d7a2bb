"""
A token that is in hand, for all connections of one caller that ask for it in words that were read before.

The same policy and the same token source as in ``serving``, without a wait and without a task. Nothing is remembered
of a decision but what it was made of: the policy in force, the grant and its owner are compared each time, and
whatever is not as it was is decided anew. What is not this plain case is left, before anything of it has happened, to
the ordinary way: every refusal, every wait, every token that needs a look first.

It looks once in a turn of the loop, in which nothing else runs: for however many connections that ask in this turn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from broker.api.answers import NOT_MODIFIED, OK, Answer
from broker.api.problems import ProblemError
from broker.api.serving import etag_header, token_answer
from broker.api.table import Act, Call, Offer
from broker.api.wire import Writer, head_around_date
from broker.api.world import Permission, World, permitted
from broker.events import TokenServed
from broker.policy.rules import Action, Policy
from broker.tokens.serving import Serving
from broker.tokens.spec import IssuedToken


def token_at_once(world: World, call: Call, writer: Writer) -> Act | None:
    """Make what answers *call*, whichever process it comes from; None for one that asks to wait for news."""
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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class _Written:
    """What answers and records have in common as long as a token, its staleness and the permission stay the same."""

    token: IssuedToken
    stale: bool
    permission: Permission
    record: TokenServed
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
    """Answers one request of one caller, as often as it comes."""

    __slots__ = (
        "_call",
        "_grounds",
        "_min_valid",
        "_moment",
        "_name",
        "_offer",
        "_turn",
        "_world",
        "_writer",
        "_written",
    )

    def __init__(self, world: World, call: Call, writer: Writer) -> None:
        self._world = world
        self._call = call
        self._writer = writer
        self._name = call.name
        min_valid = call.query.get("min_valid")
        self._min_valid = None if min_valid is None else float(min_valid)
        self._grounds: _Grounds | None = None
        self._written: _Written | None = None
        self._moment: tuple[bytes, bytes] | None = None
        self._offer: Offer | None = None
        self._turn = -1

    def __call__(self, turn: int) -> Offer | None:
        """Give the answer: see ``table.Act``."""
        if turn != self._turn:
            self._offer = self._look()
            self._turn = turn
        return self._offer

    def _look(self) -> Offer | None:
        """Look at everything that an answer depends on; what was written for the same second is not written again."""
        world = self._world
        permission = self._permission()
        if permission is None or world.waiting.closed:
            return None
        serving = world.tokens.at_once(self._name, min_valid=self._min_valid)
        if serving is None:
            return None
        known = self._call.known
        if known is not None and known.has(serving.token.etag):
            written, last = self._writer.answer(_not_modified(serving))
            return Offer(written=written, last=last, outcome=NOT_MODIFIED.outcome)
        moment = _seconds(serving), self._writer.dates.now()
        common, offer = self._written, self._offer
        if common is None or not common.fits(serving, permission, moment[0]):
            common = self._written = self._write(serving, permission, moment[0])
        if offer is None or offer.record is not common.record or moment != self._moment:
            self._moment = moment
            offer = Offer(written=common.answer(*moment), last=self._writer.last, outcome=OK, record=common.record)
        return offer

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
        """Prepare the answers of a token, by what writes them on the ordinary way."""
        plain_text = self._call.plain_text
        answer = token_answer(serving, plain_text=plain_text)
        before_date, after_date = head_around_date(answer, last=self._writer.last)
        before, _, after = (b"", b"", answer.body) if plain_text else answer.body.partition(seconds)
        return _Written(
            token=serving.token,
            stale=serving.stale,
            permission=permission,
            record=self._record(serving, permission),
            before_date=before_date,
            after_date=after_date,
            before_seconds=before,
            after_seconds=after,
            digits=None if plain_text else len(seconds),
        )

    def _record(self, serving: Serving, permission: Permission) -> TokenServed:
        """Make the record; whose pid goes there is known when it is answered."""
        peer = self._call.peer
        return TokenServed(
            listener=peer.listener,
            uid=peer.uid,
            gid=peer.gid,
            pid=None,
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
