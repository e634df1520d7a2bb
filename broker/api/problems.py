"""
Why a caller does not get what it asked for: the closed set of errors, and the one shape of all of them.

Every text here is a constant, or made of names from the configuration and of facts about the caller itself.
Nothing that came in a request goes into an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from broker.errors import BrokerError


class ErrorCode(StrEnum):
    """The member ``error`` of an answer."""

    INVALID_REQUEST = "invalid_request"
    INVALID_TOKEN = "invalid_token"  # noqa: S105 - the code of an error, not a secret
    ACCESS_DENIED = "access_denied"
    NOT_FOUND = "not_found"
    GRANT_REQUIRED = "grant_required"
    CONSENT_REQUIRED = "consent_required"
    SUBJECT_MISMATCH = "subject_mismatch"
    SLOW_DOWN = "slow_down"
    SERVER_ERROR = "server_error"
    AUTHORIZATION_SERVER_ERROR = "authorization_server_error"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"


class RefusalReason(StrEnum):
    """
    Why, finer than the error: for the audit log, never in an answer.

    Beside these there are the reasons of the policy (``policy.rules.Denial``) and, where there is no token,
    those of ``oauth.reasons.Reason``.
    """

    MALFORMED = "malformed"
    """Not HTTP, or HTTP that no two parsers would read alike."""
    VERSION_UNSUPPORTED = "version_unsupported"
    """Neither HTTP/1.0 nor HTTP/1.1; or HTTP/1.0, and the reply of an API needs HTTP/1.1."""
    HEADERS_TOO_LARGE = "headers_too_large"
    """Request line and headers are above 8 KiB."""
    HEADER_FORBIDDEN = "header_forbidden"
    """A header that a browser or a proxy adds."""
    HOST_REFUSED = "host_refused"
    """``Host`` is missing, or is none of those that are accepted."""
    SECRET_MISSING = "secret_missing"  # noqa: S105 - the code of a reason, not a secret
    """Over TCP, without the secret of the listener."""
    SECRET_WRONG = "secret_wrong"  # noqa: S105 - the code of a reason, not a secret
    """Over TCP, with another secret, or with several."""
    TARGET_REFUSED = "target_refused"
    """The request target is not a plain path."""
    ROUTE_UNKNOWN = "route_unknown"
    """No such route."""
    METHOD_NOT_ALLOWED = "method_not_allowed"
    """The route has other methods."""
    BODY_TOO_LARGE = "body_too_large"
    """The body is above 64 KiB."""
    BODY_NOT_ALLOWED = "body_not_allowed"
    """A body, for a route that takes none."""
    BODY_REFUSED = "body_refused"
    """The body is not the JSON object that the route takes."""
    MEDIA_TYPE_REFUSED = "media_type_refused"
    """The body does not say to be JSON, or is encoded."""
    EXPECTATION_REFUSED = "expectation_refused"
    """``Expect`` is something else than 100-continue."""
    CONDITION_REFUSED = "condition_refused"
    """``If-None-Match`` is not a list of entity tags."""
    CLIENT_NOT_VISIBLE = "client_not_visible"
    """There is no such client, or the caller has no token of it."""
    GRANT_NOT_VISIBLE = "grant_not_visible"
    """There is no such grant, or it is not the caller's."""
    AUTHORIZATION_NOT_VISIBLE = "authorization_not_visible"
    """There is no such authorization, or it is another workload's."""
    BINDING_WRONG = "binding_wrong"
    """The binding is that of another person, or made up; the answer is the same."""
    AUTHORIZATION_FINISHED = "authorization_finished"
    """The authorization is finished, or its code is being redeemed."""
    NOT_CONSENTED_TO = "not_consented_to"
    """A consent to a token that needs none."""
    CHOICE_REFUSED = "choice_refused"
    """A caller asked for a consent to more than the configuration of the token has, or to something else."""
    TOO_MANY_PENDING = "too_many_pending"
    """The cap on authorizations that wait for a person, in all or of this workload."""
    GRANT_REQUIRED = "grant_required"
    """The token has a grant for each person, and none was named."""
    NOT_DPOP = "not_dpop"
    """A proof for a token that is not bound to a key by DPoP."""
    RESOURCE_REFUSED = "resource_refused"
    """A proof for a URL that the token is not configured for, or that is an endpoint of its authorization server."""
    NONCE_UNKNOWN = "nonce_unknown"
    """A nonce that the API of the URL has not handed out to the broker within the last five minutes."""
    NO_PROOF = "no_proof"
    """The key of the token could not make a proof, or the URL could not be compared with the server's metadata."""
    OWNER_REFUSED = "owner_refused"
    """A grant was to be given to a workload that is not configured, or does not have its token."""
    NOT_OPERATOR = "not_operator"
    """Only root and the uid of the broker may do that."""
    QUERY_REFUSED = "query_refused"
    """A query parameter is unknown, repeated or out of range."""
    SECTION_UNKNOWN = "section_unknown"
    """What is said to be compromised is the name of no section, or of more than one."""
    NOT_PASSED_ON = "not_passed_on"
    """A call of an API with another method than those that are passed on, or one that wants another protocol."""
    TOKEN_IN_QUERY = "token_in_query"  # noqa: S105 - the code of a reason, not a secret
    """A call of an API with an ``access_token`` in its query."""
    TOO_SLOW = "too_slow"
    """The request did not arrive whole within its deadline."""
    TOO_MANY_CONNECTIONS = "too_many_connections"
    """The cap on connections, in all or of this uid."""
    CONNECTION_DROPPED = "connection_dropped"
    """As before, and closed without an answer: so many came that answering would cost too much."""
    TOO_MANY_WAITING = "too_many_waiting"
    """The cap on requests that wait, in all or of this uid."""
    TOO_MANY_CALLS = "too_many_calls"
    """The share of this uid in the connections to an API."""
    TOO_MANY_REQUESTS = "too_many_requests"
    """The cap on requests of this uid in a second."""
    DRAINING = "draining"
    """The broker is stopping."""
    AUDIT_UNAVAILABLE = "audit_unavailable"
    """The record of the token could not be written, so the token was not handed out."""
    NO_TOKEN = "no_token"  # noqa: S105 - the code of a reason, not a secret
    """There is no token yet, and no attempt has failed either."""
    UNEXPECTED = "unexpected"
    """A bug; an ``unexpected_failure`` event has the details."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    What is answered instead of what was asked for.

    *reason* goes to the audit log only; *headers* are added to the answer, *more* to its members; *close* ends
    the connection with it, because what follows on it cannot be trusted or is not wanted; without *linger* at once,
    for who is not known shall hold no place.
    """

    status: int
    error: ErrorCode
    description: str
    reason: str
    hint: str | None = None
    server_error: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    more: tuple[tuple[str, str], ...] = ()
    close: bool = False
    linger: bool = True


class ProblemError(BrokerError):
    """
    Carries a problem to the place where it is answered; *token* and *workload* as in ``RequestRefused``.

    *is_recorded*: an event of its own tells of the refusal, and of who was refused.
    """

    def __init__(
        self, problem: Problem, *, token: str | None = None, workload: str | None = None, is_recorded: bool = False
    ) -> None:
        super().__init__(problem.error, problem.description, hint=problem.hint)
        self.problem = problem
        self.token = token
        self.workload = workload
        self.is_recorded = is_recorded


def invalid(status: int, reason: RefusalReason, description: str, *, hint: str | None = None, close: bool) -> Problem:
    """Refuse a request as it is."""
    return Problem(
        status=status,
        error=ErrorCode.INVALID_REQUEST,
        description=description,
        reason=reason,
        hint=hint,
        close=close,
    )


MALFORMED = invalid(400, RefusalReason.MALFORMED, "the request is not well-formed HTTP/1.1", close=True)

VERSION_UNSUPPORTED = invalid(
    400, RefusalReason.VERSION_UNSUPPORTED, "the HTTP version is not supported", hint="use HTTP/1.1", close=True
)

HEADERS_TOO_LARGE = invalid(
    431, RefusalReason.HEADERS_TOO_LARGE, "request line and headers may have 8192 bytes in all", close=True
)

HEADER_FORBIDDEN = invalid(
    400,
    RefusalReason.HEADER_FORBIDDEN,
    "the request has a header that only browsers and proxies send",
    hint="call the socket directly, without Origin, Referer, Sec-Fetch-*, Forwarded, X-Forwarded-* and Via",
    close=False,
)

HOST_REFUSED = invalid(
    400,
    RefusalReason.HOST_REFUSED,
    "the Host is missing, or not one that is accepted",
    hint="send 'Host: localhost' (curl: --unix-socket PATH http://localhost/...)",
    close=False,
)

SECRET_MISSING = Problem(
    status=401,
    error=ErrorCode.INVALID_TOKEN,
    description="this listener wants its secret",
    reason=RefusalReason.SECRET_MISSING,
    hint="send 'Authorization: Bearer' with the content of the listener's secret_file",
    headers=(("WWW-Authenticate", 'Bearer realm="token-broker"'),),
    close=True,
    linger=False,
)
"""Without an error in the header: nothing was tried (RFC 6750 section 3.1)."""

SECRET_WRONG = replace(
    SECRET_MISSING,
    description="this is not the secret of the listener",
    reason=RefusalReason.SECRET_WRONG,
    hint="read the listener's secret_file again: the broker writes another secret at each start",
    headers=(("WWW-Authenticate", 'Bearer realm="token-broker", error="invalid_token"'),),
)

TARGET_REFUSED = invalid(
    400,
    RefusalReason.TARGET_REFUSED,
    "the request target is not a plain path",
    hint="no '..', '//', ';', '#' or backslash, no control characters, none of them percent-encoded",
    close=True,
)
"""It ends the connection: whoever wrote it may be reading paths otherwise, and what follows may be meant for others."""

BODY_TOO_LARGE = invalid(413, RefusalReason.BODY_TOO_LARGE, "the body may have 65536 bytes", close=True)

MEDIA_TYPE_REFUSED = invalid(
    415,
    RefusalReason.MEDIA_TYPE_REFUSED,
    "the body does not say to be JSON, or is encoded",
    hint="send 'Content-Type: application/json' and no Content-Encoding",
    close=True,
)

CONDITION_REFUSED = invalid(
    400,
    RefusalReason.CONDITION_REFUSED,
    "If-None-Match is not a list of entity tags",
    hint="send the ETag of an earlier answer as it was, with its W/ and its quotes",
    close=False,
)

EXPECTATION_REFUSED = invalid(
    400, RefusalReason.EXPECTATION_REFUSED, "Expect may be 100-continue and nothing else", close=True
)

BODY_NOT_ALLOWED = invalid(400, RefusalReason.BODY_NOT_ALLOWED, "the request may not have a body", close=True)

NOT_PASSED_ON = invalid(
    501,
    RefusalReason.NOT_PASSED_ON,
    "this is no plain call of an API",
    hint="GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS are passed on; no Upgrade, and no HTTP2-Settings",
    close=True,
)

FIELD_NOT_TEXT = invalid(
    400,
    RefusalReason.MALFORMED,
    "a header has bytes that are not UTF-8",
    hint="they would not reach the API as they are",
    close=True,
)

UNRECORDED = Problem(
    status=502,
    error=ErrorCode.UPSTREAM_ERROR,
    description="the call was made, and its record cannot be written: the reply is withheld",
    reason=RefusalReason.AUDIT_UNAVAILABLE,
    hint="do not make it again before you know what came of it",
    more=(("reason", RefusalReason.AUDIT_UNAVAILABLE.value),),
)
"""Without ``Retry-After``: who obeyed it would have a payment made twice."""

LENGTH_UNKNOWN = Problem(
    status=502,
    error=ErrorCode.UPSTREAM_ERROR,
    description="the call was made; the reply is large and does not say how long it is",
    reason=RefusalReason.VERSION_UNSUPPORTED,
    hint="use HTTP/1.1: over HTTP/1.0 nobody could tell whether such a reply is whole",
    more=(("reason", RefusalReason.VERSION_UNSUPPORTED.value),),
)

TOKEN_IN_QUERY = invalid(
    400,
    RefusalReason.TOKEN_IN_QUERY,
    "an access token in the query is not passed on",
    hint="leave access_token out: the broker adds the token where it belongs",
    close=True,
)

TOO_SLOW = invalid(408, RefusalReason.TOO_SLOW, "the request did not arrive in time", close=True)

ROUTE_UNKNOWN = Problem(
    status=404,
    error=ErrorCode.NOT_FOUND,
    description="there is no such route",
    reason=RefusalReason.ROUTE_UNKNOWN,
    hint="token-broker status (GET /v1/tokens) names the tokens of this caller",
)

RETRY_CONNECTING = ("Retry-After", "1")
"""Seconds after which a connection or a waiting request of the caller may have ended, and a rate is met again."""

TOO_MANY_CONNECTIONS = Problem(
    status=429,
    error=ErrorCode.SLOW_DOWN,
    description="too many connections are open",
    reason=RefusalReason.TOO_MANY_CONNECTIONS,
    hint="reuse connections, or close those that are not needed",
    headers=(RETRY_CONNECTING,),
    close=True,
)

CONNECTION_DROPPED = replace(TOO_MANY_CONNECTIONS, reason=RefusalReason.CONNECTION_DROPPED)

TOO_MANY_WAITING = Problem(
    status=429,
    error=ErrorCode.SLOW_DOWN,
    description="the request would have to wait, and too many wait already",
    reason=RefusalReason.TOO_MANY_WAITING,
    headers=(RETRY_CONNECTING,),
)

TOO_MANY_CALLS = Problem(
    status=429,
    error=ErrorCode.SLOW_DOWN,
    description="too many calls of this API are under way for this caller",
    reason=RefusalReason.TOO_MANY_CALLS,
    hint="read replies to their end; max_connections of the [upstream] section is the limit for all",
    headers=(RETRY_CONNECTING,),
)

TOO_MANY_REQUESTS = Problem(
    status=429,
    error=ErrorCode.SLOW_DOWN,
    description="too many requests in a second",
    reason=RefusalReason.TOO_MANY_REQUESTS,
    hint="keep a token until it is nearly spent instead of asking anew for each call",
    headers=(RETRY_CONNECTING,),
)

TOO_MANY_MISTAKES = replace(TOO_MANY_REQUESTS, close=True)
"""The same, for requests that were not understood: what follows them cannot be trusted."""

DRAINING = Problem(
    status=503,
    error=ErrorCode.TEMPORARILY_UNAVAILABLE,
    description="the broker is stopping",
    reason=RefusalReason.DRAINING,
    headers=(("Retry-After", "2"),),
    close=True,
)

AUDIT_UNAVAILABLE = Problem(
    status=503,
    error=ErrorCode.TEMPORARILY_UNAVAILABLE,
    description="the audit log cannot be written, and no token is handed out unrecorded",
    reason=RefusalReason.AUDIT_UNAVAILABLE,
    headers=(("Retry-After", "5"),),
)


def method_not_allowed(allowed: tuple[str, ...]) -> Problem:
    """Say which methods the route has."""
    problem = invalid(405, RefusalReason.METHOD_NOT_ALLOWED, "the route does not have this method", close=False)
    return replace(problem, headers=(("Allow", ", ".join(allowed)),))


def query_refused(hint: str) -> Problem:
    """Say which parameters the route has; *hint* is made of the route's own names and numbers."""
    return invalid(
        400,
        RefusalReason.QUERY_REFUSED,
        "a query parameter is unknown, repeated or out of range",
        hint=hint,
        close=False,
    )


def body_refused(hint: str) -> Problem:
    """Say what the route takes; *hint* is made of the route's own names."""
    return invalid(
        400,
        RefusalReason.BODY_REFUSED,
        "the body is not the JSON object that the route takes",
        hint=hint,
        close=True,
    )


def access_denied(reason: str, hint: str) -> Problem:
    """Deny, in the same words whether the token is foreign or does not exist."""
    return Problem(
        status=403,
        error=ErrorCode.ACCESS_DENIED,
        description="the policy does not give this to the caller",
        reason=reason,
        hint=hint,
    )


def unexpected(incident: str) -> Problem:
    """Own up to a bug; *incident* finds its line in the log."""
    return Problem(
        status=500,
        error=ErrorCode.SERVER_ERROR,
        description="an unexpected failure of the broker",
        reason=RefusalReason.UNEXPECTED,
        hint=f"its log has the details under incident {incident}",
        close=True,
    )
