"""What is reported of authorizations."""

from __future__ import annotations

from broker.consent.pending import Failed
from broker.consent.reporting import Reporter, failure_of
from broker.errors import LocalError, Outcome, RemoteError
from broker.events import AuthorizationFailed, AuthorizationStarted, UnexpectedFailure
from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.reasons import Reason
from broker.policy.peer import Peer
from tests.fakes import Dice, Events
from tests.unit.consent.test_pending import PENDING

PEER = Peer(listener="api", uid=1000, gid=1001, pid=12)


def test_the_caller_whose_request_it_was_is_told():
    """Where there was one."""
    events = Events()
    reporter = Reporter(emit=events, randomness=Dice())

    reporter.started(PENDING, "app", PEER)
    reporter.failed(PENDING, "app", None, LocalError("interrupted", "it was"))

    [started], [failed] = events.of(AuthorizationStarted), events.of(AuthorizationFailed)
    assert (started.listener, started.uid, started.gid, started.pid) == ("api", 1000, 1001, 12)
    assert (failed.listener, failed.uid, failed.gid, failed.pid) == (None, None, None, None)


def test_a_failure_is_told_by_codes():
    """The name of the check, the status, the registered error: no value."""
    events = Events()
    reporter = Reporter(emit=events, randomness=Dice())
    check = CheckFailedError(Reason.ID_TOKEN_INVALID, Check.NONCE)
    refusal = RemoteError(
        Reason.SERVER_REFUSED, "no", outcome=Outcome.REFUSED, status=400, server_error="invalid_grant", hint="look"
    )

    for error in (check, refusal):
        reporter.failed(PENDING, "app", PEER, error)

    told = [
        (event.reason, event.check, event.status, event.server_error, event.hint)
        for event in events.of(AuthorizationFailed)
    ]
    assert told == [
        ("id_token_invalid", "nonce", None, None, None),
        ("server_refused", None, 400, "invalid_grant", "look"),
    ]
    assert failure_of(check) == Failed(reason="id_token_invalid", check="nonce")
    assert failure_of(refusal) == Failed(reason="server_refused")


def test_nothing_of_what_was_asked_is_told():
    """Neither the hint about the person nor the label."""
    events = Events()

    Reporter(emit=events, randomness=Dice()).started(PENDING, "app", PEER)

    assert "kaethe" not in repr(events.seen)
    assert "laptop" not in repr(events.seen)
    assert "the-state" not in repr(events.seen)


def test_a_bug_has_an_incident():
    """By which its report is found."""
    events = Events()

    error = Reporter(emit=events, randomness=Dice()).bug(ZeroDivisionError("secret"))

    [bug] = events.of(UnexpectedFailure)
    assert (error.code, error.hint) == (Reason.UNEXPECTED, bug.incident)
    assert "secret" not in repr(bug)
