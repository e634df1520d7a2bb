"""What each error of a consent becomes in an answer."""

from __future__ import annotations

import pytest

from broker.api import consent_problems, problems
from broker.api.consent_problems import CONSTANT, problem_of
from broker.consent import errors
from broker.consent.asking import AskError
from broker.consent.errors import FinishedError, NotAcceptedError
from broker.consent.pending import Expired, Failed, Granted
from broker.errors import BrokerError, LocalError, Outcome, RemoteError
from broker.oauth.checks import Check, CheckFailedError, response_invalid
from broker.oauth.reasons import Reason


def test_every_error_of_a_consent_has_an_answer_of_its_own():
    """None of them falls through to the answer for whatever else goes wrong."""
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__}

    assert kinds == {*CONSTANT, FinishedError, NotAcceptedError}


def test_what_is_not_visible_is_not_there():
    """A foreign authorization, a wrong binding, an unknown one: one error, one answer."""
    assert problem_of(errors.NoSuchAuthorizationError()) is consent_problems.AUTHORIZATION_NOT_VISIBLE
    assert problem_of(errors.NoSuchGrantError()) is consent_problems.GRANT_NOT_VISIBLE


def test_a_choice_that_is_refused_says_what_there_is():
    """In names of the configuration."""
    problem = problem_of(AskError("scope", "the scope is not a part of the token's", hint="some of: openid"))

    assert (problem.status, problem.hint) == (400, "some of: openid")


@pytest.mark.parametrize(
    ("phase", "more"),
    [
        (Granted(grant="g"), {"state": "granted", "grant": "g"}),
        (Failed(reason="a_reason", check="nonce"), {"state": "failed", "reason": "a_reason", "check": "nonce"}),
        (Failed(reason="interrupted"), {"state": "failed", "reason": "interrupted"}),
        (Expired(), {"state": "expired"}),
    ],
)
def test_a_finished_authorization_says_how_it_ended(phase: Granted | Failed | Expired, more: dict[str, str]):
    """And that another one has to be begun, where there is no grant."""
    problem = problem_of(FinishedError(phase))

    assert problem.status == 410
    assert dict(problem.more) == more
    assert (problem.hint is None) == isinstance(phase, Granted)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (response_invalid(Check.ISS), 400),
        (CheckFailedError(Reason.AUTHORIZATION_REFUSED, Check.ERROR, server_error="access_denied"), 409),
        (CheckFailedError(Reason.AUTHORIZATION_REFUSED, Check.ERROR, server_error="login_required"), 409),
        (CheckFailedError(Reason.AUTHORIZATION_REFUSED, Check.ERROR, server_error="invalid_scope"), 502),
        (CheckFailedError(Reason.AUTHORIZATION_REFUSED, Check.ERROR, server_error="unrecognized"), 502),
        (CheckFailedError(Reason.ID_TOKEN_INVALID, Check.AUD), 502),
        (CheckFailedError(Reason.USERINFO_INVALID, Check.USERINFO_SUB), 502),
        (CheckFailedError(Reason.KEYS_UNAVAILABLE, Check.KEY), 502),
    ],
)
def test_a_failed_check_is_named(error: CheckFailedError, status: int):
    """What the caller brought is its fault, a no the person's, the rest the server's."""
    problem = problem_of(error)

    assert problem.status == status
    assert dict(problem.more) == {"reason": error.code, "check": error.check.value}
    assert problem.server_error == error.server_error
    assert bool(problem.headers) == (status == 502)


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (RemoteError(Reason.SERVER_REFUSED, "no", outcome=Outcome.REFUSED, server_error="invalid_client"), 502, "5"),
        (RemoteError(Reason.SERVER_REFUSED, "no", outcome=Outcome.REFUSED, server_error="slow_down"), 503, "5"),
        (RemoteError(Reason.TIMED_OUT, "late", outcome=Outcome.UNKNOWN), 503, "5"),
        (RemoteError(Reason.RATE_LIMITED, "busy", outcome=Outcome.REFUSED, retry_after=16.2), 503, "17"),
        (RemoteError(Reason.RATE_LIMITED, "busy", outcome=Outcome.REFUSED, retry_after=0.0), 503, "1"),
        (LocalError("store_unavailable", "the disk is full", hint="make room"), 503, "5"),
        (NotAcceptedError(LocalError("store_unavailable", "the disk is full")), 503, "5"),
        (NotAcceptedError(RemoteError(Reason.KEYS_UNAVAILABLE, "down", outcome=Outcome.NOT_SENT)), 503, "5"),
    ],
)
def test_what_may_pass_by_itself_says_when_to_come_back(error: BrokerError, status: int, retry_after: str):
    """What somebody has to mend is a bad gateway."""
    problem = problem_of(error)

    assert (problem.status, dict(problem.headers)["Retry-After"]) == (status, retry_after)


def test_a_host_that_a_server_chose_is_for_the_log_alone():
    """Callers do not learn it."""
    error = RemoteError(Reason.ENDPOINT_REFUSED, "refused", outcome=Outcome.NOT_SENT, hint='add "evil.example"')

    assert problem_of(error).hint is None


def test_a_bug_is_told_by_its_incident():
    """As everywhere."""
    error = LocalError(Reason.UNEXPECTED, "an unexpected failure of the broker", hint="an-incident")

    assert problem_of(error) == problems.unexpected("an-incident")
