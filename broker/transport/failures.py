"""
The one place where what aiohttp, ssl and the operating system raise becomes a ``RemoteError``.

What aiohttp raises holds URLs, headers and bytes of the peer, so nothing of it is kept: the caller raises
what ``translate`` returns ``from None``. The outcome (rules.md R1) does not come from the kind of the
exception, which does not tell, but from how far the call had come, which aiohttp's trace signals report.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from types import SimpleNamespace

import aiohttp

from broker.errors import Outcome, RemoteError
from broker.oauth.reasons import Reason
from broker.transport.resolver import AddressRefusedError


class UnaskedAnswerError(aiohttp.ClientConnectionError):
    """The server spoke on an idle connection: it would be taken for the answer to the next request."""


class NotHttpError(aiohttp.ClientError):
    """What the server says has the form of HTTP for a while only."""


FOREIGN = (aiohttp.ClientError, aiohttp.EofStream, OSError)
"""What a call of aiohttp raises when the other side, or the way to it, is at fault; ``TimeoutError`` is an OSError."""

REASONS: tuple[tuple[type[Exception], Reason], ...] = (
    (aiohttp.ClientConnectorDNSError, Reason.DNS_FAILED),
    (aiohttp.ClientConnectorSSLError, Reason.TLS_FAILED),
    (aiohttp.ConnectionTimeoutError, Reason.CONNECT_FAILED),  # a TimeoutError too
    (TimeoutError, Reason.TIMED_OUT),
    (aiohttp.ClientResponseError, Reason.PROTOCOL_VIOLATED),
    (NotHttpError, Reason.PROTOCOL_VIOLATED),
)
"""What the kind of the exception alone decides; the first row that fits counts."""

ALERT_NAMES = {
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "handshake_failure",
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad_certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "unsupported_certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "certificate_revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "certificate_expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "certificate_unknown",
    "TLSV1_ALERT_UNKNOWN_CA": "unknown_ca",
    "TLSV1_ALERT_ACCESS_DENIED": "access_denied",
    "TLSV1_ALERT_DECRYPT_ERROR": "decrypt_error",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "certificate_required",
}
"""From OpenSSL's names to those of RFC 8446 section 6.2: the alerts that tell an operator something."""

ALERTS_ABOUT_OTHER_THINGS = frozenset(
    {
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
        "TLSV1_UNRECOGNIZED_NAME",
    }
)
"""OpenSSL's names of the alerts that a server cannot mean our certificate by: it has not seen it yet."""

SERVER_CERTIFICATE_HINTS = {
    9: "the server's certificate is not valid yet: compare the clocks",
    10: "the server's certificate has expired: have it renewed, and see that this host's clock is right",
    62: "the server's certificate is for other names than the one in its URL",
    64: "the server's certificate is for other addresses than the one in its URL",
}
"""By OpenSSL's verification result (``X509_V_ERR_*``)."""

PROXY_ADDRESS_HINT = "the proxy is at an address that is never dialed: correct proxy of [issuer.NAME], or the DNS"

UNKNOWN_CA_HINT = "the server's certificate is not from a trusted CA: name its CA with ca_file of its section"

HINTS = {
    Reason.DNS_FAILED: "see that the name in the URL is right and that this host's name servers answer",
    Reason.ADDRESS_REFUSED: "the name leads to an address that is never dialed: correct the URL, or the DNS",
    Reason.CONNECT_FAILED: "see that the server is up, and that nothing between drops the connection",
    Reason.PROXY_UNREACHABLE: "see that proxy of [issuer.NAME] is right and that the proxy is up",
    Reason.PROXY_CREDENTIALS_REFUSED: "set proxy_credentials of [issuer.NAME], or correct the file that it names",
    Reason.PROXY_REFUSED: "have the server's host and port allowed at the proxy",
    Reason.PROXY_FAILED: "the proxy may not be able to resolve the server's name or to reach it: look at its log",
    Reason.PROXY_TIMED_OUT: "see that the proxy is up and that the server can be reached from it",
    Reason.TLS_FAILED: "the server offers no acceptable TLS, or asks for a client certificate where there is none",
    Reason.CERTIFICATE_EXPIRED: "the client's certificate has expired: renew it",
    Reason.CERTIFICATE_SUSPECTED: "the server may refuse the client's certificate: compare it with its registration, "
    "and its CA with those that the server accepts; a server in trouble can look the same",
}

MESSAGES = {
    Reason.DNS_FAILED: "the host's name could not be resolved",
    Reason.ADDRESS_REFUSED: "the host is at an address that is never dialed",
    Reason.CONNECT_FAILED: "no connection to the server",
    Reason.PROXY_UNREACHABLE: "no connection to the proxy",
    Reason.PROXY_CREDENTIALS_REFUSED: "the proxy does not accept the credentials, or wants some",
    Reason.PROXY_REFUSED: "the proxy does not let us through to the server",
    Reason.PROXY_FAILED: "the proxy made no tunnel to the server",
    Reason.PROXY_TIMED_OUT: "no tunnel through the proxy in time",
    Reason.SERVER_CERTIFICATE_REFUSED: "the server's certificate is refused",
    Reason.TLS_FAILED: "the TLS handshake failed",
    Reason.CERTIFICATE_SUSPECTED: "the server broke off, as servers do that refuse a client certificate",
    Reason.CERTIFICATE_EXPIRED: "the server broke off, and the client's certificate has expired",
    Reason.ENDPOINT_REFUSED: "the URL cannot be dialed",
    Reason.TIMED_OUT: "no whole answer before the deadline",
    Reason.CONNECTION_LOST: "the connection ended before the answer was whole",
    Reason.PROTOCOL_VIOLATED: "the answer is not HTTP",
    Reason.TOO_LARGE: "the answer is larger than any that we expect",
    Reason.ENCODED: "the answer is encoded, though identity was asked for",
}


@dataclass(slots=True, kw_only=True)
class Progress:
    """
    How far one call has come; aiohttp's trace signals keep it up to date.

    *secured*: over TLS. *presents_certificate*: with a client certificate. *proxied*: through a proxy.
    *connected*: the TLS handshake is complete too. *reused*: on a connection that has served a call before.
    *written*: a byte of the request may be on its way. *status*: of the answer, once its head is here.
    """

    secured: bool
    presents_certificate: bool
    proxied: bool = False
    connected: bool = False
    reused: bool = False
    written: bool = False
    status: int | None = None

    @property
    def outcome(self) -> Outcome:
        """What may have become of the request, if the failure does not say more."""
        return Outcome.UNKNOWN if self.written else Outcome.NOT_SENT

    @property
    def at_first_read(self) -> bool:
        """Whether the server has said nothing at all on this connection."""
        return not self.reused and self.status is None


def watch() -> aiohttp.TraceConfig:
    """Make the trace signals that keep the ``Progress`` given as ``trace_request_ctx``."""
    signals = aiohttp.TraceConfig()
    signals.on_connection_create_end.append(_created)
    signals.on_connection_reuseconn.append(_reused)
    signals.on_request_headers_sent.append(_writing)
    return signals


async def _created(_session: aiohttp.ClientSession, context: SimpleNamespace, _event: object) -> None:
    context.trace_request_ctx.connected = True


async def _reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _event: object) -> None:
    context.trace_request_ctx.connected = True
    context.trace_request_ctx.reused = True


async def _writing(_session: aiohttp.ClientSession, context: SimpleNamespace, _event: object) -> None:
    # The signal says "sent" and comes when the headers are handed over, just before the first byte is written.
    context.trace_request_ctx.written = True


def translate(error: Exception, progress: Progress, *, certificate_expired: bool) -> RemoteError:
    """
    Say in our words what *error*, one of ``FOREIGN``, means for a call that had come as far as *progress*.

    *certificate_expired*: our certificate is past its ``not_after``, which is the first thing to look at
    when it is under suspicion.
    """
    reason, hint = _verdict(error, progress)
    if reason is Reason.CERTIFICATE_SUSPECTED and certificate_expired:
        reason, hint = Reason.CERTIFICATE_EXPIRED, None
    outcome = progress.outcome
    if _alert(error) is not None and progress.at_first_read:
        # The server broke off the handshake, which to us seemed complete: it cannot have read a request.
        outcome = Outcome.NOT_SENT
    return refusal(reason, progress, outcome=outcome, hint=hint)


def refusal(
    reason: Reason, progress: Progress, *, outcome: Outcome | None = None, hint: str | None = None
) -> RemoteError:
    """Make the error for *reason*; *outcome* and *hint* only where they are not those of *progress* and *reason*."""
    return RemoteError(
        reason,
        MESSAGES[reason],
        outcome=outcome or progress.outcome,
        status=progress.status,
        hint=hint or HINTS.get(reason),
    )


def _verdict(error: Exception, progress: Progress) -> tuple[Reason, str | None]:
    """Give the reason, and a hint where the failure has a better one than its reason."""
    alert = _alert(error)
    if alert is not None:
        return _verdict_on_alert(alert, progress)
    if any(isinstance(link, AddressRefusedError) for link in _chain(error)):
        return Reason.ADDRESS_REFUSED, PROXY_ADDRESS_HINT if progress.proxied else None
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Reason.SERVER_CERTIFICATE_REFUSED, _server_certificate_hint(error.certificate_error)
    if progress.proxied and not progress.connected and not _is_of_the_handshake(error):
        return _verdict_on_tunnel(error)
    for kind, reason in REASONS:
        if isinstance(error, kind):
            return reason, None
    if not progress.connected:
        return _verdict_on_connecting(error, progress), None
    suspicious = progress.presents_certificate and progress.at_first_read and _is_reset(error)
    return Reason.CERTIFICATE_SUSPECTED if suspicious else Reason.CONNECTION_LOST, None


def _verdict_on_alert(alert: str, progress: Progress) -> tuple[Reason, str | None]:
    name = ALERT_NAMES.get(alert)
    said = f"the server's TLS alert says {name}" if name is not None else None
    if not progress.presents_certificate:
        return Reason.TLS_FAILED, f"{said}, and there is no client certificate" if said else None
    if alert in ALERTS_ABOUT_OTHER_THINGS:
        return Reason.TLS_FAILED, None
    return Reason.CERTIFICATE_SUSPECTED, f"{said}: {HINTS[Reason.CERTIFICATE_SUSPECTED]}" if said else None


def _is_of_the_handshake(error: Exception) -> bool:
    """Say whether the tunnel was there: aiohttp has errors of their own for the way to the proxy."""
    to_the_proxy = aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError
    return isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, to_the_proxy)


def _verdict_on_tunnel(error: Exception) -> tuple[Reason, str | None]:
    """Judge what ended a tunnel before it was there; the name that was not resolved here is the proxy's."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        reason = _reason_of_status(error.status)
        return reason, f"it answered CONNECT with {error.status}: {HINTS[reason]}"
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError):
        return Reason.PROXY_UNREACHABLE, None
    return Reason.PROXY_TIMED_OUT if isinstance(error, TimeoutError) else Reason.PROXY_FAILED, None


def _reason_of_status(status: int) -> Reason:
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return Reason.PROXY_CREDENTIALS_REFUSED
    return Reason.PROXY_REFUSED if 400 <= status < 500 else Reason.PROXY_FAILED


def _verdict_on_connecting(error: Exception, progress: Progress) -> Reason:
    """
    Judge what ended a connection before it was there.

    A listener that is not there refuses; one that resets did accept and broke off the handshake. A TLS 1.2
    server does that when it dislikes our certificate, a 1.3 server does the same a moment later.
    """
    if not (progress.secured and _is_reset(error)):
        return Reason.CONNECT_FAILED
    return Reason.CERTIFICATE_SUSPECTED if progress.presents_certificate else Reason.TLS_FAILED


def _is_reset(error: Exception) -> bool:
    """Say whether the peer ended the connection without a word; a part of an answer is a word."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)
    return any(isinstance(link, ConnectionResetError | BrokenPipeError) for link in _chain(error))


def _alert(error: Exception) -> str | None:
    """Give OpenSSL's name of the TLS alert that the peer sent, if that is what ended the connection."""
    for link in _chain(error):
        # aiohttp's own SSL errors derive from ssl's without having its attributes.
        name = getattr(link, "reason", None) if isinstance(link, ssl.SSLError) else None
        if isinstance(name, str) and ("_ALERT_" in name or name in ALERTS_ABOUT_OTHER_THINGS):
            return name
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Give *error* and its causes: aiohttp wraps, and keeps what it wrapped as the cause."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _server_certificate_hint(refusal: Exception) -> str:
    code = refusal.verify_code if isinstance(refusal, ssl.SSLCertVerificationError) else 0
    return SERVER_CERTIFICATE_HINTS.get(code, UNKNOWN_CA_HINT)
