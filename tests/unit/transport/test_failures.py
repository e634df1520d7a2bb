from __future__ import annotations

import errno
import socket
import ssl

import aiohttp
import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request
from broker.oauth.reasons import Reason
from broker.transport.failures import HINTS, MESSAGES, Progress, translate
from tests.fakes import HandClock
from tests.unit.transport import certificates
from tests.unit.transport.certificates import client_context, server_context
from tests.unit.transport.servers import OK, Connection, RawServer, answers_ok, refuses, serving, session

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
both_versions = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])


async def failure_at(
    server: RawServer,
    tls: ssl.SSLContext,
    *,
    host: str = "127.0.0.1",
    thumbprint: str | None = None,
    not_after: float | None = None,
    clock: HandClock | None = None,
) -> RemoteError:
    """Send a token request over TLS that must fail; *thumbprint* says that *tls* presents a certificate."""
    async with session(tls, thumbprint=thumbprint, not_after=not_after, clock=clock) as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(
                Request(method="POST", url=server.url(scheme="https", host=host), form=(("a", "b"),))
            )
    return caught.value


def facts(error: RemoteError) -> tuple[str, Outcome]:
    return error.code, error.outcome


@pytest.mark.real_time
async def test_nobody_listening_is_a_failed_connection():
    """The request was not sent."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = RawServer(answers_ok, port=listener.getsockname()[1])

    error = await failure_at(server, client_context())
    listener.close()

    assert facts(error) == (Reason.CONNECT_FAILED, Outcome.NOT_SENT)


@pytest.mark.real_time
@both_versions
async def test_a_server_of_an_unknown_ca_is_refused(version: ssl.TLSVersion):
    """No byte of the request goes to it, and the hint says where to name its CA."""
    async with serving(answers_ok, server_context(version=version)) as server:
        error = await failure_at(server, client_context(trusts=certificates.authority("other")))

        assert facts(error) == (Reason.SERVER_CERTIFICATE_REFUSED, Outcome.NOT_SENT)
        assert "ca_file" in (error.hint or "")


@pytest.mark.real_time
@both_versions
@pytest.mark.parametrize(("host", "days", "word"), [("elsewhere", 1, "other names"), ("localhost", -1, "expired")])
async def test_a_server_certificate_for_another_name_or_time_is_refused(
    version: ssl.TLSVersion, host: str, days: int, word: str
):
    """The hint says which of the two it is: they are mended in different places."""
    pair = certificates.issue("server", by=certificates.authority(), host=host, days=days)
    async with serving(answers_ok, server_context(pair, version=version)) as server:
        error = await failure_at(server, client_context(), host="localhost")

        assert facts(error) == (Reason.SERVER_CERTIFICATE_REFUSED, Outcome.NOT_SENT)
        assert word in (error.hint or "")


@pytest.mark.real_time
async def test_no_common_version_is_a_failed_handshake():
    """The alert came before our certificate was seen, so that is above suspicion."""
    async with serving(refuses(server_context(version=TLS_1_2))) as server:
        error = await failure_at(server, client_context(certificates.client(), version=TLS_1_3), thumbprint="t")

        assert facts(error) == (Reason.TLS_FAILED, Outcome.NOT_SENT)


@pytest.mark.real_time
@pytest.mark.parametrize("thumbprint", [None, "t"])
async def test_something_else_than_tls_is_a_failed_handshake(thumbprint: str | None):
    """A port that speaks plain HTTP."""

    async def handler(connection: Connection) -> None:
        await connection.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(handler) as server:
        error = await failure_at(server, client_context(certificates.client()), thumbprint=thumbprint)

        assert facts(error) == (Reason.TLS_FAILED, Outcome.NOT_SENT)


@pytest.mark.real_time
@both_versions
async def test_an_alert_puts_our_certificate_under_suspicion(version: ssl.TLSVersion):
    """With TLS 1.3 it comes after the handshake, when the request has been written: not sent all the same."""
    async with serving(refuses(server_context(mutual=True, version=version))) as server:
        error = await failure_at(server, client_context(certificates.stranger()), thumbprint="t")

        assert facts(error) == (Reason.CERTIFICATE_SUSPECTED, Outcome.NOT_SENT)
        assert "unknown_ca" in (error.hint or "")


@pytest.mark.real_time
@both_versions
async def test_an_alert_without_a_certificate_of_ours_is_a_failed_handshake(version: ssl.TLSVersion):
    """There is nothing to suspect; the hint says that one is missing."""
    async with serving(refuses(server_context(mutual=True, version=version))) as server:
        error = await failure_at(server, client_context())

        assert facts(error) == (Reason.TLS_FAILED, Outcome.NOT_SENT)
        assert "there is no client certificate" in (error.hint or "")


@pytest.mark.real_time
@pytest.mark.parametrize(("version", "outcome"), [(TLS_1_2, Outcome.NOT_SENT), (TLS_1_3, Outcome.UNKNOWN)])
async def test_a_certificate_refused_without_a_word_is_suspected(version: ssl.TLSVersion, outcome: Outcome):
    """asyncio's server drops its alert, as a reset does: with TLS 1.3 only a lost connection is seen."""
    async with serving(answers_ok, server_context(mutual=True, version=version)) as server:
        error = await failure_at(server, client_context(certificates.stranger()), thumbprint="t")

        assert facts(error) == (Reason.CERTIFICATE_SUSPECTED, outcome)
        assert server.heard == []


@pytest.mark.real_time
@both_versions
async def test_a_suspected_certificate_past_its_end_is_expired(version: ssl.TLSVersion):
    """``not_after`` is looked at first (rules.md R1)."""
    clock = HandClock()
    async with serving(refuses(server_context(mutual=True, version=version))) as server:
        pair = certificates.issue("old", by=certificates.authority(), days=-1)
        error = await failure_at(server, client_context(pair), thumbprint="t", not_after=clock.wall(), clock=clock)

        assert facts(error) == (Reason.CERTIFICATE_EXPIRED, Outcome.NOT_SENT)
        assert "renew" in (error.hint or "")


@pytest.mark.real_time
async def test_an_expired_certificate_is_not_to_blame_when_nobody_listens():
    """Only a suspicion makes the end of the certificate matter."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = RawServer(answers_ok, port=listener.getsockname()[1])

    error = await failure_at(server, client_context(certificates.client()), thumbprint="t", not_after=0.0)
    listener.close()

    assert error.code == Reason.CONNECT_FAILED


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("thumbprint", "reason"), [(None, Reason.CONNECTION_LOST), ("t", Reason.CERTIFICATE_SUSPECTED)]
)
async def test_a_connection_lost_at_its_first_read_is_suspicious_with_a_certificate_only(
    thumbprint: str | None, reason: Reason
):
    """The request was read, so its fate is unknown either way."""

    async def handler(connection: Connection) -> None:
        await connection.hear()

    async with serving(handler, server_context()) as server:
        error = await failure_at(server, client_context(certificates.client()), thumbprint=thumbprint)

        assert facts(error) == (reason, Outcome.UNKNOWN)


@pytest.mark.real_time
async def test_a_kept_connection_that_is_lost_is_not_suspicious():
    """The server had accepted the certificate on it."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(OK)
        await connection.hear()

    tls = client_context(certificates.client())
    async with serving(handler, server_context(mutual=True)) as server, session(tls, thumbprint="t") as connections:
        request = Request(method="POST", url=server.url(scheme="https"), form=())
        await connections.send(request)
        with pytest.raises(RemoteError) as caught:
            await connections.send(request)

        assert facts(caught.value) == (Reason.CONNECTION_LOST, Outcome.UNKNOWN)
        assert server.connections == 1


@pytest.mark.real_time
async def test_half_an_answer_is_not_suspicious():
    """A server that speaks has accepted the certificate."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(b"HTTP/1.1 200 OK\r\nContent-Le")

    async with serving(handler, server_context(mutual=True)) as server:
        error = await failure_at(server, client_context(certificates.client()), thumbprint="t")

        assert facts(error) == (Reason.CONNECTION_LOST, Outcome.UNKNOWN)


@pytest.mark.real_time
@pytest.mark.parametrize(("thumbprint", "reason"), [(None, Reason.TLS_FAILED), ("t", Reason.CERTIFICATE_SUSPECTED)])
async def test_a_reset_within_the_handshake_is_judged_like_one_after_it(thumbprint: str | None, reason: Reason):
    """A TLS 1.2 server that dislikes our certificate does the one, a 1.3 server the other."""

    async def handler(connection: Connection) -> None:
        await connection.reader.read(1)
        connection.reset()

    async with serving(handler) as server:
        error = await failure_at(server, client_context(certificates.client()), thumbprint=thumbprint)

        assert facts(error) == (reason, Outcome.NOT_SENT)


@pytest.mark.real_time
async def test_a_reset_without_tls_is_never_suspicious():
    """A certificate that is not presented cannot be refused."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        connection.reset()

    async with serving(handler) as server, session(thumbprint="t") as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(Request(method="POST", url=server.url(), form=()))

        assert facts(caught.value) == (Reason.CONNECTION_LOST, Outcome.UNKNOWN)


def alerted(name: str) -> aiohttp.ClientOSError:
    """Make what aiohttp raises when a connection ends with the alert *name*."""
    cause = ssl.SSLError(1, f"[SSL: {name}]")
    cause.reason = name
    error = aiohttp.ClientOSError(*cause.args)
    error.__cause__ = cause
    return error


def test_an_alert_on_a_kept_connection_leaves_the_fate_of_the_request_unknown():
    """Something had been answered on it, so the alert was not the first word, and the request may be processed."""
    progress = Progress(secured=True, presents_certificate=True, connected=True, reused=True, written=True)

    error = translate(alerted("TLSV1_ALERT_INTERNAL_ERROR"), progress, certificate_expired=False)

    assert facts(error) == (Reason.CERTIFICATE_SUSPECTED, Outcome.UNKNOWN)


def test_an_alert_within_an_answer_leaves_the_fate_of_the_request_unknown():
    """The server had processed the request far enough to answer it."""
    progress = Progress(secured=True, presents_certificate=True, connected=True, written=True, status=200)

    error = translate(alerted("TLSV1_ALERT_INTERNAL_ERROR"), progress, certificate_expired=False)

    assert (error.outcome, error.status) == (Outcome.UNKNOWN, 200)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), Reason.TIMED_OUT),
        (aiohttp.ConnectionTimeoutError(), Reason.CONNECT_FAILED),
        (aiohttp.ClientOSError(errno.ENETUNREACH, "unreachable"), Reason.CONNECT_FAILED),
        (aiohttp.ClientConnectionError(), Reason.CONNECT_FAILED),
        (aiohttp.EofStream(), Reason.CONNECT_FAILED),
    ],
)
def test_without_a_connection_nothing_was_sent(error: Exception, reason: Reason):
    """Whatever ended the attempt."""
    progress = Progress(secured=True, presents_certificate=True)

    assert facts(translate(error, progress, certificate_expired=False)) == (reason, Outcome.NOT_SENT)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), Reason.PROXY_TIMED_OUT),
        (aiohttp.ConnectionTimeoutError(), Reason.PROXY_TIMED_OUT),
        (aiohttp.ServerDisconnectedError(), Reason.PROXY_FAILED),
        (aiohttp.ClientOSError(errno.ECONNRESET, "reset"), Reason.PROXY_FAILED),
        (aiohttp.ClientPayloadError(), Reason.PROXY_FAILED),
    ],
)
def test_without_a_tunnel_the_proxy_is_named_and_nothing_was_sent(error: Exception, reason: Reason):
    """No suspicion falls on our certificate, which the proxy never sees."""
    progress = Progress(secured=True, presents_certificate=True, proxied=True)

    assert facts(translate(error, progress, certificate_expired=True)) == (reason, Outcome.NOT_SENT)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), Reason.TIMED_OUT),
        (aiohttp.ClientPayloadError(), Reason.CONNECTION_LOST),
        (aiohttp.ClientOSError(errno.ETIMEDOUT, "timed out"), Reason.CONNECTION_LOST),
        (aiohttp.ClientConnectionError(), Reason.CONNECTION_LOST),
        (aiohttp.EofStream(), Reason.CONNECTION_LOST),
        (OSError(errno.EIO, "input/output error"), Reason.CONNECTION_LOST),
    ],
)
def test_once_a_byte_is_written_the_fate_is_unknown(error: Exception, reason: Reason):
    """Whatever ended the call."""
    progress = Progress(secured=True, presents_certificate=True, connected=True, written=True)

    assert facts(translate(error, progress, certificate_expired=False)) == (reason, Outcome.UNKNOWN)


def test_every_reason_has_a_message_and_hints_are_for_known_reasons():
    """A reason without a message would be a KeyError in the middle of a failure."""
    assert set(HINTS) <= set(MESSAGES)
