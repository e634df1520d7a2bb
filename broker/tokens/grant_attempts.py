"""
Makes attempts to refresh grants, judges a client by how they end, and reports them.

Whatever happens in an attempt ends here, as an event for the table. What a grant became meanwhile, another
owner's, revoked or consented anew, comes before what the attempt brings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from broker.errors import LocalError, Outcome, RemoteError, frames_of
from broker.events import (
    ClientSuspected,
    ClientTrusted,
    Emit,
    GrantRevived,
    TokenRefreshed,
    TokenRefreshFailed,
    UnexpectedFailure,
)
from broker.oauth.reasons import Reason
from broker.tokens import grant_state as table
from broker.tokens import suspicion as suspicions
from broker.tokens.acquire import Registration
from broker.tokens.attempts import INCIDENT_BYTES, MISSING_RANK
from broker.tokens.grant import EndReason, Grant
from broker.tokens.grant_keeper import GrantKeeper
from broker.tokens.grant_steps import CLIENT_SUSPECT
from broker.tokens.handover import Choice
from broker.tokens.ports import Randomness
from broker.tokens.refreshing import Ending, Order, OvertakenError, Refresher
from broker.tokens.schedule import CLIENT_SIDE_ERRORS, Pace
from broker.tokens.state import Failure

RETRY_SPACING = 90.0
"""
Seconds between the retries of grants that were refused when their client became suspect.

Longer than the window of suspicion: those that are really gone are found out one by one, and do not make the
client suspect again.
"""

PROBE_SPREAD = 60.0
"""Seconds over which those are spread that wait for a suspect client, so that another one probes each time."""


Tried = Callable[[GrantKeeper, Choice, table.Succeeded | table.Failed | None], None]
"""Hears with what an attempt was made, and how it ended; None: it was overtaken."""


_NO_VERDICTS = frozenset({EndReason.NO_REFRESH_TOKEN, EndReason.ACCESS_TOKEN_ENDED, EndReason.SUBJECT_CHANGED})
"""Ends that the server's refusals had no part in: they are as true when its word does not count."""


class GrantAttempts:
    """Makes attempts for *keepers*; holds what speaks against each client."""

    def __init__(
        self,
        *,
        refresher: Refresher,
        keepers: Mapping[str, GrantKeeper],
        randomness: Randomness,
        emit: Emit,
        settle: Callable[[GrantKeeper, table.Event], None],
        bury: Callable[[Grant], Grant],
        count: Callable[[str], int],
        tried: Tried,
    ) -> None:
        """
        *settle* takes an event through a keeper; *keepers* is looked at whenever it matters.

        *bury* takes in what an attempt brought for a grant that is being revoked, and gives what to write down;
        *count* says how many grants a client has; *tried* hears how each attempt ended, None if it was overtaken.
        """
        self.is_stopping = False
        self._bury = bury
        self._count = count
        self._tried = tried
        self._refresher = refresher
        self._keepers = keepers
        self._clock = refresher.acquirer.clock
        self._randomness = randomness
        self._emit = emit
        self._settle = settle
        self._suspicions: dict[str, suspicions.Suspicion] = {}
        # Grants that were refused when their client was suspect, in the order in which they are tried again.
        self._refused: dict[str, dict[str, None]] = {}
        self._lost: dict[str, list[tuple[str, float]]] = {}

    async def make(self, keeper: GrantKeeper, begin: table.Begin, choice: Choice) -> None:
        """Make the attempt *begin*; whatever happens in it ends here."""
        ended: table.Succeeded | table.Failed | None = None
        try:
            ended = await self._make(keeper, begin, choice)
        finally:
            self._refresher.passage.done((keeper.grant.id, begin.attempt))
            self._tried(keeper, choice, ended)

    async def _make(
        self, keeper: GrantKeeper, begin: table.Begin, choice: Choice
    ) -> table.Succeeded | table.Failed | None:
        """Make it, and give how it ended, None if it was overtaken."""
        try:
            if not choice.on_trial:
                self._let_pass(keeper.spec.client, keeper.grant.id)
            ending = await self._refresher.make(
                self._order(keeper, begin, choice),
                still_wanted=lambda: self._still_wanted(keeper, begin.attempt),
                settle=lambda event: self._settle(keeper, event),
                revise=lambda grant: self._revise(keeper, begin.attempt, grant),
            )
        except OvertakenError:
            return None
        except RemoteError as held:
            failure = Failure(code=str(held.code), pace=Pace.HELD, hint=held.hint, retry_after=held.retry_after)
            failed = table.Failed(attempt=begin.attempt, trouble=table.Trouble.NOT_SENT, failure=failure)
            self._settle(keeper, failed)
            return failed
        except Exception as error:  # noqa: BLE001 - the boundary: a bug in one attempt must not stop the others
            return self._bug(keeper, begin.attempt, error)
        self._end(keeper, choice, ending)
        return ending.event

    def unblock(self, client: str) -> None:
        """Let the grants of *client* be tried again that were held back, but for those that were refused."""
        refused = set(self._refused.get(client, ()))
        for grant_id, keeper in tuple(self._keepers.items()):
            if keeper.spec.client == client and grant_id not in refused:
                self._settle(keeper, table.Unblocked())

    def _order(self, keeper: GrantKeeper, begin: table.Begin, choice: Choice) -> Order:
        token = keeper.state.token
        return Order(
            number=begin.attempt,
            grant=keeper.grant,
            spec=keeper.spec,
            registration=choice.registration,
            on_trial=choice.on_trial,
            replay=keeper.terms(keeper.grant).replay,
            previous=begin.previous,
            confirms=begin.confirms,
            rank=self._clock.boot() + MISSING_RANK if token is None else token.expires_at,
        )

    def _let_pass(self, client: str, grant_id: str) -> None:
        """
        Raise RemoteError unless a request for a grant may be made: a suspect client only probes.

        It does not probe with a grant that was refused, if there is another; and once it is believed again,
        those that were refused come so far apart that they do not make it suspect again.
        """
        before, now = self._of(client), self._clock.boot()
        refused = self._refused.get(client, {})
        grants = self._count(client) if refused else 0
        wait: float | None = None
        if grant_id in refused and before.is_suspect and len(refused) < grants:
            wait = suspicions.PROBE_INTERVAL
        elif (
            grant_id in refused
            and not before.is_suspect
            and not suspicions.bears_another(before, now=now, grants=grants)
        ):
            wait = suspicions.WINDOW
        else:
            self._suspicions[client], wait = suspicions.admit(before, now)
        if wait is not None:
            raise RemoteError(
                CLIENT_SUSPECT,
                "requests for grants of this client are held back",
                outcome=Outcome.NOT_SENT,
                hint="see the client_suspected event",
                retry_after=wait + PROBE_SPREAD * self._randomness.uniform(),
            )

    def _still_wanted(self, keeper: GrantKeeper, attempt: int) -> None:
        state = keeper.state
        if self.is_stopping or keeper.revoking or keeper.renewing:
            raise OvertakenError
        if not isinstance(state, table.Refreshing) or state.attempt != attempt:
            raise OvertakenError

    def _revise(self, keeper: GrantKeeper, attempt: int, grant: Grant) -> Grant | None:
        """Give what an attempt may write down, or None when a newer consent has taken the grant's place."""
        if keeper.revoking:
            # Its owner gave it up while the request was under way: what came of it is revoked as well (R2.12).
            return self._bury(grant)
        state = keeper.state
        if keeper.renewing or not isinstance(state, table.Refreshing) or state.attempt != attempt:
            return None
        return _owned_as(state.grant, grant)

    def _end(self, keeper: GrantKeeper, choice: Choice, ending: Ending) -> None:
        client, registration = keeper.spec.client, choice.registration
        match ending.event:
            case table.Succeeded(grant=written) as succeeded:
                # It may have changed hands while this was written down.
                now = _owned_as(keeper.grant, written)
                self._settle(keeper, succeeded if now is written else replace(succeeded, grant=now))
                if now != written and keeper.grant == now:
                    self._refresher.vault.keep_soon(now)
                self._trust(client, keeper.grant.id)
                self._report_success(keeper, registration, succeeded, ending)
            case table.Failed() as failed:
                self._settle(keeper, _on_trial(keeper, failed) if choice.on_trial else self._judged(keeper, failed))
                if isinstance(keeper.state, table.Over):
                    self._refused.get(client, {}).pop(keeper.grant.id, None)
                self._report_failure(keeper, registration, failed, ending)

    def _judged(self, keeper: GrantKeeper, failed: table.Failed) -> table.Failed:
        """Take a failure in as it speaks against the client; a suspect one's grants do not suffer for it (R2.7)."""
        client, now, state = keeper.spec.client, self._clock.boot(), keeper.state
        before = self._of(client)
        lost_answer = not isinstance(state, table.Over) and state.doubt is table.Doubt.UNKNOWN
        if failed.trouble is table.Trouble.INVALID_GRANT and lost_answer:
            # It does not make a client suspect, but where the client is, this is no definite word either.
            after = before
            if not before.is_suspect:
                self._lost_lately(client, now).append((keeper.grant.id, now))
        elif failed.trouble is table.Trouble.INVALID_GRANT:
            after = suspicions.after_refusal(before, keeper.grant.id, now=now, grants=self._count(client))
        elif failed.failure.server_error in CLIENT_SIDE_ERRORS and failed.trouble is table.Trouble.REFUSED:
            after = suspicions.after_client_error(before, now=now)
        else:
            return failed
        self._suspicions[client] = after
        if after.is_suspect and not before.is_suspect:
            self._suspect(client, after)
        if not after.is_suspect or failed.trouble is not table.Trouble.INVALID_GRANT:
            return failed
        held = replace(
            failed.failure, code=CLIENT_SUSPECT, pace=Pace.HELD, retry_after=self._turn_of(client, keeper.grant.id)
        )
        return replace(failed, failure=held, suspect=True)

    def _suspect(self, client: str, suspicion: suspicions.Suspicion) -> None:
        """Say so, and take the verdicts of that minute back."""
        now = self._clock.boot()
        refused = suspicion.lately(now)
        self._emit(ClientSuspected(client=client, grants=len(refused), probe_in=suspicions.PROBE_INTERVAL))
        for grant_id in dict.fromkeys((*refused, *(lost for lost, _ in self._lost_lately(client, now)))):
            keeper = self._keepers.get(grant_id)
            if keeper is None:
                continue
            was_over = isinstance(keeper.state, table.Over)
            if was_over and keeper.grant.reason in _NO_VERDICTS:
                continue
            self._settle(keeper, table.Reprieved(wait=self._turn_of(client, grant_id)))
            if was_over:
                self._emit(GrantRevived(token=keeper.spec.name, grant=grant_id, client=client, reason=CLIENT_SUSPECT))

    def _lost_lately(self, client: str, now: float) -> list[tuple[str, float]]:
        """Give the grants whose end within the window was a lost answer, to be added to."""
        lately = [(lost, at) for lost, at in self._lost.get(client, ()) if now - at < suspicions.WINDOW]
        self._lost[client] = lately
        return lately

    def _turn_of(self, client: str, grant_id: str) -> float:
        """Give the seconds after which a refused grant is tried again at the latest: one after the other."""
        refused = self._refused.setdefault(client, {})
        refused.setdefault(grant_id)
        return suspicions.PROBE_INTERVAL + RETRY_SPACING * list(refused).index(grant_id)

    def _trust(self, client: str, grant_id: str) -> None:
        """
        Take in a success: a suspect client is believed again, and its grants follow.

        Those that were refused follow one by one, each after a success.
        """
        before = self._of(client)
        self._suspicions[client] = suspicions.after_success(before)
        refused = self._refused.get(client, {})
        refused.pop(grant_id, None)
        if before.is_suspect:
            self._emit(ClientTrusted(client=client))
            self.unblock(client)
        if not refused or not suspicions.bears_another(before, now=self._clock.boot(), grants=self._count(client)):
            return
        following = next(iter(refused))
        refused[following] = refused.pop(following)  # to the end of the row
        keeper = self._keepers.get(following)
        if keeper is not None:
            self._settle(keeper, table.Unblocked())

    def _of(self, client: str) -> suspicions.Suspicion:
        return self._suspicions.get(client, suspicions.Suspicion())

    def _bug(self, keeper: GrantKeeper, attempt: int, error: Exception) -> table.Failed:
        """Report a bug; how far the request got is not known."""
        incident = self._randomness.token(INCIDENT_BYTES)
        self._emit(
            UnexpectedFailure(where="grant", incident=incident, error=type(error).__name__, frames=frames_of(error))
        )
        failure = Failure(code=Reason.UNEXPECTED, pace=Pace.ORDINARY)
        trouble = table.Trouble.NOT_SENT if isinstance(error, LocalError) else table.Trouble.UNKNOWN
        failed = table.Failed(attempt=attempt, trouble=trouble, failure=failure)
        self._settle(keeper, failed)
        return failed

    def _report_success(
        self, keeper: GrantKeeper, registration: Registration, succeeded: table.Succeeded, ending: Ending
    ) -> None:
        token = succeeded.token
        if keeper.state.token is not token:
            return  # a newer consent took its place, or it came too late
        self._emit(
            TokenRefreshed(
                token=keeper.spec.name,
                issuer=registration.client.issuer,
                client=registration.client.name,
                generation=token.generation,
                expires_in=token.lifetime,
                expires_at=token.expires_at_wall,
                binding=token.binding,
                duration=ending.duration,
                fingerprint=token.fingerprint,
                jti=ending.jti,
                grant=succeeded.grant.id,
            )
        )

    def _report_failure(
        self, keeper: GrantKeeper, registration: Registration, failed: table.Failed, ending: Ending
    ) -> None:
        error, status = ending.error, keeper.status()
        remote = error if isinstance(error, RemoteError) else None
        self._emit(
            TokenRefreshFailed(
                token=keeper.spec.name,
                issuer=registration.client.issuer,
                client=registration.client.name,
                reason=failed.failure.code,
                outcome=str(Outcome.NOT_SENT if remote is None else remote.outcome),
                status=None if remote is None else remote.status,
                server_error=failed.failure.server_error,
                hint=failed.failure.hint,
                retry_in=float(status.retry_in or 0),
                serving=status.expires_in is not None,
                duration=ending.duration,
                jti=ending.jti,
                grant=status.id,
            )
        )


def _owned_as(known: Grant, grant: Grant) -> Grant:
    """Give *grant* with the owner and the label that *known* has: as a rule its own, and it is the same one then."""
    if (grant.owner, grant.label) == (known.owner, known.label):
        return grant
    return replace(grant, owner=known.owner, label=known.label)


def _on_trial(keeper: GrantKeeper, failed: table.Failed) -> table.Failed:
    """
    Give what a failure means with a certificate or key that nobody knows the server to take.

    It may be refused for itself: that speaks against no client. A refusal is confirmed with the older one (R2.6);
    where it would be a verdict, because something hangs over the grant already, it is none.
    """
    state = keeper.state
    in_doubt = not isinstance(state, table.Over) and state.doubt is not table.Doubt.NONE
    return replace(failed, suspect=in_doubt and failed.trouble is table.Trouble.INVALID_GRANT)
