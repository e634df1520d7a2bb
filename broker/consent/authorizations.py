"""
All authorizations that wait for a person: begun, finished once, forgotten in time.

Each is sealed in the store before its URL is handed out, so that a restart in between loses nobody. A callback
is looked at only if its caller started the authorization and has its binding; from then on it is spent, and
what was begun runs to its end, whether the caller is still there or not, because the answer may hold the only
refresh token there is. Nothing is looked up by ``state``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NoReturn

from broker.consent.asking import Ask, narrowed, redirect_uri_of
from broker.consent.callback import Callback, read_callback
from broker.consent.errors import (
    FinishedError,
    NoSuchAuthorizationError,
    NoSuchGrantError,
    NotAcceptedError,
    NotConsentedToError,
    NotRunningError,
    WrongBindingError,
)
from broker.consent.pending import (
    INTERRUPTED,
    Abandoned,
    Binding,
    Granted,
    Pending,
    Redeeming,
    Waiting,
    digest_of,
    state_of,
)
from broker.consent.ports import GrantBook
from broker.consent.redemption import Redeemed, Redeemer
from broker.consent.reporting import Reporter, failure_of
from broker.consent.requesting import TRANSACTION_LIFETIME, Requested, request_authorization
from broker.consent.shelf import Entry, Shelf
from broker.errors import BrokerError, LocalError, RemoteError
from broker.events import Emit, GrantUnreadable
from broker.oauth.authorization_request import Asked, Transaction
from broker.oauth.checks import CheckFailedError
from broker.oauth.pkce import VERIFIER_BYTES
from broker.oauth.reasons import Reason
from broker.oauth.secret import CodeVerifier
from broker.policy.peer import Peer
from broker.tokens.acquire import Acquirer, Registration
from broker.tokens.passage import Passage
from broker.tokens.ports import Session
from broker.tokens.spec import Consent, Grants, TokenSpec
from broker.tokens.storing import Store

RANDOM_BYTES = 32
"""256 random bits each: id, binding, state, nonce (rules.md R4)."""

STOP_GRACE = 15.0
"""Seconds that an orderly stop waits for a redemption that was begun."""

Owns = Callable[[str, str], bool]
"""Says whether the caller is the workload of a name, and may ask for consent to the token of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """
    What the caller gets: the URL has to be opened within *expires_in* seconds; the login may take longer.

    *state_sha256*, in hexadecimal digits, tells what comes back from what anybody can make up, and is no secret.
    """

    id: str
    binding: Binding
    authorization_url: str = field(repr=False)
    expires_in: float
    state_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationStatus:
    """How an open authorization stands; *expires_in* in seconds."""

    id: str
    token: str
    state: str
    expires_in: float


class Authorizations:
    """The pending authorizations of a broker."""

    def __init__(
        self,
        specs: Iterable[TokenSpec],
        *,
        grants: GrantBook,
        acquirer: Acquirer,
        passage: Passage,
        store: Store,
        emit: Emit,
    ) -> None:
        """Ask people for the consents of those of *specs* that need one; with what *grants* knows to be taken."""
        self._clock, self._randomness = acquirer.clock, acquirer.randomness
        self._grants = grants
        self._passage = passage
        self._emit = emit
        self._redeemer = Redeemer(grants=grants, acquirer=acquirer, passage=passage)
        self._reporter = Reporter(emit=emit, randomness=acquirer.randomness)
        self._shelf = Shelf(store, clock=self._clock, on_expired=self._reporter.expired)
        self._running: set[asyncio.Task[None]] = set()
        self._in_use: list[Session] = []
        self._group: asyncio.TaskGroup | None = None
        self.replace(specs)

    # --- what callers do ---

    async def begin(self, ask: Ask, *, peer: Peer | None = None) -> Begun:
        """
        Begin an authorization: the request is at the server, and everything durable, when this returns.

        *peer* is whose request it is, here and below: for the record.

        Raises NotConsentedToError, AskError, NoSuchGrantError, TooManyPendingError, RemoteError and LocalError.
        """
        spec = self._specs.get(ask.token)
        if spec is None:
            raise NotConsentedToError
        consent, registration = spec.consent or Consent(), self._grants.settled(spec.client)
        renews = self._renews(consent, ask)
        asked = narrowed(spec, consent, ask)
        redirect_uri = redirect_uri_of(registration.client, ask.redirect_uri)
        authorization_id, binding = self._random(), Binding(self._random())
        with self._using(registration), self._shelf.place(ask.owner):
            transaction = await self._transaction(asked, redirect_uri, registration)
            requested = await self._request(authorization_id, registration, asked, transaction)
            now = self._clock.wall()
            pending = Pending(
                id=authorization_id,
                digest=digest_of(binding.reveal()),
                owner=ask.owner,
                token=spec.name,
                renews=renews,
                issuer=registration.issuer.issuer,
                client_id=registration.client.client_id,
                label=ask.label,
                asked=asked,
                transaction=transaction,
                response_mode=registration.client.response_mode,
                iss_required=requested.iss_required,
                created_at=now,
                expires_at=now + TRANSACTION_LIFETIME,
                phase=Waiting(),
            )
            await self._shelf.add(pending)
        self._reporter.started(pending, spec.client, peer)
        return Begun(
            id=authorization_id,
            binding=binding,
            authorization_url=requested.url,
            expires_in=requested.expires_in,
            state_sha256=sha256(transaction.state.encode()).hexdigest(),
        )

    async def callback(
        self,
        authorization_id: str,
        *,
        owns: Owns,
        binding: str,
        callback_url: str,
        form: Mapping[str, object] | None = None,
        peer: Peer | None = None,
    ) -> Redeemed:
        """
        Take in what came back with the person, and redeem it.

        Raises NoSuchAuthorizationError, FinishedError, NotRunningError, AskError and NotAcceptedError, after which
        nothing has changed; CheckFailedError, SubjectMismatchError and other BrokerErrors, after which it is spent.
        These have an event of their own.
        """
        entry = self._entry(authorization_id, owns)
        if not entry.pending.is_bound_to(binding):
            raise WrongBindingError
        if not isinstance(entry.pending.phase, Waiting):
            raise FinishedError(entry.pending.phase)
        callback = read_callback(callback_url, form)
        if self._group is None:
            raise NotRunningError
        entry.become(Redeeming())
        outcome: asyncio.Future[Redeemed | BrokerError] = asyncio.get_running_loop().create_future()
        task = self._group.create_task(self._redeem(entry, callback, peer, outcome), name=f"redeem {authorization_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        ended = await asyncio.shield(outcome)  # whoever goes away leaves it running
        if isinstance(ended, BrokerError):
            raise ended
        return ended

    def status(self, authorization_id: str, *, owns: Owns) -> AuthorizationStatus:
        """Say how an open authorization stands. Raises NoSuchAuthorizationError and FinishedError."""
        entry = self._entry(authorization_id, owns)
        pending = entry.pending
        if not pending.is_open:
            raise FinishedError(pending.phase)
        return AuthorizationStatus(
            id=pending.id,
            token=pending.token,
            state=state_of(pending.phase),
            expires_in=self._shelf.left(entry),
        )

    def changed(self, authorization_id: str, *, owns: Owns) -> asyncio.Future[None]:
        """
        Give what is resolved when the state changes. Shared: not to be cancelled.

        Raises NoSuchAuthorizationError.
        """
        return self._entry(authorization_id, owns).news()

    async def abandon(self, authorization_id: str, *, owns: Owns, peer: Peer | None = None) -> None:
        """Give an authorization up. Raises NoSuchAuthorizationError; FinishedError, also while it is redeemed."""
        entry = self._entry(authorization_id, owns)
        if not isinstance(entry.pending.phase, Waiting):
            raise FinishedError(entry.pending.phase)
        entry.become(Abandoned())
        self._reporter.abandoned(entry.pending, peer)
        await self._shelf.save(entry)

    # --- their life ---

    def replace(self, specs: Iterable[TokenSpec]) -> tuple[asyncio.Task[None], ...]:
        """
        Go on under another configuration; those that were begun with another client fail when they come back.

        Gives the redemptions that run with the means of the older one.
        """
        self._specs = {spec.name: spec for spec in specs if spec.consent is not None}
        return tuple(self._running)

    def needs(self, registration: Registration) -> bool:
        """Say whether anything is being asked with *registration*, or with its connections and key."""
        return any(registration.exchange.session is one for one in self._in_use)

    def restore(self) -> None:
        """
        Take up what the store has.

        One whose callback was accepted has led to a grant in use, or it has failed: its code may have been sent. So
        has one that may not be the last that was written of it. The grants have to be restored before.
        """
        for name, entry, is_doubtful in self._shelf.restored():
            if entry is None:
                self._emit(GrantUnreadable(record=name))
            elif isinstance(entry.pending.phase, Redeeming) or (is_doubtful and entry.pending.is_open):
                self._conclude(entry)
                self._shelf.save_soon(entry)

    def _conclude(self, entry: Entry) -> None:
        """Say how a redemption ended that this broker did not see to its end."""
        grant_id = self._grants.came_of(entry.pending.id)
        if grant_id is None:
            error = LocalError(INTERRUPTED, "the broker stopped while the authorization was redeemed")
            self._fail(entry, None, error)
            return
        entry.become(Granted(grant=grant_id))
        self._reporter.granted_before(entry.pending, self._client_of(entry.pending), self._grants.grant(grant_id))

    async def run(self) -> NoReturn:
        """Keep time, and redeem, until cancelled; what was begun then is waited for."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                while True:
                    await self._shelf.keep_time()
            finally:
                self._group = None
                if self._running:
                    await asyncio.wait(tuple(self._running), timeout=STOP_GRACE)
        raise AssertionError("the loop above never ends")

    async def _redeem(
        self, entry: Entry, callback: Callback, peer: Peer | None, outcome: asyncio.Future[Redeemed | BrokerError]
    ) -> None:
        """Redeem; whatever happens ends here."""
        ended: Redeemed | BrokerError
        try:
            ended = await self._redeemed(entry.pending, callback)
        except NotAcceptedError as refused:
            entry.become(Waiting())
            outcome.set_result(refused)
            return
        except BrokerError as error:
            ended = error
        except Exception as error:  # noqa: BLE001 - the boundary: a bug in one must not end the others
            ended = self._reporter.bug(error)
        if isinstance(ended, Redeemed):
            entry.become(Granted(grant=ended.grant.id))
            self._reporter.granted(entry.pending, self._client_of(entry.pending), peer, ended)
        else:
            self._fail(entry, peer, ended)
        await self._shelf.save(entry)
        outcome.set_result(ended)

    async def _redeemed(self, pending: Pending, callback: Callback) -> Redeemed:
        spec = self._specs.get(pending.token)
        # Not with a certificate or key that nobody has tried yet: a person would have to consent again.
        if spec is None or not _is_of(pending, registration := self._grants.settled(spec.client)):
            raise LocalError("client_changed", "the configuration of the token has changed since it was begun")
        if not registration.exchange.holds(pending.transaction.dpop_jkt):
            raise LocalError(Reason.DPOP_KEY_UNKNOWN, "the DPoP key that the code is bound to is gone")

        async def about_to_send() -> None:
            try:
                await self._shelf.write(pending)
            except LocalError as error:
                raise NotAcceptedError(error) from error

        with self._using(registration):
            try:
                code = await self._redeemer.code_of(pending, registration, callback)
            except CheckFailedError:
                raise
            except RemoteError as error:  # no keys just now: nothing is known against the response
                raise NotAcceptedError(error) from error
            return await self._redeemer.redeem(pending, spec, registration, code, about_to_send=about_to_send)

    @contextmanager
    def _using(self, registration: Registration) -> Iterator[None]:
        """Keep its connections open while something is asked with it, also if grants go over to newer ones."""
        self._in_use.append(registration.exchange.session)
        try:
            yield
        finally:
            self._in_use.remove(registration.exchange.session)

    async def _request(
        self, authorization_id: str, registration: Registration, asked: Asked, transaction: Transaction
    ) -> Requested:
        try:
            return await request_authorization(
                authorization_id, registration, asked, transaction, passage=self._passage, clock=self._clock
            )
        except RemoteError:
            registration.metadata.doubt()
            raise

    def _entry(self, authorization_id: str, owns: Owns) -> Entry:
        """Find one that the caller may know of. Raises NoSuchAuthorizationError."""
        entry = self._shelf.find(authorization_id)
        if not owns(entry.pending.owner, entry.pending.token):
            raise NoSuchAuthorizationError
        return entry

    def _fail(self, entry: Entry, peer: Peer | None, error: BrokerError) -> None:
        entry.become(failure_of(error))
        self._reporter.failed(entry.pending, self._client_of(entry.pending), peer, error)

    def _renews(self, consent: Consent, ask: Ask) -> str | None:
        """Give the grant that is to be renewed. Raises NoSuchGrantError."""
        one = self._grants.one(ask.token) if consent.grants is Grants.ONE else None
        if ask.renews is None or ask.renews == one:
            return one
        try:
            grant = self._grants.grant(ask.renews)
        except KeyError:
            raise NoSuchGrantError from None
        if grant.token != ask.token:
            raise NoSuchGrantError
        return grant.id

    async def _transaction(self, asked: Asked, redirect_uri: str, registration: Registration) -> Transaction:
        """Draw what ties the response to the request. Raises LocalError where the DPoP key might be lost."""
        proofs = registration.exchange.proofs
        if proofs is not None:
            await proofs.secure()  # before anything is bound to it
        return Transaction(
            state=self._random(),
            nonce=self._random() if asked.is_openid else None,
            code_verifier=CodeVerifier(self._randomness.token(VERIFIER_BYTES)),
            redirect_uri=redirect_uri,
            dpop_jkt=None if proofs is None else proofs.jkt,
        )

    def _random(self) -> str:
        return self._randomness.token(RANDOM_BYTES)

    def _client_of(self, pending: Pending) -> str:
        spec = self._specs.get(pending.token)
        return "" if spec is None else spec.client


def _is_of(pending: Pending, registration: Registration) -> bool:
    """Say whether *registration* is the client that it was begun with."""
    return registration.issuer.issuer == pending.issuer and registration.client.client_id == pending.client_id
