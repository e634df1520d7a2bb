"""
What comes back with the browser (RFC 6749 section 4.1.2, RFC 9207), looked at in the order of rules.md R4.

Nothing is believed before ``iss`` and ``state`` are: not even an error. Values are compared in constant time
and never repeated.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from broker.oauth.answers import registered
from broker.oauth.checks import Check, CheckFailedError, response_invalid
from broker.oauth.endpoint_urls import NotAnEndpointUrlError, is_listed, parse_url
from broker.oauth.reasons import Reason
from broker.oauth.secret import AuthorizationCode

_CODE = re.compile(r"[\x20-\x7e]{1,4096}")
"""RFC 6749 appendix A.11: VSCHAR and spaces."""

_TOKENS = frozenset({"access_token", "id_token", "token_type"})
"""What a response to ``response_type=code`` never holds (AC-06)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """
    What a response has to be like.

    *issuer* as configured; *iss_required* where the server or the profile promises the parameter; *signed*
    where the parameters were taken from a JARM response, whose own ``iss`` stands for it (JARM section 4.1).
    *provider_hosts*: where a server leaves the login to others, what comes back is theirs, and ``iss`` may be any https
    URL on one of these.
    """

    issuer: str
    state: str = field(repr=False)
    iss_required: bool
    signed: bool = False
    provider_hosts: tuple[str, ...] = ()


def read_authorization_response(pairs: Sequence[tuple[str, str]], expected: Expected) -> AuthorizationCode:
    """
    Give the code, if every check passes.

    *pairs* are the decoded parameters of the query or the form, in their order. Raises CheckFailedError: with
    the reason ``authorization_refused`` where the server's error passed the checks before it.
    """
    members = only_once(pairs)
    if "response" in members or _TOKENS & members.keys():
        raise response_invalid(Check.RESPONSE_MODE if "response" in members else Check.RESPONSE_TYPE)
    _check_iss(members, expected)
    state = members.get("state")
    if state is None or not hmac.compare_digest(state.encode(), expected.state.encode()):
        raise response_invalid(Check.STATE)
    if "error" in members:
        raise _refused(members["error"])
    code = members.get("code")
    if code is None or not _CODE.fullmatch(code):
        raise response_invalid(Check.CODE)
    return AuthorizationCode(code)


def only_once(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Give the parameters by name. Raises CheckFailedError when one occurs twice, whichever it is."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise response_invalid(Check.REPEATED_PARAMETER)
    return members


def _check_iss(members: dict[str, str], expected: Expected) -> None:
    """Compare ``iss`` before anything else is looked at: it tells whether this server is meant at all (AC-05)."""
    iss = members.get("iss")
    if iss is None:
        if expected.iss_required and not expected.signed:
            raise response_invalid(Check.ISS)
        return
    is_issuer = hmac.compare_digest(iss.encode(), expected.issuer.encode())
    if not is_issuer and not _is_at(iss, expected.provider_hosts):
        raise response_invalid(Check.ISS)


def _is_at(iss: str, hosts: tuple[str, ...]) -> bool:
    """Say whether *iss* is an https URL on one of *hosts*, ``host`` or ``host:port``."""
    try:
        place = parse_url(iss)
    except NotAnEndpointUrlError:
        return False
    return place.scheme == "https" and is_listed(place, hosts)


def _refused(error: str) -> CheckFailedError:
    return CheckFailedError(
        Reason.AUTHORIZATION_REFUSED,
        Check.ERROR,
        message="the authorization server, or the person there, said no",
        server_error=registered(error),
    )
