from __future__ import annotations

import asyncio
import select
import socket
import threading
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from broker.errors import Outcome, RemoteError
from broker.oauth.dpop import nonce_of
from broker.oauth.messages import Request, Response
from broker.oauth.reasons import Reason
from broker.oauth.secret import AccessToken, BasicCredentials, ClientAssertion, ClientSecret, DpopProof, RefreshToken
from broker.transport.connections import _OrderlyRequest
from tests.fakes import HandClock
from tests.unit.transport.certificates import client, client_context, server_context
from tests.unit.transport.servers import OK, Connection, answers_ok, says, serving, session

RequestOf = Callable[[str], Request]

pytestmark = pytest.mark.real_time


def post(url: str, *form: tuple[str, str], assertion: str | None = None) -> Request:
    secret = ClientAssertion(assertion) if assertion else None
    return Request(method="POST", url=url, form=form or (("grant_type", "client_credentials"),), credential=secret)


def answer_and_close(listener: socket.socket, served: list[bytes], times: int) -> None:
    """Be a server in a thread that ends each connection right after its answer, without a word in it."""
    for _ in range(times):
        connection, _address = listener.accept()
        with connection:
            served.append(connection.recv(65_536))
            connection.sendall(OK)


def get(url: str) -> Request:
    return Request(method="GET", url=url)


async def test_only_the_headers_that_we_set_go_out():
    """No cookie, no compression, no header of aiohttp's own choice."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(post(server.url()))

        assert server.heard[0].headers() == {
            "host": f"127.0.0.1:{server.port}",
            "accept": "application/json",
            "user-agent": "token-broker/0.1.0",
            "accept-encoding": "identity",
            "content-type": "application/x-www-form-urlencoded",
            "content-length": "29",
        }


async def test_a_get_has_neither_body_nor_content_type():
    """What is not a form says nothing about a body."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(get(server.url("/.well-known/openid-configuration")))

        assert set(server.heard[0].headers()) == {"host", "accept", "user-agent", "accept-encoding"}
        assert server.heard[0].head.startswith(b"GET /.well-known/openid-configuration HTTP/1.1\r\n")


async def test_a_draft_cannot_ask_for_compression():
    """A header of the request is sent, but for those that are the transport's."""
    async with serving(answers_ok) as server, session() as connections:
        headers = {"Accept": "application/jwt", "Accept-Encoding": "gzip"}
        await connections.send(Request(method="GET", url=server.url(), headers=headers))

        assert server.heard[0].headers()["accept"] == "application/jwt"
        assert server.heard[0].headers()["accept-encoding"] == "identity"


async def test_a_form_keeps_order_and_repetitions_and_ends_with_the_assertion():
    """RFC 6749 appendix B: form encoding of UTF-8; ``resource`` may occur twice (RFC 8707)."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(post(server.url(), ("resource", "a b"), ("resource", "ü&="), assertion="h.c.s"))

        assert server.heard[0].body == (
            b"resource=a+b&resource=%C3%BC%26%3D"
            b"&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
            b"&client_assertion=h.c.s"
        )


async def test_a_client_secret_is_the_last_field_of_the_form_or_a_header():
    """Encoded as every field is; a header that the request names otherwise gives way to the credential."""
    async with serving(answers_ok) as server, session() as connections:
        for credential in (ClientSecret("a b+%"), BasicCredentials("Basic YTpi")):
            await connections.send(
                Request(
                    method="POST",
                    url=server.url(),
                    headers={"Authorization": "Bearer other"} if isinstance(credential, BasicCredentials) else {},
                    form=(("scope", "a"),),
                    credential=credential,
                )
            )

        in_form, in_header = server.heard
        assert in_form.body == b"scope=a&client_secret=a+b%2B%25"
        assert "authorization" not in in_form.headers()
        assert in_header.body == b"scope=a"
        assert in_header.headers()["authorization"] == "Basic YTpi"


async def test_secret_fields_come_after_the_form_and_before_the_credential():
    """A refresh token or a code is a field like others on the wire; an access token goes into the header."""
    async with serving(answers_ok) as server, session() as connections:
        request = Request(
            method="POST",
            url=server.url(),
            form=(("grant_type", "refresh_token"),),
            secret_fields=(("refresh_token", RefreshToken("a b")),),
            credential=ClientSecret("c"),
        )

        await connections.send(request)
        await connections.send(Request(method="GET", url=server.url(), credential=AccessToken("at")))

        assert server.heard[0].body == b"grant_type=refresh_token&refresh_token=a+b&client_secret=c"
        assert server.heard[1].headers()["authorization"] == "Bearer at"


async def test_a_url_is_called_exactly_as_it_is_written():
    """The audience of an assertion may be this URL: no quoting, no normalizing."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(post(server.url("/a%2Fb/%7Ec?x=%41+%20")))

        assert server.heard[0].head.startswith(b"POST /a%2Fb/%7Ec?x=%41+%20 HTTP/1.1\r\n")


async def test_an_answer_has_lower_case_headers_and_the_first_value_of_each():
    """A second Content-Type cannot override the first."""
    data = b"HTTP/1.1 400 Bad\r\nX-A: one\r\nx-a: two\r\nContent-Length: 4\r\n\r\n\xff\x00{}"
    async with serving(says(data)) as server, session() as connections:
        answer = await connections.send(post(server.url()))

        assert answer.status == 400
        assert answer.headers == {"x-a": "one", "content-length": "4"}
        assert answer.body == b"\xff\x00{}"


async def test_challenges_and_nonces_are_told_whole():
    """Each challenge counts, and of two nonces none does: the first of two would be a guess."""
    fields = b"WWW-Authenticate: Bearer\r\nwww-authenticate: DPoP x=y\r\nDPoP-Nonce: a\r\nDPoP-Nonce: b\r\n"
    data = b"HTTP/1.1 401 No\r\n" + fields + b"Content-Length: 0\r\n\r\n"
    async with serving(says(data)) as server, session() as connections:
        answer = await connections.send(post(server.url()))

        assert answer.headers["www-authenticate"] == "Bearer, DPoP x=y"
        assert answer.headers["dpop-nonce"] == "a, b"
        assert nonce_of(answer.headers.items()) is None


async def test_a_proof_goes_out_as_a_header():
    """Beside the credential, and with a token as its scheme wants it."""
    proof = DpopProof("the.proof")
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(replace(post(server.url()), proof=proof))
        await connections.send(Request(method="GET", url=server.url(), credential=AccessToken("at"), proof=proof))

        first, second = (heard.headers() for heard in server.heard)
        assert first["dpop"] == second["dpop"] == "the.proof"
        assert "authorization" not in first
        assert second["authorization"] == "DPoP at"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("request_of", [post, get])
async def test_a_redirect_is_an_answer_and_is_never_followed(status: int, request_of: RequestOf):
    """A followed 307 would hand assertion and refresh token to whoever is named in it."""
    async with serving(answers_ok) as elsewhere, session() as connections:
        location = elsewhere.url("/stolen").encode()
        data = b"HTTP/1.1 %d X\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)
        async with serving(says(data)) as server:
            answer = await connections.send(request_of(server.url()))

            assert answer.status == status
            assert elsewhere.connections == 0


async def test_a_cookie_is_not_sent_back():
    """No state of one call reaches another."""

    async def handler(connection: Connection) -> None:
        while True:
            await connection.hear()
            await connection.say(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\n{}")

    async with serving(handler) as server, session() as connections:
        for _ in range(2):
            await connections.send(get(server.url(host="localhost")))

        assert "cookie" not in server.heard[1].headers()


async def test_a_connection_serves_several_calls():
    """A mutual TLS handshake for each of a thousand refreshes would be a waste."""
    async with serving(answers_ok, server_context()) as server, session() as connections:
        for _ in range(3):
            await connections.send(post(server.url(scheme="https")))

        assert len(server.heard) == 3
        assert server.connections == 1


async def test_a_connection_from_before_the_machine_slept_is_not_used_again():
    """Its peer, or a firewall between, has forgotten it long ago; one that is busy is left to its call."""
    clock = HandClock()
    async with serving(answers_ok, server_context()) as server, session(clock=clock) as connections:
        await connections.send(post(server.url(scheme="https")))
        await connections.send(post(server.url(scheme="https")))
        before = server.connections
        clock.now += 3_600.0
        await asyncio.gather(*(connections.send(post(server.url(scheme="https"))) for _ in range(2)))
        clock.now += 3_600.0
        await connections.send(post(server.url(scheme="https")))

        assert before == 1
        assert server.connections == 4
        assert len(connections._connections._sockets.open()) == 1


async def test_a_call_that_is_under_way_when_the_machine_sleeps_goes_on():
    """Another one does not end it, and what it used is closed with the session."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await asyncio.sleep(0.3)
        await connection.say(OK)

    clock = HandClock()
    async with serving(handler, server_context()) as server, session(clock=clock) as connections:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(connections.send(post(server.url(scheme="https"))))
            await asyncio.sleep(0.1)
            clock.now += 3_600.0
            second = group.create_task(connections.send(post(server.url(scheme="https"))))

        assert (first.result().status, second.result().status) == (200, 200)
        assert server.connections == 2
    assert connections._connections._sockets.open() == []


@pytest.mark.parametrize("request_of", [post, get])
@pytest.mark.parametrize("answered_before", [0, 1])
async def test_a_request_is_never_sent_again_when_the_connection_ends(request_of: RequestOf, answered_before: int):
    """Neither on a fresh connection nor on a kept one, where aiohttp by itself would repeat the GET."""

    async def handler(connection: Connection) -> None:
        for _ in range(answered_before):
            await connection.hear()
            await connection.say(OK)
        await connection.hear()

    async with serving(handler) as server, session() as connections:
        for _ in range(answered_before):
            await connections.send(request_of(server.url()))
        with pytest.raises(RemoteError) as caught:
            await connections.send(request_of(server.url()))

        assert (caught.value.code, caught.value.outcome) == (Reason.CONNECTION_LOST, Outcome.UNKNOWN)
        assert len(server.heard) == answered_before + 1
        assert server.connections == 1


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one():
    """A proxy's 408 on an idle connection, or a second answer, would be read as that of the next request."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(OK)
        await asyncio.sleep(0.01)
        await connection.say(OK.replace(b"{}", b"[]"))
        await connection.hear()

    async with serving(handler) as server, session() as connections:
        await connections.send(post(server.url()))
        await asyncio.sleep(0.05)
        answer = await connections.send(post(server.url()))

        assert answer.body == b"{}"
        assert (len(server.heard), server.connections) == (2, 2)


@pytest.mark.parametrize("request_of", [post, get])
async def test_an_idle_connection_that_the_server_closes_is_replaced_before_a_byte_is_lost(request_of: RequestOf):
    """Also when the loop was busy and has not heard of it: any request is safe that was not begun."""
    served: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_and_close, args=(listener, served, 2))
        thread.start()
        async with session() as connections:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            await connections.send(request_of(url))
            (kept,) = connections._connections._sockets.open()
            poll = select.poll()
            poll.register(kept, select.POLLRDHUP)
            assert poll.poll(5_000)  # without a turn of the loop: only the kernel knows

            answer = await connections.send(request_of(url))
        thread.join(5)

    assert answer.status == 200
    assert len(served) == 2


async def test_a_fresh_connection_that_ends_before_a_byte_is_not_tried_again():
    """It would be an endless loop at a server that closes each."""
    asked = 0

    async def handler(connection: Connection) -> None:
        nonlocal asked
        asked += 1
        connection.reset()

    async with serving(handler) as server, session() as connections:
        with pytest.raises(RemoteError):
            await connections.send(post(server.url()))

        assert asked == 1


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "100.100.100.200"]
)
async def test_a_metadata_address_in_a_url_is_refused_unseen(host: str):
    """aiohttp asks no resolver about an address, so the session itself looks."""
    async with session() as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(post(f"http://{host}/latest"))

        assert (caught.value.code, caught.value.outcome) == (Reason.ADDRESS_REFUSED, Outcome.NOT_SENT)


@pytest.mark.parametrize("url", ["http://2852039166/", "ftp://localhost/", "http:///token", "http://localhost:99999/"])
async def test_a_url_that_cannot_be_dialed_is_an_error_of_ours(url: str):
    """It is not an exception of yarl or aiohttp, which would repeat it."""
    async with session() as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(post(url))

        assert (caught.value.code, caught.value.outcome) == (Reason.ENDPOINT_REFUSED, Outcome.NOT_SENT)


async def test_the_deadline_ends_a_call_that_is_not_answered():
    """The request went out, so its fate is unknown."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await asyncio.sleep(60)

    async with serving(handler) as server, session(deadline=0.1) as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(post(server.url()))

        assert (caught.value.code, caught.value.outcome) == (Reason.TIMED_OUT, Outcome.UNKNOWN)


async def test_the_deadline_counts_the_handshake_too():
    """A server that accepts and says nothing was not sent anything."""

    async def handler(connection: Connection) -> None:
        await asyncio.sleep(60)

    async with serving(handler) as server, session(deadline=0.1) as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(post(server.url(scheme="https")))

        assert (caught.value.code, caught.value.outcome) == (Reason.TIMED_OUT, Outcome.NOT_SENT)


async def test_a_caller_that_gives_up_ends_the_call():
    """Cancellation is not turned into an error, and the connection is not used again."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await asyncio.sleep(60)

    async with serving(handler) as server, session() as connections:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await connections.send(post(server.url()))

        assert len(server.heard) == 1


async def test_a_call_under_way_fails_when_the_session_closes():
    """And it does not put the certificate under suspicion: it was us."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await asyncio.sleep(60)

    tls = client_context(client())
    async with serving(handler, server_context()) as server, session(tls, thumbprint="t") as connections:
        async with asyncio.TaskGroup() as group:
            call = group.create_task(_failure(connections.send(post(server.url(scheme="https")))))
            while not server.heard:
                await asyncio.sleep(0.001)
            await connections.close()

        assert (call.result().code, call.result().outcome) == (Reason.CONNECTION_LOST, Outcome.UNKNOWN)


async def test_a_closed_session_sends_nothing():
    """A caller that kept it too long is told, and nothing goes out."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.close()
        with pytest.raises(RemoteError) as caught:
            await connections.send(post(server.url()))

        assert (caught.value.code, caught.value.outcome) == (Reason.CONNECTION_LOST, Outcome.NOT_SENT)
        assert server.connections == 0


@pytest.mark.parametrize("end", [b"", b"Connection: close\r\n"])
async def test_closing_leaves_no_socket_open(end: bytes):
    """Neither an idle TLS connection nor one whose peer never says good-bye outlives the session."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(OK.replace(b"\r\n\r\n", b"\r\n" + end + b"\r\n"))
        await asyncio.sleep(60)

    async with serving(handler, server_context()) as server:
        async with session() as connections:
            await connections.send(post(server.url(scheme="https")))

            assert len(connections._connections._sockets.open()) == 1
        assert connections._connections._sockets.open() == []


async def test_nonsense_after_an_answer_does_not_keep_a_session_from_closing():
    """A server could else make a reload fail: the connection is in the pool, closed twice, and trips aiohttp."""

    async def handler(connection: Connection) -> None:
        await connection.hear()
        await connection.say(OK.removesuffix(b"{}"))
        await asyncio.sleep(0.05)
        await connection.say(b"{}GARBAGE\r\n\r\n")
        await asyncio.sleep(60)

    async with serving(handler, server_context()) as server, session() as connections:
        answer = await connections.send(post(server.url(scheme="https")))
        await connections.close()

        assert answer.body == b"{}"
        assert connections._connections._sockets.open() == []


async def test_properties_describe_the_certificate():
    """They are what the session was made with."""
    async with session(thumbprint="t", not_after=7.0) as connections:
        assert (connections.thumbprint, connections.not_after) == ("t", 7.0)


async def test_what_is_raised_holds_nothing_of_aiohttp():
    """Its exceptions hold headers and bytes of the peer, and would be printed with ours."""
    async with serving(says(b"canary-4711\r\n\r\n")) as server, session() as connections:
        with pytest.raises(RemoteError) as caught:
            await connections.send(post(server.url(), assertion="secret-0815"))

        error = caught.value
        assert error.__cause__ is None
        assert error.__suppress_context__
        assert "canary-4711" not in f"{error!r} {error.hint}"


async def test_what_ended_a_connection_before_the_first_byte_is_what_is_told():
    """An alert that comes between handshake and request: nothing was written on it, and it is not lost."""
    loop = asyncio.get_running_loop()
    ended = ResponseHandler(loop)
    ended.set_exception(aiohttp.ClientOSError(1, "the alert"))
    request = _OrderlyRequest("GET", URL("http://localhost/"), loop=loop)

    with pytest.raises(aiohttp.ClientOSError, match="the alert"):
        await request.send(cast("Any", SimpleNamespace(protocol=ended)))


async def _failure(call: Awaitable[Response]) -> RemoteError:
    with pytest.raises(RemoteError) as caught:
        await call
    return caught.value


# --- dialects ---


def secret_refresh(url: str, **changes: Any) -> Request:
    return Request(
        method="POST",
        url=url,
        form=(("grant_type", "refresh_token"), ("scope", "a b"), ("scope", "ü&=#")),
        secret_fields=(("refresh_token", RefreshToken("canary/+$")),),
        credential=ClientSecret("canary-2"),
        **changes,
    )


@pytest.mark.parametrize(("path", "joined"), [("/token", "/token?"), ("/token?tenant=%41", "/token?tenant=%41&")])
async def test_a_form_in_the_url_is_there_and_nowhere_else(path: str, joined: str):
    """A dialect has it so: encoded as in a body, after what the endpoint's URL has; and nothing is said of a body."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(secret_refresh(server.url(path), in_query=True))

        (heard,) = server.heard
        form = (
            "grant_type=refresh_token&scope=a+b&scope=%C3%BC%26%3D%23"
            "&refresh_token=canary%2F%2B%24&client_secret=canary-2"
        )
        assert heard.head.startswith(f"POST {joined}{form} HTTP/1.1\r\n".encode())
        assert heard.body == b""
        assert "content-type" not in heard.headers()
        assert heard.headers().get("content-length", "0") == "0"


async def test_a_request_without_a_form_has_nothing_in_its_url():
    """There is nothing to place."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(Request(method="GET", url=server.url("/me"), in_query=True))

        assert server.heard[0].head.startswith(b"GET /me HTTP/1.1\r\n")


@pytest.mark.parametrize("method", ["DELETE", "POST"])
async def test_a_logout_has_a_bearer_token_and_no_body(method: str):
    """A form is not there, which is not the same as an empty one."""
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(Request(method=method, url=server.url("/out"), credential=AccessToken("$2a$10$x/.")))

        (heard,) = server.heard
        assert heard.head.startswith(f"{method} /out HTTP/1.1\r\n".encode())
        assert heard.headers()["authorization"] == "Bearer $2a$10$x/."
        assert "content-type" not in heard.headers()
        assert heard.body == b""


@pytest.mark.parametrize("in_query", [False, True])
async def test_parameters_are_called_what_the_server_calls_them(in_query: bool):
    """Secrets and the credential, too; what is not renamed, and every value, stays as it is."""
    renamed = (("refresh_token", "refresh"), ("client_secret", "pass word"), ("scope", "scopes"), ("code", "kode"))
    async with serving(answers_ok) as server, session() as connections:
        await connections.send(secret_refresh(server.url(), in_query=in_query, renamed=renamed))

        (heard,) = server.heard
        form = heard.head.split()[1].partition(b"?")[2] if in_query else heard.body
        assert form == (
            b"grant_type=refresh_token&scopes=a+b&scopes=%C3%BC%26%3D%23&refresh=canary%2F%2B%24&pass+word=canary-2"
        )


async def _resets(connection: Connection) -> None:
    await connection.hear()
    connection.reset()


async def _hangs(connection: Connection) -> None:
    await connection.hear()
    await asyncio.sleep(60.0)


@pytest.mark.parametrize(
    "handler", [_resets, _hangs, says(b"garbage\r\n\r\n"), says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 99)]
)
async def test_secrets_in_a_url_are_in_no_error(handler: Callable[[Connection], Awaitable[None]]):
    """Whatever goes wrong: errors of HTTP libraries like to name the URL."""
    async with serving(handler) as server, session(deadline=0.3, max_body=10) as connections:
        with pytest.raises(RemoteError) as raised:
            await connections.send(secret_refresh(server.url(), in_query=True))

    shown = "".join(traceback.format_exception(raised.value))
    assert "canary" not in f"{shown}{raised.value!r}{vars(raised.value)}"
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/token", "http://no-such-host.invalid/token", "https://127.0.0.1:1/t"]
)
async def test_secrets_in_a_url_are_in_no_error_of_a_connection(url: str):
    """Nobody listens, or there is no such host."""
    async with session() as connections:
        with pytest.raises(RemoteError) as raised:
            await connections.send(secret_refresh(url, in_query=True))

    assert raised.value.outcome is Outcome.NOT_SENT
    assert "canary" not in "".join(traceback.format_exception(raised.value))


async def test_bytes_of_a_location_that_are_no_text_come_as_surrogates():
    """Whoever reads one has to know: it is not made safe here."""
    data = b"HTTP/1.1 302 Found\r\nLocation: https://x/?a=\xff\xc3\xbc{}\r\nContent-Length: 0\r\n\r\n"
    async with serving(says(data)) as server, session() as connections:
        answer = await connections.send(post(server.url()))

        assert answer.headers["location"] == "https://x/?a=\udcffü{}"
