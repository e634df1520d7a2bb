"""
The checks that an authorization response, an ID token or a userinfo answer can fail.

A failed check ends the flow, and its name is all that anybody is told of it: no value of the response, no
claim, no code. The names are stable: they are in answers, events and audit records.
"""

from __future__ import annotations

from enum import StrEnum

from broker.errors import Outcome, RemoteError
from broker.oauth.reasons import Reason


class Check(StrEnum):
    """What was looked at when it failed."""

    # The authorization response (RFC 6749 section 4.1.2, RFC 9207, JARM).
    REDIRECT_URI = "redirect_uri"
    """It came to another address than the one that was sent with the request."""
    REPEATED_PARAMETER = "repeated_parameter"
    RESPONSE_MODE = "response_mode"
    """It came in another mode than was asked for."""
    RESPONSE_TYPE = "response_type"
    """It holds a token, which nobody asked for."""
    ISS = "iss"
    STATE = "state"
    ERROR = "error"
    """The server said no, in a form that is no OAuth error."""
    CODE = "code"
    # The redirect of an authorization endpoint that we call ourselves (``provider_redirect``).
    LOCATION = "location"
    """There is none, or it leads where nobody logs in."""
    # Whatever is signed: ID tokens (OpenID Connect Core section 3.1.3.7), JARM responses.
    SIGNED_FORM = "signed_form"
    """It is no compact JWS of strict JSON."""
    ALG = "alg"
    KEY = "key"
    """The server publishes no key that fits."""
    SIGNATURE = "signature"
    SIGNED_ISS = "signed_iss"
    AUD = "aud"
    AZP = "azp"
    EXP = "exp"
    IAT = "iat"
    NBF = "nbf"
    SUB = "sub"
    NONCE = "nonce"
    AT_HASH = "at_hash"
    AUTH_TIME = "auth_time"
    ACR = "acr"
    CLAIMS = "claims"
    """An essential claim has another value than was asked for."""
    # What the token response has to hold.
    ID_TOKEN = "id_token"  # noqa: S105 - the name of a check
    """There is none, although ``openid`` was asked for."""
    # Userinfo (OpenID Connect Core section 5.3.2).
    USERINFO_SUB = "userinfo_sub"


class CheckFailedError(RemoteError):
    """*check* failed; the code is the reason, one for each kind of document."""

    def __init__(
        self,
        reason: Reason,
        check: Check,
        *,
        message: str = "a check failed",
        server_error: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason, message, outcome=Outcome.ANSWERED, server_error=server_error, hint=hint)
        self.check = check


def response_invalid(check: Check) -> CheckFailedError:
    """Make the error for an authorization response."""
    return CheckFailedError(
        Reason.AUTHORIZATION_RESPONSE_INVALID, check, message="the authorization response failed a check"
    )
