"""
With which generation of a client's certificate and key a grant is refreshed (rules.md R8, R2.6).

When a client gets a new one, a single grant tries it first; the others go on with the older one until that has
succeeded, as long as its certificate is valid. The older ones are kept until every grant has moved: a refusal is
confirmed with what a grant last succeeded with. Whatever else is edited takes effect for all of them, and ends nothing:
what an older one keeps is its certificate and key. This module starts nothing and knows no states of grants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from broker.oauth.client import SenderConstraint
from broker.tokens.acquire import Registration
from broker.tokens.grant import Grant
from broker.tokens.ports import Clock

FIRST_PAUSE = 60.0
LAST_PAUSE = 900.0
"""Seconds between two trials: soon at first, because a directory may need a moment, and not every minute for days."""


Shown = tuple[str | None, str | None]
"""The thumbprints of certificate and key with which a grant last succeeded, as its record has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a client shows: ``x5t#S256`` of its certificate and the thumbprint of its signing key, if it has them."""

    thumbprint: str | None
    key_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """
    With which *registration* to ask; *on_trial* when nobody knows whether the server takes it.

    *confirms*: it is an older one, which is asked because the newer one was refused.
    """

    registration: Registration
    on_trial: bool = False
    confirms: bool = False


@dataclass(slots=True, kw_only=True)
class _Line:
    """
    The generations of one client.

    *settled* is what grants are refreshed with, *trial* a newer one or None; *grant* tries it, if one does, and
    the next one not before *due_at*. *earlier* are older ones, the newest first.
    """

    settled: Registration
    trial: Registration | None = None
    grant: str | None = None
    due_at: float = 0.0
    failures: int = 0
    earlier: list[Registration] = field(default_factory=list)


def identity_of(registration: Registration) -> Identity:
    """Say what the client shows to its server."""
    exchange = registration.exchange
    return Identity(
        thumbprint=exchange.session.thumbprint,
        key_id=None if exchange.signer is None else exchange.signer.thumbprint,
    )


def moved(grant: Grant, registration: Registration) -> Grant:
    """Give *grant* after a success with *registration*; its generation counts the changes that it took part in."""
    now = identity_of(registration)
    before = Identity(thumbprint=grant.thumbprint, key_id=grant.key_id)
    is_known = before != Identity(thumbprint=None, key_id=None)
    generation = grant.generation + 1 if is_known and not _was(grant, registration) else grant.generation
    if before == now and generation == grant.generation:
        return grant
    return replace(grant, thumbprint=now.thumbprint, key_id=now.key_id, generation=generation)


class Handovers:
    """Holds the generations of every client."""

    def __init__(self, registrations: Mapping[str, Registration], *, clock: Clock) -> None:
        self._lines = {name: _Line(settled=registration) for name, registration in registrations.items()}
        self._clock = clock

    def replace(
        self,
        registrations: Mapping[str, Registration],
        *,
        has_grants: Callable[[str], bool],
        banned: frozenset[str] = frozenset(),
    ) -> None:
        """
        Take in the newest means of every client; certificates and keys with the thumbprints *banned* are used no more.

        Only a change of certificate or key is tried first: whatever else changed, the operator wants that, at once and
        with the older ones, too. A client is what its server takes for one, whatever its section is called.
        """
        before, self._lines = self._lines, {}
        for name, new in registrations.items():
            line = _line_of(new, (*([before[name]] if name in before else []), *before.values()))
            if line is None:
                self._lines[name] = _Line(settled=new)
                continue
            known = [line.settled, *([line.trial] if line.trial else []), *line.earlier]
            usable = [one for one in known if self._is_usable(one, banned) and _can_bind(one, new)]
            older = [_renewed(one, new) for one in usable if identity_of(one) != identity_of(new)]
            if not older or identity_of(older[0]) != identity_of(line.settled) or not has_grants(name):
                self._lines[name] = _Line(settled=new, earlier=_distinct(older))
            else:
                self._lines[name] = _Line(settled=older[0], trial=new, earlier=_distinct(older[1:]))

    def choose(self, client: str, grant: Grant, *, in_doubt: Callable[[], bool], is_refused: bool) -> Choice:
        """
        Say with what *grant* is refreshed now; it may become the one that tries what is new.

        *in_doubt*: whether something hangs over it, so that it is no witness; asked only where that matters, for it
        may take long. *is_refused*: it was refused, and this is to confirm it, with what it last succeeded with.
        """
        line = self._lines[client]
        self._settle_if_spent(line)
        newest = line.trial or line.settled
        if is_refused and not _was(grant, newest):
            for older in (line.settled, *line.earlier):
                if _was(grant, older) and self._is_usable(older):
                    return Choice(registration=older, confirms=True)
        if line.trial is not None and self._may_try(line, grant.id) and not in_doubt():
            line.grant = grant.id
            return Choice(registration=line.trial, on_trial=True)
        return Choice(registration=line.settled)

    def _may_try(self, line: _Line, grant_id: str) -> bool:
        return line.grant in {None, grant_id} and self._clock.boot() >= line.due_at

    def trial_due_at(self, client: str) -> float | None:
        """Say when the next trial may be made (boot clock); None where there is none to make, or one is under way."""
        line = self._lines.get(client)
        return line.due_at if line is not None and line.trial is not None and line.grant is None else None

    def passed(self, client: str, registration: Registration) -> bool:
        """Take in that the server takes *registration*; gives whether that was news."""
        line = self._lines.get(client)
        if line is None or line.trial is not registration:
            return False
        line.earlier = _distinct([line.settled, *line.earlier])
        line.settled, line.trial, line.grant = registration, None, None
        return True

    def failed(self, client: str, registration: Registration) -> float | None:
        """Take in that a trial failed; gives the seconds until the next, None if it matters no more."""
        line = self._lines.get(client)
        if line is None or line.trial is not registration:
            return None
        pause = min(LAST_PAUSE, FIRST_PAUSE * 2.0**line.failures)
        line.failures = min(line.failures + 1, 16)
        line.grant, line.due_at = None, self._clock.boot() + pause
        return pause

    def let_go(self, client: str, grant_id: str) -> None:
        """Take in that a grant will not try what it was to try: it is gone, or was overtaken."""
        line = self._lines.get(client)
        if line is not None and line.grant == grant_id:
            line.grant = None

    def settled(self, client: str) -> Registration:
        """Give what the server is known to take, as far as anything is. Raises KeyError."""
        self._settle_if_spent(self._lines[client])
        return self._lines[client].settled

    def is_newest(self, client: str, registration: Registration) -> bool:
        """Say whether the server is known to take *registration*, and there is nothing newer."""
        line = self._lines.get(client)
        return line is not None and line.trial is None and line.settled is registration

    def needs(self, registration: Registration) -> bool:
        """Say whether anything may still be asked with *registration*, or with its connections and key."""
        return any(
            registration.exchange.session is one.exchange.session
            for line in self._lines.values()
            for one in (line.settled, *((line.trial,) if line.trial else ()), *line.earlier)
        )

    def is_keeping(self) -> bool:
        """Say whether there is anything that ``release`` may give up."""
        return any(line.earlier or line.trial for line in self._lines.values())

    def release(self, last: Mapping[str, set[Shown]]) -> None:
        """Give up earlier generations with which none of a client's grants has succeeded *last*, or that ended."""
        for name, line in self._lines.items():
            self._settle_if_spent(line)
            shown = last.get(name, set())
            line.earlier = [one for one in line.earlier if self._is_usable(one) and _is_among(one, shown)]

    def _settle_if_spent(self, line: _Line) -> None:
        """Go over to what is on trial when the certificate before it has ended: there is nothing to go back to."""
        if line.trial is not None and not self._is_usable(line.settled):
            line.settled, line.trial, line.grant = line.trial, None, None

    def _is_usable(self, registration: Registration, banned: frozenset[str] = frozenset()) -> bool:
        not_after, shown = registration.exchange.session.not_after, identity_of(registration)
        is_valid = not_after is None or self._clock.wall() < not_after
        return is_valid and banned.isdisjoint({shown.thumbprint, shown.key_id})


def _was(grant: Grant, registration: Registration) -> bool:
    """Say whether a grant last succeeded with what *registration* shows; older records do not know of keys."""
    return _is_among(registration, {(grant.thumbprint, grant.key_id)})


def _is_among(registration: Registration, last: set[Shown]) -> bool:
    shown = identity_of(registration)
    return (shown.thumbprint, shown.key_id) in last or (shown.thumbprint, None) in last


def _line_of(registration: Registration, lines: Iterable[_Line]) -> _Line | None:
    """Give the first of *lines* that is about the same client at the same server: grants are given to that."""
    client = registration.issuer.issuer, registration.client.client_id
    return next((one for one in lines if (one.settled.issuer.issuer, one.settled.client.client_id) == client), None)


def _can_bind(old: Registration, new: Registration) -> bool:
    """Say whether tokens that are bound as is wanted now can be had with the certificate of *old*, or without one."""
    return new.client.sender_constraint is not SenderConstraint.CERTIFICATE or old.client.presents_certificate


def _renewed(old: Registration, new: Registration) -> Registration:
    """
    Give what *new* says, but with the certificate and key of *old*, and what goes with these.

    That is how it authenticates and the algorithm of its key. Not its secret, if there is another one, nor its proofs:
    those of *new* know the older DPoP keys.
    """
    was, is_as_before = old.client, old.client.client_auth_method is new.client.client_auth_method
    client = replace(
        new.client,
        client_auth_method=was.client_auth_method,
        client_secret_encoding=(new.client if is_as_before else was).client_secret_encoding,
        presents_certificate=was.presents_certificate,
        signing_alg=was.signing_alg,
    )
    secret = old.exchange.secret if new.exchange.secret is None else new.exchange.secret
    exchange = replace(new.exchange, session=old.exchange.session, signer=old.exchange.signer, secret=secret)
    return replace(new, client=client, exchange=exchange)


def _distinct(registrations: Iterable[Registration]) -> list[Registration]:
    """Keep the first of those that show the same."""
    found: dict[Identity, Registration] = {}
    for one in registrations:
        found.setdefault(identity_of(one), one)
    return list(found.values())
