"""
rules.md R1 as a table: what may have become of a request, for each way a call can end and each point it can end at.

A wrong ``not_sent`` sends a refresh token or a code twice, a wrong ``unknown`` parks a grant: every
combination is looked at, and none may be decided by the kind of the exception alone.
"""

from __future__ import annotations

import errno
import itertools
import ssl
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from broker.errors import Outcome, RemoteError
from broker.oauth.reasons import Reason
from broker.transport.failures import FOREIGN, NotHttpError, Progress, UnaskedAnswerError, translate
from tests.unit.transport.test_failures import alerted

KEY = ConnectionKey("as.test", 443, True, True, None, None, None)
REQUEST = cast("Any", SimpleNamespace(real_url="https://as.test/token"))

CERTIFICATE_REASONS = {Reason.CERTIFICATE_SUSPECTED, Reason.CERTIFICATE_EXPIRED}
PROXY_REASONS = {reason for reason in Reason if reason.startswith("proxy_")}


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def unverified() -> ssl.SSLCertVerificationError:
    refusal = ssl.SSLCertVerificationError(1, "refused")
    refusal.verify_code = 20
    return refusal


WITHOUT_A_CONNECTION: dict[str, Exception] = {
    "no address": aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "no such name")),
    "nobody listens": aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    "no route": aiohttp.ClientConnectorError(KEY, OSError(errno.ENETUNREACH, "unreachable")),
    "no connection in time": aiohttp.ConnectionTimeoutError(),
    "a certificate that is not trusted": aiohttp.ClientConnectorCertificateError(KEY, unverified()),
    "no common version": aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "handshake")),
    "a reset in the handshake": caused(
        aiohttp.ClientConnectorError(KEY, ConnectionResetError(errno.ECONNRESET, "reset")), ConnectionResetError()
    ),
    "nobody at the proxy": aiohttp.ClientProxyConnectionError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "no")),
    "the proxy says no": aiohttp.ClientHttpProxyError(REQUEST, (), status=403),
    "the proxy wants credentials": aiohttp.ClientHttpProxyError(REQUEST, (), status=407),
    "the proxy fails": aiohttp.ClientHttpProxyError(REQUEST, (), status=502),
}
"""What aiohttp raises only before there is a connection."""

ANYWHERE: dict[str, Exception] = {
    "an alert": alerted("TLSV1_ALERT_UNKNOWN_CA"),
    "an alert about other things": alerted("TLSV1_ALERT_PROTOCOL_VERSION"),
    "an alert of trouble": alerted("TLSV1_ALERT_INTERNAL_ERROR"),
    "the deadline": TimeoutError(),
    "a close without a word": aiohttp.ServerDisconnectedError(),
    "a reset": aiohttp.ClientOSError(errno.ECONNRESET, "reset"),
    "a broken pipe": aiohttp.ClientConnectionResetError(),
    "half a body": aiohttp.ClientPayloadError(),
    "not HTTP": aiohttp.ClientResponseError(REQUEST, ()),
    "HTTP for a while": NotHttpError(),
    "an answer that nobody asked for": UnaskedAnswerError(),
    "the end of a stream": aiohttp.EofStream(),
    "an error of the system": OSError(errno.EIO, "input/output error"),
}

ALERTS = {"an alert", "an alert about other things", "an alert of trouble"}
ALL = WITHOUT_A_CONNECTION | ANYWHERE


def points(name: str) -> Iterator[Progress]:
    """Give every point of a call at which *name* can end it."""
    flags = itertools.product((True, False), repeat=3)
    for secured, presents, proxied in flags:
        if presents and not secured:
            continue
        base = {"secured": secured, "presents_certificate": presents, "proxied": proxied}
        yield Progress(**base)
        if name in WITHOUT_A_CONNECTION:
            continue
        for reused in (False, True):
            on = {**base, "connected": True, "reused": reused}
            yield Progress(**on)
            yield Progress(**on, written=True)
            yield Progress(**on, written=True, status=200)
            yield Progress(**on, written=True, status=503)


CASES = [(name, progress) for name in ALL for progress in points(name)]


def failure(name: str, progress: Progress, *, expired: bool = False) -> RemoteError:
    error = ALL[name]
    assert isinstance(error, FOREIGN)
    return translate(error, progress, certificate_expired=expired)


def expected(name: str, progress: Progress) -> Outcome:
    """Say it in the words of the rule."""
    if not progress.written:
        return Outcome.NOT_SENT  # no byte of the request was written
    alert_came_first = name in ALERTS and not progress.reused and progress.status is None
    return Outcome.NOT_SENT if alert_came_first else Outcome.UNKNOWN  # everything else once a byte was written


@pytest.mark.parametrize("name", ALL)
def test_the_outcome_is_that_of_the_rule_at_every_point(name: str):
    """``refused`` and ``answered`` are no words of the transport: they take an answer."""
    for progress in points(name):
        assert failure(name, progress).outcome is expected(name, progress), progress


@pytest.mark.parametrize("name", ALL)
def test_only_a_certificate_that_was_presented_is_suspected(name: str):
    """At an alert, or a silent end at the first read of a fresh connection; ``not_after`` is looked at first."""
    for progress in points(name):
        error, expired = failure(name, progress), failure(name, progress, expired=True)

        assert (error.code == Reason.CERTIFICATE_SUSPECTED) == (expired.code == Reason.CERTIFICATE_EXPIRED)
        assert error.outcome is expired.outcome
        if error.code == Reason.CERTIFICATE_SUSPECTED:
            assert progress.secured
            assert progress.presents_certificate
            assert name in ALERTS or (not progress.reused and progress.status is None), progress


@pytest.mark.parametrize("name", ALL)
def test_a_proxy_is_to_blame_only_where_there_is_one_and_before_there_is_a_tunnel(name: str):
    """And then nothing was sent, and our certificate, which it never sees, is above suspicion."""
    for progress in points(name):
        error = failure(name, progress)
        if error.code in PROXY_REASONS:
            assert progress.proxied
            assert not progress.connected
            assert error.outcome is Outcome.NOT_SENT
        if progress.proxied and not progress.connected and name in {"a close without a word", "a reset"}:
            assert error.code in PROXY_REASONS


def test_the_table_is_whole():
    """Each kind that the package catches is in it, and each point."""
    assert len(CASES) == sum(6 if name in WITHOUT_A_CONNECTION else 54 for name in ALL)
