"""Through a proxy: a tunnel or nothing, no plain request, no secret shown to it; and who is at fault when it fails."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from broker.errors import Outcome, RemoteError
from broker.oauth.messages import Request
from broker.oauth.reasons import Reason
from broker.oauth.secret import BasicCredentials, ClientSecret
from broker.transport.proxy import Proxy
from broker.transport.resolver import Lookup, look_up
from tests.unit.transport import certificates
from tests.unit.transport.certificates import client_context, server_context
from tests.unit.transport.names import finds
from tests.unit.transport.proxies import ESTABLISHED, answers, proxying
from tests.unit.transport.servers import Connection, Handler, answers_ok, refuses, serving, session

pytestmark = pytest.mark.real_time

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CREDENTIALS = BasicCredentials("Basic Y2FuYXJ5OjQ3MTE=")


def post(url: str) -> Request:
    return Request(method="POST", url=url, form=(("a", "b"),), credential=ClientSecret("secret-0815"))


async def failure_through(
    proxy_url: str,
    target: str,
    tls: ssl.SSLContext | None = None,
    *,
    deadline: float = 5.0,
    lookup: Lookup = look_up,
) -> RemoteError:
    """Send a token request through a proxy; it must fail."""
    pair = tls or client_context(certificates.client())
    proxy = Proxy(url=proxy_url, credentials=CREDENTIALS)
    async with session(pair, thumbprint="t", proxy=proxy, deadline=deadline, lookup=lookup) as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(post(target))
    return caught.value


def facts(error: RemoteError) -> tuple[str, Outcome]:
    return error.code, error.outcome


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
async def test_the_request_goes_through_the_tunnel_with_our_certificate(version: ssl.TLSVersion):
    """The server requires it; the proxy sees CONNECT, then nothing but TLS, and one tunnel serves several calls."""
    context = server_context(mutual=True, version=version)
    async with serving(answers_ok, context) as server, proxying() as proxy:
        tls = client_context(certificates.client())
        async with session(tls, thumbprint="t", proxy=Proxy(url=proxy.url)) as connections:
            for _ in range(2):
                answer = await connections.send(post(server.url(scheme="https")))

                assert answer.status == 200

        assert server.connections == 1
        assert [head.splitlines()[0] for head in proxy.heads] == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]
        assert "authorization" not in proxy.heads[0].lower()
        assert proxy.firsts[0][:1] == b"\x16"  # a TLS handshake record
        assert b"secret-0815" not in proxy.firsts[0]


async def test_credentials_go_to_the_proxy_and_not_to_the_server():
    """They are the proxy's."""
    async with serving(answers_ok, server_context()) as server, proxying() as proxy:
        connection = Proxy(url=proxy.url, credentials=CREDENTIALS)
        async with session(proxy=connection) as connections:
            await connections.send(post(server.url(scheme="https")))

        assert "proxy-authorization: Basic Y2FuYXJ5OjQ3MTE=\r\n" in proxy.heads[0]
        assert "user-agent: token-broker/" in proxy.heads[0]
        assert b"uthorization" not in server.heard[0].head
        assert "Y2FuYXJ5OjQ3MTE" not in repr(connection)


async def test_the_name_of_the_server_is_resolved_by_the_proxy():
    """Only the proxy knows it: nobody here is asked about it."""
    async with serving(answers_ok, server_context()) as server, proxying() as proxy:
        asked: list[str] = []

        def lookup(host: str, port: int, family: int) -> object:
            asked.append(host)
            return finds("127.0.0.1", port=port)(host, port, family)

        url = proxy.url.replace("127.0.0.1", "proxy.test")
        async with session(proxy=Proxy(url=url), lookup=lookup) as connections:  # type: ignore[arg-type]  # a spy
            await connections.send(post(server.url(scheme="https", host="localhost")))

        assert asked == ["proxy.test"]
        assert proxy.heads[0].startswith(f"CONNECT localhost:{server.port} ")


async def test_a_plain_request_is_not_shown_to_a_proxy():
    """Nothing is dialed."""
    async with proxying() as proxy, serving(answers_ok) as server:
        error = await failure_through(proxy.url, server.url())

        assert facts(error) == (Reason.ENDPOINT_REFUSED, Outcome.NOT_SENT)
        assert (proxy.heads, server.connections) == ([], 0)


@pytest.mark.parametrize("host", ["169.254.169.254", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"])
async def test_a_proxy_at_an_address_that_is_never_dialed_is_refused(host: str):
    """The rule holds for the proxy as for a server."""
    error = await failure_through(f"http://{host}:3128", "https://as.example.com/token")

    assert facts(error) == (Reason.ADDRESS_REFUSED, Outcome.NOT_SENT)
    assert "proxy of [issuer.NAME]" in (error.hint or "")


async def test_a_proxy_whose_name_leads_to_such_an_address_is_refused():
    """Whoever can change the DNS cannot have the credentials sent to a metadata service."""
    error = await failure_through("http://proxy.test:3128", "https://as.test/token", lookup=finds("169.254.169.254"))

    assert facts(error) == (Reason.ADDRESS_REFUSED, Outcome.NOT_SENT)
    assert "proxy of [issuer.NAME]" in (error.hint or "")


async def test_a_server_at_such_an_address_is_refused_before_the_proxy_is_asked():
    """Names are the proxy's to judge; an address in a URL is still ours."""
    async with proxying() as proxy:
        error = await failure_through(proxy.url, "https://169.254.169.254/token")

        assert facts(error) == (Reason.ADDRESS_REFUSED, Outcome.NOT_SENT)
        assert proxy.heads == []


async def test_nobody_at_the_proxys_port_is_an_unreachable_proxy():
    """It is not the server that is down."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        error = await failure_through(f"http://127.0.0.1:{listener.getsockname()[1]}", "https://as.test/token")

    assert facts(error) == (Reason.PROXY_UNREACHABLE, Outcome.NOT_SENT)


async def test_a_proxy_without_an_address_is_unreachable():
    """The name that has none is the proxy's."""

    def lookup(host: str, port: int, family: int) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    error = await failure_through("http://proxy.test:1", "https://as.test/token", lookup=lookup)  # type: ignore[arg-type]  # raises

    assert facts(error) == (Reason.PROXY_UNREACHABLE, Outcome.NOT_SENT)


async def closes(connection: Connection) -> None:
    await connection.hear()


async def resets(connection: Connection) -> None:
    await connection.hear()
    connection.reset()


async def speaks_something_else(connection: Connection) -> None:
    await connection.say(b"220 mail.example.com ESMTP\r\n")


async def says_half(connection: Connection) -> None:
    await connection.hear()
    await connection.say(b"HTTP/1.1 20")


async def never_ends_its_head(connection: Connection) -> None:
    await connection.hear()
    await connection.say(b"HTTP/1.1 200 OK\r\n")
    while True:
        await connection.say(b"A: b\r\n" * 1_000)


async def floods(connection: Connection) -> None:
    """Say one interim answer after the other, for ever and without a turn of the loop."""
    await connection.hear()
    while True:
        await connection.say(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)


FAULTS: dict[str, tuple[Handler, Reason, str]] = {
    "407": (
        answers(b"407 Proxy Authentication Required", b'Proxy-Authenticate: Basic realm="canary-4711"\r\n'),
        Reason.PROXY_CREDENTIALS_REFUSED,
        "proxy_credentials",
    ),
    "403": (answers(b"403 Forbidden"), Reason.PROXY_REFUSED, "403"),
    "405": (answers(b"405 Method Not Allowed"), Reason.PROXY_REFUSED, "allowed at the proxy"),
    "429": (answers(b"429 canary-4711"), Reason.PROXY_REFUSED, "429"),
    "502: the name is not resolvable there": (answers(b"502 Bad Gateway"), Reason.PROXY_FAILED, "502"),
    "503": (answers(b"503 canary-4711"), Reason.PROXY_FAILED, "resolve the server's name"),
    "504": (answers(b"504 Gateway Timeout"), Reason.PROXY_FAILED, "504"),
    "a redirect": (answers(b"302 Found", b"Location: http://127.0.0.1:1/canary-4711\r\n"), Reason.PROXY_FAILED, "302"),
    "another success": (answers(b"204 No Content"), Reason.PROXY_FAILED, "204"),
    "closes without a word": (closes, Reason.PROXY_FAILED, "its log"),
    "resets": (resets, Reason.PROXY_FAILED, "its log"),
    "is no proxy": (speaks_something_else, Reason.PROXY_FAILED, ""),
    "half an answer": (says_half, Reason.PROXY_FAILED, ""),
    "no end of interim answers": (floods, Reason.PROXY_FAILED, ""),
    "an endless head": (never_ends_its_head, Reason.PROXY_FAILED, ""),
}


@pytest.mark.parametrize(("handler", "reason", "said"), FAULTS.values(), ids=FAULTS.keys())
async def test_what_a_proxy_does_wrong_is_named_and_nothing_was_sent(handler: Handler, reason: Reason, said: str):
    """Never ambiguous, never a suspicion against our certificate, and no word of the proxy in it."""
    async with serving(handler) as proxy:
        error = await failure_through(f"http://127.0.0.1:{proxy.port}", "https://as.test/token")

        assert facts(error) == (reason, Outcome.NOT_SENT)
        assert error.status is None
        assert said in (error.hint or "")
        assert "4711" not in f"{error!r} {error} {error.hint}"
        assert proxy.connections == 1


async def test_a_proxy_that_does_not_answer_is_a_time_out_of_the_proxy():
    """Nothing was sent."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await asyncio.sleep(60)

    async with serving(handler) as proxy:
        error = await failure_through(f"http://127.0.0.1:{proxy.port}", "https://as.test/token", deadline=0.2)

        assert facts(error) == (Reason.PROXY_TIMED_OUT, Outcome.NOT_SENT)


async def test_a_server_that_is_silent_behind_the_proxy_is_a_time_out_too():
    """From here it cannot be told who of the two is silent."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(ESTABLISHED)
        await asyncio.sleep(60)

    async with serving(handler) as proxy:
        error = await failure_through(f"http://127.0.0.1:{proxy.port}", "https://as.test/token", deadline=0.2)

        assert facts(error) == (Reason.PROXY_TIMED_OUT, Outcome.NOT_SENT)


async def test_the_certificate_of_the_server_is_checked_through_the_tunnel():
    """A proxy that answers in the server's place is refused."""
    async with serving(answers_ok, server_context()) as server, proxying() as proxy:
        tls = client_context(trusts=certificates.authority("other"))
        error = await failure_through(proxy.url, server.url(scheme="https"), tls)

        assert facts(error) == (Reason.SERVER_CERTIFICATE_REFUSED, Outcome.NOT_SENT)
        assert server.heard == []


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
async def test_an_alert_through_the_tunnel_suspects_our_certificate(version: ssl.TLSVersion):
    """As without a proxy: the server said it, not the proxy."""
    async with serving(refuses(server_context(mutual=True, version=version))) as server, proxying() as proxy:
        error = await failure_through(proxy.url, server.url(scheme="https"), client_context(certificates.stranger()))

        assert facts(error) == (Reason.CERTIFICATE_SUSPECTED, Outcome.NOT_SENT)
        assert "unknown_ca" in (error.hint or "")


async def test_a_tunnel_that_ends_in_the_handshake_is_judged_like_a_connection_that_does():
    """A server that dislikes our certificate looks like that."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(ESTABLISHED)
        await connection.reader.read(1)
        connection.reset()

    async with serving(handler) as proxy:
        error = await failure_through(f"http://127.0.0.1:{proxy.port}", "https://as.test/token")

        assert facts(error) == (Reason.CERTIFICATE_SUSPECTED, Outcome.NOT_SENT)


async def test_a_tunnel_that_ends_after_the_request_leaves_its_fate_unknown():
    """What was written may have been read."""

    async def handler(connection: Connection) -> None:
        await connection.hear()

    async with serving(handler, server_context()) as server, proxying() as proxy:
        error = await failure_through(proxy.url, server.url(scheme="https"))

        assert error.outcome is Outcome.UNKNOWN
        assert error.code == Reason.CERTIFICATE_SUSPECTED


async def test_closing_leaves_no_tunnel_open():
    """Neither an idle one nor the connection beneath it outlives the session."""
    async with serving(answers_ok, server_context()) as server, proxying() as proxy:
        async with session(proxy=Proxy(url=proxy.url)) as connections:
            await connections.send(post(server.url(scheme="https")))

            assert len(connections._connections._sockets.open()) == 1
        assert connections._connections._sockets.open() == []


async def test_a_proxy_that_speaks_tls_would_be_shown_our_certificate():
    """Why the configuration refuses https proxies: aiohttp has one SSL context for both. Fails when it has two."""
    shown: list[object] = []

    async def handler(connection: Connection) -> None:
        shown.append(connection.writer.get_extra_info("peercert"))
        await connection.hear()
        await connection.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with serving(handler, server_context(mutual=True)) as proxy:
        error = await failure_through(f"https://127.0.0.1:{proxy.port}", "https://as.test/token")

    assert error.code == Reason.PROXY_REFUSED
    assert len(shown) == 1
    assert shown[0]
