"""What a workload may ask for by name, and the values that come of it. Pure values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.oauth.secret import AccessToken

DEFAULT_LIFETIME = 300.0
"""Seconds that a token without ``expires_in`` is trusted: the shortest that the servers we know hand out."""


class Refresh(StrEnum):
    """When a token is fetched and refreshed."""

    EAGER = "eager"
    """From the start and ahead of its end, whether somebody asks or not."""
    ON_DEMAND = "on_demand"
    """Only when somebody asks: nobody asking, no request."""


class Grants(StrEnum):
    """How many people may consent to a token."""

    ONE = "one"
    """One: whoever asks for the token gets it."""
    MANY = "many"
    """Each has a grant of their own, which has to be named."""


class OnGrantLost(StrEnum):
    """What becomes of an access token whose grant the server has ended (rules.md R2.6)."""

    STOP = "stop"
    SERVE_UNTIL_EXPIRY = "serve_until_expiry"


class OnSubjectChange(StrEnum):
    """What becomes of an access token that a refresh brought and that is not the person's who consented."""

    CONSENT = "consent"
    """It is dropped, and a person has to consent again."""
    SERVE = "serve"
    """It is served, and nobody is looked up: for servers that are known to do so, where it does not matter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """
    What a token with ``grant_type = "authorization_code"`` asks of a person, and what is done with the grant.

    *authorization_details* (RFC 9396) and *claims* (OpenID Connect Core section 5.5) are written as JSON, so
    that the value is hashable. *max_age*, *keepalive* and *lifetime* in seconds: the last is how long a consent
    holds where that is known, *keepalive* how often a grant is refreshed that nobody uses. *userinfo*: the
    person is looked up once with the new token.
    """

    grants: Grants = Grants.ONE
    authorization_details: str | None = None
    claims: str | None = None
    acr_values: tuple[str, ...] = ()
    acr_required: bool = False
    prompt: tuple[str, ...] = ()
    max_age: int | None = None
    lifetime: float | None = None
    keepalive: float = 86_400.0
    on_grant_lost: OnGrantLost = OnGrantLost.STOP
    on_subject_change: OnSubjectChange = OnSubjectChange.CONSENT
    userinfo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec:
    """
    A ``[token.NAME]`` section: what to ask for and how.

    *client* is the name of the ``[client.NAME]`` section; *scope* keeps the order of the configuration;
    *resource* are RFC 8707 resource indicators; *parameters* are further form fields; *required* makes
    readiness depend on it and goes with an eager *refresh* only; *default_lifetime* in seconds stands in for a
    missing ``expires_in``. *consent* is there exactly where a person is asked. *dpop_resources* are the base URLs
    of the APIs that callers may have proofs for.
    """

    name: str
    client: str
    grant_type: str = "client_credentials"
    scope: tuple[str, ...] = ()
    resource: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    refresh: Refresh = Refresh.EAGER
    required: bool = False
    default_lifetime: float = DEFAULT_LIFETIME
    consent: Consent | None = None
    dpop_resources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """
    An access token that passed every check.

    *obtained_at* and *expires_at* are seconds of the boot clock, anchored at the start of the request;
    *expires_at_wall* is the same in Unix seconds, by the wall clock of that moment; *certificate_not_after* the
    end of the certificate it is bound to. *scope* is what was granted (as asked, if the server
    said nothing). *certificate_thumbprint* (``x5t#S256``) is that of the certificate the token is bound
    to, or None, *jkt* (RFC 7638) that of the DPoP key; *binding* is ``certificate``, ``dpop``, ``unverified`` or
    ``none``. *etag* is random for each token.
    """

    access_token: AccessToken
    token_type: str
    scope: tuple[str, ...]
    issuer: str
    obtained_at: float
    expires_at: float
    expires_at_wall: float
    generation: int
    etag: str
    fingerprint: str
    binding: str
    certificate_thumbprint: str | None
    jkt: str | None = None
    jti: str | None = None
    certificate_not_after: float | None = None

    def expires_at_by(self, *, boot: float, wall: float) -> float:
        """
        Give the Unix time of its end by the clocks as they are now.

        The wall clock may have been set since the token came; the deadline stands by the boot clock. Never
        later than the end of its certificate (rules.md R8).
        """
        at = wall + (self.expires_at - boot)
        return at if self.certificate_not_after is None else min(at, self.certificate_not_after)

    def left(self, *, boot: float, wall: float) -> float:
        """
        Give the seconds until its end: by the boot clock, and if its certificate ends before, by the wall clock.

        The one does not move when the wall clock is set. The other has to: the end of a certificate is a date.
        """
        left = self.expires_at - boot
        return left if self.certificate_not_after is None else min(left, self.certificate_not_after - wall)

    @property
    def ends_with_certificate(self) -> bool:
        """Say whether it would live longer if its certificate did."""
        return self.certificate_not_after is not None and self.expires_at_wall >= self.certificate_not_after

    @property
    def lifetime(self) -> float:
        """Seconds from request to expiry."""
        return self.expires_at - self.obtained_at

    def confirmation(self) -> dict[str, str | None] | None:
        """Give what the token says that it is bound to (RFC 7800), as far as that was seen."""
        match self.binding:
            case "certificate":
                return {"x5t#S256": self.certificate_thumbprint}
            case "dpop":
                certificate = self.certificate_thumbprint  # some servers bind to both
                return {"jkt": self.jkt, **({} if certificate is None else {"x5t#S256": certificate})}
            case _:
                return None
