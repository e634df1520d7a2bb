"""
Why a consent, or a grant, is refused: the problems that have to do with people, and the errors they come from.

As everywhere in the API nothing that came in a request goes into an answer; of what an authorization server
said there is a registered error code at the most, and of a check that failed its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from broker.api import problems
from broker.api.problems import ErrorCode, Problem, RefusalReason, invalid
from broker.api.world import own_words
from broker.consent.asking import AskError
from broker.consent.errors import (
    FinishedError,
    NoSuchAuthorizationError,
    NoSuchGrantError,
    NotAcceptedError,
    NotConsentedToError,
    NotRunningError,
    SubjectMismatchError,
    TooManyPendingError,
    WrongBindingError,
)
from broker.errors import BrokerError, RemoteError
from broker.oauth.checks import CheckFailedError
from broker.oauth.reasons import Reason
from broker.tokens.serving import TEMPORARY_ERRORS

RETRY_AFTER = 5
"""Seconds after which a request to the authorization server that failed may be worth another try."""

PERSONS_NO = frozenset(
    {"access_denied", "login_required", "consent_required", "interaction_required", "account_selection_required"}
)
"""OAuth errors of an authorization response that another login can change (RFC 6749 4.1.2.1, OpenID Core 3.1.2.6)."""

GRANT_REQUIRED = Problem(
    status=400,
    error=ErrorCode.GRANT_REQUIRED,
    description="the token has a grant for each person, and none is named",
    reason=RefusalReason.GRANT_REQUIRED,
    hint="token-broker grants list (GET /v1/grants) names them, "
    "token-broker token --grant ID (GET /v1/grants/{id}/token) gives the token of one",
)

GRANT_NOT_VISIBLE = Problem(
    status=404,
    error=ErrorCode.NOT_FOUND,
    description="there is no such grant",
    reason=RefusalReason.GRANT_NOT_VISIBLE,
    hint="token-broker grants list (GET /v1/grants) names the grants of this caller",
)

AUTHORIZATION_NOT_VISIBLE = Problem(
    status=404,
    error=ErrorCode.NOT_FOUND,
    description="there is no such authorization",
    reason=RefusalReason.AUTHORIZATION_NOT_VISIBLE,
)
"""Also for a foreign one, and for a wrong binding: all alike (rules.md R4)."""

NOT_SAVED = Problem(
    status=503,
    error=ErrorCode.TEMPORARILY_UNAVAILABLE,
    description="it is in force, but cannot be written down: a broker that is killed now forgets it",
    reason=Reason.STORE_UNAVAILABLE,
    hint="make room for the store, and look for the event grants_saved before the broker is stopped",
    more=(("reason", Reason.STORE_UNAVAILABLE.value),),
    headers=(("Retry-After", str(RETRY_AFTER)),),
)
"""The caller must not believe that a consent is given up for good, or a right moved, which a crash would undo."""

BINDING_WRONG = replace(AUTHORIZATION_NOT_VISIBLE, reason=RefusalReason.BINDING_WRONG)

NOT_CONSENTED_TO = invalid(
    400,
    RefusalReason.NOT_CONSENTED_TO,
    "the token is not one that a person consents to",
    hint="token-broker token NAME (GET /v1/tokens/{name}) gives it as it is",
    close=False,
)

OWNER_REFUSED = invalid(
    400, RefusalReason.OWNER_REFUSED, "no workload of that name is configured that has the token", close=False
)

NOT_OPERATOR = Problem(
    status=403,
    error=ErrorCode.ACCESS_DENIED,
    description="only root and the user of the broker may do that",
    reason=RefusalReason.NOT_OPERATOR,
)

SUBJECT_MISMATCH = Problem(
    status=409,
    error=ErrorCode.SUBJECT_MISMATCH,
    description="another person consented than the one whose grant this is",
    reason="subject_mismatch",
    hint="log in as the same person, or give the grant up first; it is as it was",
)

TOO_MANY_PENDING = Problem(
    status=429,
    error=ErrorCode.SLOW_DOWN,
    description="too many authorizations wait for a person",
    reason=RefusalReason.TOO_MANY_PENDING,
    hint="DELETE those that are not needed any more; each ends by itself after ten minutes",
    headers=(("Retry-After", "30"),),
)


def consent_required(reason: str, hint: str) -> Problem:
    """Say that only a person can help, and how; *reason* is a closed code."""
    return Problem(
        status=409,
        error=ErrorCode.CONSENT_REQUIRED,
        description="a person has to consent",
        reason=reason,
        hint=hint,
        more=(("reason", reason),),
    )


def choice_refused(description: str, hint: str | None) -> Problem:
    """Say what a caller may choose of a consent; both texts are made of configured names."""
    return invalid(400, RefusalReason.CHOICE_REFUSED, description, hint=hint, close=False)


CONSTANT: Mapping[type[BrokerError], Problem] = {
    NotConsentedToError: NOT_CONSENTED_TO,
    NoSuchAuthorizationError: AUTHORIZATION_NOT_VISIBLE,
    WrongBindingError: BINDING_WRONG,
    NoSuchGrantError: GRANT_NOT_VISIBLE,
    TooManyPendingError: TOO_MANY_PENDING,
    NotRunningError: problems.DRAINING,
    SubjectMismatchError: SUBJECT_MISMATCH,
}
"""What is answered to errors that say all by being what they are."""


def problem_of(error: BrokerError) -> Problem:
    """Translate what ``broker.consent`` raises."""
    constant = CONSTANT.get(type(error))
    if constant is not None:
        return constant
    match error:
        case AskError():
            return choice_refused(error.message, error.hint)
        case FinishedError():
            return _finished(error)
        case NotAcceptedError():
            return problem_of(error.error)
        case CheckFailedError():
            return _check_failed(error)
        case RemoteError():
            return _remote(error)
        case _ if error.code == Reason.UNEXPECTED:
            return problems.unexpected(error.hint or "")
        case _:
            return _temporary(str(error.code), error.message, error.hint)


def _finished(error: FinishedError) -> Problem:
    more = {"state": error.state, "grant": error.grant, "reason": error.reason, "check": error.check}
    return Problem(
        status=410,
        error=ErrorCode.INVALID_REQUEST,
        description=error.message,
        reason=RefusalReason.AUTHORIZATION_FINISHED,
        hint="begin another one: token-broker login NAME, or POST /v1/authorizations" if error.grant is None else None,
        more=tuple((name, value) for name, value in more.items() if value is not None),
    )


def _check_failed(error: CheckFailedError) -> Problem:
    """
    Name the check, and nothing else.

    A response that fails is the caller's, a refusal the person's, the rest is the server's.
    """
    status, code = 502, ErrorCode.AUTHORIZATION_SERVER_ERROR
    if error.code == Reason.AUTHORIZATION_RESPONSE_INVALID:
        status, code = 400, ErrorCode.INVALID_REQUEST
    elif error.code == Reason.AUTHORIZATION_REFUSED and error.server_error in PERSONS_NO:
        status, code = 409, ErrorCode.CONSENT_REQUIRED
    return Problem(
        status=status,
        error=code,
        description=error.message,
        reason=str(error.code),
        hint=error.hint,
        server_error=error.server_error,
        headers=(("Retry-After", str(RETRY_AFTER)),) if status == 502 else (),
        more=(("reason", str(error.code)), ("check", error.check.value)),
    )


def _remote(error: RemoteError) -> Problem:
    """Translate: 502 where the server refuses the client, 503 for everything that may pass by itself."""
    hint = own_words(str(error.code), error.hint)
    if error.code == Reason.SERVER_REFUSED and error.server_error not in TEMPORARY_ERRORS:
        return Problem(
            status=502,
            error=ErrorCode.AUTHORIZATION_SERVER_ERROR,
            description="the authorization server refuses the request",
            reason=str(error.code),
            hint=hint,
            server_error=error.server_error,
            headers=(("Retry-After", str(RETRY_AFTER)),),
        )
    return _temporary(str(error.code), error.message, hint, retry_after=error.retry_after)


def _temporary(reason: str, message: str, hint: str | None, *, retry_after: float | None = None) -> Problem:
    seconds = RETRY_AFTER if retry_after is None else max(1, math.ceil(retry_after))
    return Problem(
        status=503,
        error=ErrorCode.TEMPORARILY_UNAVAILABLE,
        description=message,
        reason=reason,
        hint=hint,
        headers=(("Retry-After", str(seconds)),),
        more=(("reason", reason),),
    )
