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
from types import SimpleNamespace

import aiohttp

from broker.errors import Outcome, RemoteError
from broker.oauth.reasons import Reason
from broker.transport.resolver import AddressRefusedError

ALERTS_ABOUT_OTHER_THINGS = frozenset(
    {
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_INAPPROPRIATE_FALLBACK",
        "SSLV3_ALERT_UNEXPECTED_MESSAGE",
        "TLSV1_ALERT_NO_RENEGOTIATION",
    }
)
"""OpenSSL's names of the alerts (RFC 8446 section 6.2) that a server cannot mean our certificate by."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """
    How far one call has come; aiohttp's trace signals keep it up to date.

    *presents_certificate*: over TLS, with a client certificate. *reused*: on a connection that had served
    a call before. *written*: aiohttp was about to write the first byte, so that one may be on its way.
    *status*: of the answer, once its head has arrived.
    """

    presents_certificate: bool
    reused: bool = False
    connected: bool = False
    written: bool = False
    status: int | None = None

    @property
    def outcome(self) -> Outcome:
        """What may have become of the request if nothing more is known."""
        return Outcome.UNKNOWN if self.written else Outcome.NOT_SENT


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
    # aiohttp says "sent" when it hands the headers to its writer, just before the first byte is written.
    context.trace_request_ctx.written = True


def translate(error: Exception, progress: Progress, *, certificate_expired: bool) -> RemoteError:
    """Say in our words what *error* means for a call that had come as far as *progress*."""
    if progress.connected:
        return _while_talking(error, progress, certificate_expired=certificate_expired)
    return _while_connecting(error, progress, certificate_expired=certificate_expired)


def _while_connecting(error: Exception, progress: Progress, *, certificate_expired: bool) -> RemoteError:
    return RemoteError(Reason.CONNECT_FAILED, "no connection", outcome=Outcome.NOT_SENT)


def _while_talking(error: Exception, progress: Progress, *, certificate_expired: bool) -> RemoteError:
    return RemoteError(Reason.CONNECTION_LOST, "the connection was lost", outcome=progress.outcome)
