"""
What an answer of an authorization server amounts to, before its content is looked at (rules.md R1).

One table for every endpoint: status, Content-Type and the OAuth error of RFC 6749 section 5.2 decide the
reason and the outcome. Nothing that a server writes gets out of here but a registered error code:
``error_description`` is not even read, because servers echo secrets in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from broker.errors import Outcome, RemoteError
from broker.oauth.dialect import STANDARD, Dialect
from broker.oauth.messages import Response
from broker.oauth.reasons import Reason
from broker.oauth.retry_after import parse_retry_after
from broker.oauth.strict_json import NotStrictJsonError, loads

UNRECOGNIZED = "unrecognized"
"""Stands for every ``error`` that is not registered: it may be free text, and free text may hold a secret."""

SERVER_ERRORS = frozenset({
    # RFC 6749 sections 4.1.2.1 and 5.2
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "invalid_scope", "access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable",
    # RFC 6750, RFC 7009, RFC 7591
    "invalid_token", "insufficient_scope", "unsupported_token_type", "invalid_redirect_uri",
    "invalid_client_metadata", "invalid_software_statement", "unapproved_software_statement",
    # RFC 8628
    "authorization_pending", "slow_down", "expired_token",
    # RFC 8707, RFC 9101 (RFC 9126 uses the same), RFC 9200, RFC 9396, RFC 9449, RFC 9470
    "invalid_target", "invalid_request_uri", "invalid_request_object", "request_not_supported",
    "request_uri_not_supported", "unsupported_pop_key", "incompatible_ace_profiles",
    "invalid_authorization_details", "invalid_dpop_proof", "use_dpop_nonce", "insufficient_user_authentication",
    # OpenID Connect Core, Unmet Authentication Requirements, CIBA
    "interaction_required", "login_required", "account_selection_required", "consent_required",
    "registration_not_supported", "unmet_authentication_requirements", "expired_login_hint_token",
    "unknown_user_id", "missing_user_code", "invalid_user_code", "invalid_binding_message", "transaction_failed",
})  # fmt: skip
"""The OAuth error codes that may appear in our logs, metrics and answers."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL | re.ASCII)

_NOT_HERE = (
    "nothing answers so at this URL: compare the endpoint, of the server's metadata or of its dialect, with what the"
    " server says of itself"
)
_HINTS: dict[str, str] = {
    Reason.NOT_JSON: "a login page or a proxy may have answered: fetch the URL by hand from this host",
    Reason.MALFORMED: "fetch the URL by hand from this host; some servers say nothing at all where PKCE fails: see"
    " pkce_transform of the dialect",
    Reason.REDIRECTED: "the URL may have moved, or a proxy wants a login: fetch it by hand from this host",
    "invalid_client": "the server does not accept the client authentication: compare client_id, signing key (kid, alg),"
    " certificate, client secret and assertion_audience with the registration, and the clock with the server's",
    "invalid_grant": "the code or the refresh token has ended, was withdrawn, or was given to another client; some"
    " servers say the same when the client's certificate is missing or another one",
    "invalid_dpop_proof": "the server does not accept the DPoP proof: compare this host's clock with the server's, and"
    " see whether something between us changes the URL that the server sees",
    "use_dpop_nonce": "the server wants another nonce in the DPoP proof than the one it has just handed out: it may be"
    " several servers that do not share them",
    "unauthorized_client": "the client is not registered for this grant type",
    "unsupported_grant_type": "the server does not offer this grant type",
    "invalid_scope": "the client is not registered for a scope of the token",
    "invalid_target": "the server does not know a resource or audience of the token",
}


def json_object(response: Response, *, wall_now: float | None) -> dict[str, Any]:
    """
    Give the JSON object of a 200; raises RemoteError for every other answer.

    *wall_now* in Unix seconds is needed for a ``Retry-After`` with a date; without it such a date is not
    understood.
    """
    if response.status != 200:
        raise _rejection(response, wall_now)
    if not response.body:
        raise _error(
            response, Reason.MALFORMED, Outcome.UNKNOWN, "the answer is empty, where a JSON object is expected"
        )
    if not _is_json(response):
        raise _error(response, Reason.NOT_JSON, Outcome.UNKNOWN, "the answer is not JSON")
    members = _members(response)
    if members is None:
        raise _error(response, Reason.MALFORMED, Outcome.UNKNOWN, "the answer is not a strict JSON object")
    return members


def invalid(message: str, *, reason: Reason = Reason.INVALID_RESPONSE, hint: str | None = None) -> RemoteError:
    """Make the error for a readable 200 that fails a check."""
    return RemoteError(reason, message, outcome=Outcome.ANSWERED, status=200, hint=hint)


def understood(response: Response, dialect: Dialect) -> Response:
    """
    Give an error answer in the standard's form: with ``error`` and nothing else, where *dialect* has it otherwise.

    The text that a server writes is compared with what the dialect knows, and goes no further. An answer that says
    nothing in the members that the dialect names, and any that is no error, comes out as it is.
    """
    is_standard = dialect.error_members == STANDARD.error_members and not dialect.error_codes
    members = None if is_standard or response.status < 400 else _members(response)
    texts = [] if members is None else [_at(members, path) for path in dialect.error_members]
    said = [text for text in texts if isinstance(text, str) and text]
    if not said:
        return response
    meant = (code for text in said for beginning, code in dialect.error_codes if text.startswith(beginning))
    error = next(meant, registered(said[0]))
    headers = {**response.headers, "content-type": "application/json"}
    return replace(response, headers=headers, body=json.dumps({"error": error}).encode())


def _at(members: dict[str, Any], path: str) -> Any:
    """Give what is at *path*, names with dots between them; None where nothing is."""
    found: Any = members
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def oauth_error(response: Response) -> str | None:
    """Give the ``error`` of an OAuth error response, made safe as by ``registered``; None if it is not one."""
    members = _members(response) if _is_json(response) else None
    error = members.get("error") if members is not None else None
    return registered(error) if isinstance(error, str) and error else None


def registered(error: str) -> str:
    """Give *error* if it is a registered code, else ``unrecognized``."""
    return error if error in SERVER_ERRORS else UNRECOGNIZED


def _rejection(response: Response, wall_now: float | None) -> RemoteError:
    """
    Judge an answer that is not 200.

    A 5xx is of unknown outcome even with an OAuth error in it: ``server_error`` is also what a server says
    that failed after it had processed the request.
    """
    error = oauth_error(response)
    wait = _retry_after(response, wall_now) if response.status in {429, 503} else None
    reason, outcome, message = _verdict(response.status, is_oauth_error=error is not None, says_when=wait is not None)
    return _error(response, reason, outcome, message, server_error=error, retry_after=wait)


def _verdict(status: int, *, is_oauth_error: bool, says_when: bool) -> tuple[Reason, Outcome, str]:
    """Give the row of the table for *status*."""
    if status == 429 or (status == 503 and says_when):
        return Reason.RATE_LIMITED, Outcome.REFUSED, "the server asks us to come later"
    if status >= 500:
        return Reason.SERVER_FAILED, Outcome.UNKNOWN, "the server failed"
    if status in _REDIRECTS:
        return Reason.REDIRECTED, Outcome.UNKNOWN, "the server redirects, which is not followed"
    if status >= 400 and is_oauth_error:
        return Reason.SERVER_REFUSED, Outcome.REFUSED, "the server refuses the request"
    return Reason.UNEXPECTED_STATUS, Outcome.UNKNOWN, "the status of the answer is unexpected"


def _error(
    response: Response,
    reason: Reason,
    outcome: Outcome,
    message: str,
    *,
    server_error: str | None = None,
    retry_after: float | None = None,
) -> RemoteError:
    return RemoteError(
        reason,
        message,
        outcome=outcome,
        status=response.status,
        server_error=server_error,
        retry_after=retry_after,
        hint=_HINTS.get(server_error or reason, _NOT_HERE if response.status in {404, 405} else None),
    )


def _is_json(response: Response) -> bool:
    return _JSON.fullmatch(response.headers.get("content-type", "").strip(" \t")) is not None


def _members(response: Response) -> dict[str, Any] | None:
    """Give the members of the body, or None if it is not one strict JSON object."""
    try:
        value = loads(response.body)
    except NotStrictJsonError:
        return None
    return value if isinstance(value, dict) else None


def _retry_after(response: Response, wall_now: float | None) -> float | None:
    value = response.headers.get("retry-after", "").strip(" \t")
    if wall_now is None:
        return parse_retry_after(value, wall_now=0.0) if value.isdecimal() else None
    return parse_retry_after(value, wall_now=wall_now)
