from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http import HTTPStatus

import pytest

from broker.cli.login_http import MAX_HEAD, Answer, Request
from broker.cli.login_listener import MAX_CONNECTIONS, MAX_THREADS, LoginListener
from broker.errors import LocalError

pytestmark = pytest.mark.real_time


@contextmanager
def listening() -> Iterator[tuple[LoginListener, list[Request]]]:
    """A listener that answers everything with a page."""
    seen: list[Request] = []
    listener = LoginListener(0)

    def answer(request: Request) -> Answer:
        seen.append(request)
        return Answer(status=HTTPStatus.OK, page=b"page")

    listener.serve(answer)
    try:
        yield listener, seen
    finally:
        listener.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connect(listener: LoginListener) -> socket.socket:
    return socket.create_connection(("127.0.0.1", listener.port), timeout=5)


def ask(listener: LoginListener, *pieces: bytes) -> bytes:
    """Send something, and read to the end."""
    with connect(listener) as connection:
        for piece in pieces:
            connection.sendall(piece)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


def request(listener: LoginListener, target: str = "/x", more: str = "", method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{listener.port}\r\n{more}\r\n".encode()


def test_a_request_gets_its_answer_and_the_connection_ends():
    """Whatever the pieces are that it comes in."""
    with listening() as (listener, seen):
        raw = request(listener, "/callback?code=c")

        answer = ask(listener, raw[:20], raw[20:])

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\npage")
    assert [one.target for one in seen] == ["/callback?code=c"]


def test_a_form_is_received_to_its_end():
    """Its body may come later than its head."""
    more = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n"
    with listening() as (listener, seen):
        answer = ask(listener, request(listener, "/callback", more, "POST"), b"code", b"=c")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert [one.form for one in seen] == [{"code": "c"}]


def test_junk_is_answered_and_goes_no_further():
    """Another host, another protocol, a head without end, a body that was not announced."""
    with listening() as (listener, seen):
        junk = [
            request(listener).replace(b"127.0.0.1", b"localhost"),
            b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
            request(listener, more=f"a: {'x' * MAX_HEAD}\r\n"),
            request(listener) + b"GET /second HTTP/1.1\r\n\r\n",
        ]

        answers = [ask(listener, raw) for raw in junk]

    assert [answer[:24] for answer in answers] == [b"HTTP/1.1 400 Bad Request"] * 4
    assert seen == []


def test_idle_connections_keep_no_browser_out():
    """Browsers open some ahead, and strangers may open many: the oldest make room."""
    with listening() as (listener, _):
        idle = [connect(listener) for _ in range(MAX_CONNECTIONS + 5)]

        answer = ask(listener, request(listener))

        for connection in idle:
            connection.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_idle_connection_that_ends_is_told_nothing():
    """An answer that was not asked for would be shown to the person as the answer to the next request."""
    with listening() as (listener, _), connect(listener) as connection:
        connection.shutdown(socket.SHUT_WR)

        assert connection.recv(1_024) == b""


def test_one_answer_that_takes_long_holds_up_no_other():
    """Redeeming takes seconds, and the browser may ask for something else meanwhile."""
    resume = threading.Event()
    listener = LoginListener(0)

    def answer(request: Request) -> Answer:
        if request.target == "/slow":
            resume.wait(10)
        return Answer(status=HTTPStatus.OK)

    with closing(listener):
        listener.serve(answer)
        with connect(listener) as slow:
            slow.sendall(request(listener, "/slow"))
            quick = ask(listener, request(listener, "/quick"))
            resume.set()

            assert slow.recv(8) == b"HTTP/1.1"
    assert quick.startswith(b"HTTP/1.1 200 OK\r\n")


def test_so_many_are_answered_at_a_time_and_no_more():
    """Whoever comes then is turned away, and served when there is room again."""
    resume = threading.Event()
    listener = LoginListener(0)

    def answer(_request: Request) -> Answer:
        resume.wait(10)
        return Answer(status=HTTPStatus.OK)

    def busy_with(count: int) -> bool:
        return not listener._silent and len(listener._threads) == count

    with closing(listener), ExitStack() as stack:
        listener.serve(answer)
        waiting = []
        for number in range(1, MAX_THREADS + 1):
            waiting.append(stack.enter_context(connect(listener)))
            waiting[-1].sendall(request(listener))
            wait_until(partial(busy_with, number))
        turned_away = ask(listener)
        resume.set()
        answers = [connection.recv(8) for connection in waiting]

    assert turned_away == b""
    assert answers == [b"HTTP/1.1"] * MAX_THREADS


def test_it_can_be_reached_on_loopback_alone():
    """The port is taken on 127.0.0.1 and nowhere else."""
    with listening() as (listener, _):
        assert listener.host == f"127.0.0.1:{listener.port}"
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", listener.port), timeout=5)


def test_a_port_that_is_taken_is_told():
    """With what can be done about it."""
    with closing(LoginListener(0)) as first, pytest.raises(LocalError) as caught:
        LoginListener(first.port)

    assert (caught.value.code, "--port" in str(caught.value.hint)) == ("port_in_use", True)


def test_closing_ends_everything():
    """The port is free again, and nobody waits."""
    before = threading.active_count()
    with listening() as (listener, _):
        idle = connect(listener)
        ask(listener, request(listener))  # it is accepted after the idle one

    with idle:
        assert idle.recv(1) == b""
    assert threading.active_count() == before
    LoginListener(listener.port).close()
