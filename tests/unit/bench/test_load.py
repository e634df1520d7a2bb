"""The load against a server that is known: what it counts is what it got."""

from __future__ import annotations

import itertools
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from bench.load import Asking, Mode, compiled, put
from bench.rig import GaveUpError

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler to compile the load with")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("load"))


@contextmanager
def server(path: Path, answer: bytes, *, size: int) -> Iterator[list[int]]:
    """Answer each request of *size* bytes on one connection after the other; gives how many there were."""
    answered = [0]

    def serve(listener: socket.socket) -> None:
        # The load ends with an answer under way, which is the end of its connection for us.
        with listener.accept()[0] as connection, suppress(ConnectionError):
            waiting = 0
            while piece := connection.recv(1 << 16):
                waiting += len(piece)
                while waiting >= size:
                    waiting -= size
                    answered[0] += 1
                    connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield answered
        thread.join()


def test_it_counts_whole_answers_and_how_long_they_took(program: Path, tmp_path: Path):
    """A body that comes in many pieces is one answer; times are in order."""
    asking = Asking(method="POST", target="/", connections=1, body=300_000, answer=400_000)
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 400000\r\n\r\n" + bytes(400_000)

    with server(tmp_path / "s", answer, size=len(asking.head()) + 300_000) as answered:
        came = put(program, tmp_path / "s", asking, warm=0.0, seconds=0.1)

    assert 0 < came.answers <= answered[0]
    assert came.received >= came.answers * len(answer)
    assert 0 < came.p50 <= came.p99 <= came.p999 <= came.max
    assert came.seconds >= 0.1


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502 Bad Gateway"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "without a length"),
        (b"HTTP/1.1 204 No Content\r\n\r\nx", "more bytes than the answer has"),
    ],
    ids=["refused", "no length", "too much"],
)
def test_what_is_no_good_answer_ends_it(program: Path, tmp_path: Path, answer: bytes, says: str):
    """A rate of failures would be a rate, and the higher the worse it stands."""
    asking = Asking(method="GET", target="/", connections=1)

    with server(tmp_path / "s", answer, size=len(asking.head())), pytest.raises(GaveUpError, match=says):
        put(program, tmp_path / "s", asking, warm=0.0, seconds=5.0)


@contextmanager
def one_each(path: Path, answer: bytes) -> Iterator[list[bytes]]:
    """Answer one request on each connection, and close it; gives what was asked."""
    asked: list[bytes] = []
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        while not over.is_set():
            with suppress(TimeoutError, ConnectionError), listener.accept()[0] as connection:
                asked.append(connection.recv(1 << 16))
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield asked
        finally:
            over.set()
            thread.join()


def test_each_request_can_have_a_connection_of_its_own(program: Path, tmp_path: Path):
    """Which it says in its head."""
    asking = Asking(method="GET", target="/", connections=2, mode=Mode.NEW)

    with one_each(tmp_path / "s", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as asked:
        came = put(program, tmp_path / "s", asking, warm=0.0, seconds=0.1)

    assert 0 < came.answers <= len(asked)
    assert set(asked) <= {asking.head(), b""}
    assert b"Connection: close" in asking.head()


def test_without_http_an_answer_is_all_that_comes(program: Path, tmp_path: Path):
    """Nothing is no answer."""
    asking = Asking(method="GET", target="/", connections=1, mode=Mode.RAW, words=b"give")

    with one_each(tmp_path / "s", b"taken") as asked:
        came = put(program, tmp_path / "s", asking, warm=0.0, seconds=0.1)
    with one_each(tmp_path / "t", b""), pytest.raises(GaveUpError, match="no answer"):
        put(program, tmp_path / "t", asking, warm=0.0, seconds=0.1)

    assert came.answers > 0
    assert set(asked) <= {b"give", b""}


def test_with_a_rate_time_counts_from_when_a_request_was_due(program: Path, tmp_path: Path):
    """One slow answer makes those late that were due meanwhile: it is not one of many."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    asking = Asking(method="GET", target="/", connections=1, rate=1_000)

    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as connection, suppress(ConnectionError):
            for number in itertools.count():
                if not connection.recv(1 << 16):
                    break
                if number == 50:
                    time.sleep(0.1)
                connection.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        came = put(program, tmp_path / "s", asking, warm=0.0, seconds=0.5)
        thread.join()

    assert came.max >= 100_000
    assert came.p99 >= 50_000  # of 500 that were due, 100 were due while it slept
    assert came.answers <= 501
