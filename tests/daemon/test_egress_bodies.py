"""Bodies of calls, large, slow and broken: they stream, nobody waits for somebody else, and what was cut looks cut."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.egress_place import EgressPlace, UnixConnection, egress_place
from tests.daemon.harness import wait_until
from tests.daemon.strict_http import Given, given_in

MB = 1_000_000

LARGE = 10 * MB

ALLOW = ("GET /hello", "* /request", "GET /bytes/*", "POST /echo", "POST /count")

MORE = "reply_timeout_seconds = 3\nidle_timeout_seconds = 3"

FLAT = 30 * 1024
"""KiB that the broker may grow by while eight bodies of 10 MB go through at once: collected, they were 80 MB."""

AT_ONCE = 8

HOST = b"Host: localhost\r\n"
CALL = "/v1/egress/api"

PATIENCE = 20.0
"""Seconds for an answer: longer than any deadline of the broker's that is in play."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EgressPlace]:
    with egress_place(tmp_path_factory.mktemp("bodies"), allow=ALLOW, more=MORE) as at:
        yield at


@pytest.fixture
def at(place: EgressPlace) -> Iterator[EgressPlace]:
    place.sandbox.control.clear_faults()
    place.sandbox.control.clear_requests()
    yield place
    assert place.broker.log("unexpected_failure") == []
    assert place.broker.log("library_reported") == []
    assert "Traceback" not in place.broker.said()


# --- what a process has ---


def memory(pid: int) -> tuple[int, int]:
    """Give what a process has in memory, and the most that it had since ``forget_peak``, in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]), int(re.findall(r"VmHWM:\s+(\d+)", status)[0])


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


# --- callers ---


@contextmanager
def connected(at: EgressPlace) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(str(at.broker.socket))
        yield connection


def head(method: str, path: str, *fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {CALL}{path} HTTP/{version}", "Host: localhost", *fields, "", ""]).encode()


def until_end(connection: socket.socket) -> tuple[bytes, bool]:
    """Give all that comes, and whether the connection was reset."""
    received = b""
    try:
        while piece := connection.recv(65_536):
            received += piece
    except ConnectionResetError:
        return received, True
    return received, False


def raw_call(at: EgressPlace, raw: bytes) -> tuple[list[Given], bool]:
    """Send *raw* as the last that is sent, and give all answers, and whether the connection was reset."""
    with connected(at) as connection:
        connection.sendall(raw)
        received, was_reset = until_end(connection)
    return given_in(received, bodiless=False), was_reset


def last_record(at: EgressPlace, number: int) -> dict[str, Any]:
    """Wait for the record of call *number* since the start, and give it."""
    wait_until(lambda: len(at.broker.records("egress_called")) >= number, "the call is recorded")
    return at.broker.records("egress_called")[number - 1]


def calls(at: EgressPlace) -> int:
    return len(at.broker.records("egress_called"))


def fastest(at: EgressPlace, count: int = 20) -> tuple[float, float]:
    """Give the median and the longest time of some small calls on one connection, in seconds."""
    connection = UnixConnection(at.broker.socket)
    taken = []
    for _ in range(count):
        began = time.monotonic()
        assert connection.ask("GET", f"{CALL}/hello").status == 200
        taken.append(time.monotonic() - began)
    connection.close()
    return sorted(taken)[count // 2], max(taken)


def slow_enough(usual: float) -> float:
    """Give the seconds that a call may take beside others: far above what it takes, far below what they take."""
    return max(1.0, 20 * usual)


# --- large ---


def test_ten_megabytes_go_up_and_come_down_in_flat_memory(at: EgressPlace):
    """Eight at once, with a length and in chunks; nothing of them is lost on the way."""
    pid = at.broker.pid
    block = bytes(range(251)) * 261
    expected = hashlib.sha256(bytes(i % 251 for i in range(LARGE))).hexdigest()

    def pieces() -> Iterator[bytes]:
        for start in range(0, LARGE, len(block)):
            yield block[: LARGE - start]

    def chunks() -> Iterator[bytes]:
        for piece in pieces():
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
        yield b"0\r\n\r\n"

    def up(number: int) -> None:
        chunked = number % 2 == 0
        fields = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(LARGE)}
        said = at.ask("POST", "/count", chunks() if chunked else pieces(), fields)
        assert (said.status, said.json()) == (200, {"bytes": LARGE, "sha256": expected})

    def down(number: int) -> None:
        reply = at.ask("GET", f"/bytes/{LARGE}{'?chunked=1' if number % 2 else ''}")
        assert reply.status == 200
        assert hashlib.sha256(reply.body).hexdigest() == expected

    def at_once(work: Any) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(work, range(AT_ONCE)))

    for work in (up, down):  # what a first time costs is no leak
        work(0)
    before = memory(pid)[0]
    forget_peak(pid)
    at_once(up)
    after_up = memory(pid)
    at_once(down)
    after_down = memory(pid)
    print(f"resident KiB before {before}, after up (now, peak) {after_up}, after down {after_down}")

    assert after_up[1] - before < FLAT
    assert after_down[1] - before < FLAT


def test_a_caller_that_reads_slowly_is_not_read_for(at: EgressPlace):
    """The API is held back, the broker holds next to nothing, and others are served as before."""
    pid, usual = at.broker.pid, fastest(at)[0]
    before = memory(pid)[0]
    forget_peak(pid)

    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            connection = stack.enter_context(connected(at))
            connection.sendall(head("GET", "/bytes/60000000"))
            assert connection.recv(1_000).startswith(b"HTTP/1.1 200")
        time.sleep(0.5)
        median, longest = fastest(at)
        peak = memory(pid)[1]
    print(f"usual {usual:.4f} s, beside slow readers {median:.4f} s, at most {longest:.4f} s; grew {peak - before} KiB")

    assert longest < slow_enough(usual)
    assert peak - before < FLAT
    wait_until(lambda: at.sandbox.control.count("resource.aborted") == AT_ONCE, "the API sees that they left")


def test_an_api_that_takes_and_gives_slowly_holds_up_nobody_else(at: EgressPlace):
    """Bodies of requests wait at their senders, and not in the broker."""
    pid, usual = at.broker.pid, fastest(at)[0]
    before = memory(pid)[0]
    forget_peak(pid)
    stopped = threading.Event()

    def push(connection: socket.socket) -> int:
        sent, block = 0, b"x" * 65_536
        connection.settimeout(0.2)
        while not stopped.is_set():
            try:
                sent += connection.send(block)
            except TimeoutError:
                continue
        return sent

    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        pushing = []
        for number in range(AT_ONCE):
            connection = stack.enter_context(connected(at))
            if number % 2:
                connection.sendall(head("GET", "/bytes/60000000?pace=10000"))
            else:
                connection.sendall(head("POST", "/count?pace=10000", "Content-Length: 60000000"))
                pushing.append(pool.submit(push, connection))
        time.sleep(1.0)
        median, longest = fastest(at)
        peak = memory(pid)[1]
        stopped.set()
        taken = [one.result() for one in pushing]
    print(f"usual {usual:.4f} s, beside {median:.4f} s, at most {longest:.4f} s; grew {peak - before}; took {taken}")

    assert longest < slow_enough(usual)
    assert peak - before < FLAT
    assert max(taken) < 30 * MB, "the sender is held back: buffers of the kernel are what it fills"


def test_five_hundred_idle_clients_do_not_slow_a_good_one(tmp_path: Path):
    """Connections that say nothing, and those that had an answer."""
    daemon = "\n[daemon]\nmax_connections = 700\nmax_connections_per_uid = 600\n"
    with egress_place(tmp_path, allow=ALLOW, more=MORE + daemon) as at, ExitStack() as stack:
        usual = fastest(at)[0]
        for number in range(500):
            connection = stack.enter_context(connected(at))
            if number % 2:
                connection.sendall(head("GET", "/hello"))
                assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        median, longest = fastest(at)
        print(f"usual {usual:.4f} s, beside 500 idle clients {median:.4f} s, at most {longest:.4f} s")

        assert median < max(0.1, 10 * usual)
        assert longest < slow_enough(usual)


# --- callers that leave ---

LEAVING = {
    "in the middle of its body": (head("POST", "/count", "Content-Length: 100") + b"12345", "caller_left", None),
    "in the middle of a chunk": (
        head("POST", "/count", "Transfer-Encoding: chunked") + b"9\r\n12345",
        "caller_left",
        None,
    ),
    "between two chunks": (
        head("POST", "/count", "Transfer-Encoding: chunked") + b"5\r\n12345\r\n",
        "caller_left",
        None,
    ),
    "while its body waits": (
        head("POST", "/count?pace=1000", "Content-Length: 90000") + b"x" * 90_000,
        "caller_left",
        None,
    ),
    "while a small reply comes": (head("GET", "/bytes/50000?pace=1000"), "caller_left", 200),
    "while a large reply comes": (head("GET", "/bytes/60000000"), "caller_left", 200),
    "while a slow reply comes": (head("GET", "/bytes/60000000?pace=1000&chunked=1"), "caller_left", 200),
}  # fmt: skip


@pytest.mark.parametrize("when", LEAVING)
def test_a_caller_that_leaves_takes_its_call_with_it(at: EgressPlace, when: str):
    """The API sees the end, and no request that looks whole; the record says why; nothing is left open."""
    raw, outcome, status = LEAVING[when]
    assert at.ask("GET", "/hello").status == 200
    number = calls(at) + 1

    with connected(at) as connection:
        connection.sendall(raw)
        wait_until(lambda: bool(at.sandbox.control.count("resource")), "the request is at the API")
        time.sleep(0.2)

    record = last_record(at, number)
    assert (record["outcome"], record["status"]) == (outcome, status)
    wait_until(lambda: at.sandbox.control.count("resource.aborted") == 1, "the API sees the end of the call")
    whole = [one for one in at.reached() if one["endpoint"] == "resource" and one["body_bytes"] >= 90_000]
    assert whole == []


def test_a_caller_that_leaves_before_there_is_a_reply_is_recorded(at: EgressPlace):
    """The API may have done the work; the connection is not used for anybody else."""
    number = calls(at) + 1
    at.sandbox.control.fault("resource", "delay", delay_seconds=1.0, times=1)

    with connected(at) as connection:
        connection.sendall(head("GET", "/request"))
        time.sleep(0.2)

    record = last_record(at, number)
    assert (record["outcome"], record["status"]) == ("caller_left", None)
    assert at.ask("GET", "/hello").json()["message"] == "hello"
    time.sleep(1.0)
    assert at.ask("GET", "/hello").json()["message"] == "hello"


# --- replies that break off ---


BROKEN: dict[str, tuple[dict[str, Any], int, str]] = {
    "cut": ({"kind": "cut"}, 502, "connection_lost"),
    "cut chunks": ({"kind": "cut", "chunked": True}, 502, "connection_lost"),
    "reset": ({"kind": "cut", "reset": True}, 502, "connection_lost"),
    "reset chunks": ({"kind": "cut", "chunked": True, "reset": True}, 502, "connection_lost"),
    "reset before the reply": ({"kind": "reset"}, 502, "connection_lost|certificate_suspected"),
    "no reply": ({"kind": "lost_answer"}, 502, "connection_lost"),
    "too short": ({"kind": "wrong_length", "difference": 5}, 504, "timed_out"),
    "bad chunk": ({"kind": "bad_chunk"}, 502, "protocol_violated"),
    "no HTTP": ({"kind": "garbage"}, 502, "protocol_violated"),
    "too many interim replies": ({"kind": "interim", "count": 1_000}, 502, "protocol_violated"),
    "head too slow": ({"kind": "slow_head", "seconds_per_byte": 0.2}, 504, "timed_out"),
    "body too slow": ({"kind": "drip", "seconds_per_byte": 10}, 504, "timed_out"),
}

IN_CHUNKS = {"cut chunks", "reset chunks", "bad chunk"}
"""Without a length, so that the beginning is with the caller before anybody knows."""


@pytest.mark.parametrize("name", BROKEN)
def test_a_small_reply_that_breaks_off_is_a_clear_error_or_looks_cut(at: EgressPlace, name: str):
    """And the next call on the same connection is served, where nothing was cut."""
    fault, status, reason = BROKEN[name]
    number = calls(at) + 1
    at.sandbox.control.fault("resource", times=1, **fault)

    with connected(at) as connection:
        connection.sendall(head("GET", "/hello") + head("GET", "/hello", "Connection: close"))
        received, _ = until_end(connection)

    first, *others = given_in(received, bodiless=False)
    record = last_record(at, number)
    if name in IN_CHUNKS and first.status == 200:
        assert not first.is_whole
        assert (others, record["outcome"], record["status"]) == ([], "cut_off", 200)
        return
    assert first.status == status
    assert first.values("proxy-status")[0].startswith("token-broker; error=")
    assert re.search(f'"reason":"({reason})"', first.body.decode())
    assert re.fullmatch(reason, record["outcome"])
    assert record["status"] is None
    assert [(one.status, one.is_whole) for one in others] == [(200, True)]


LARGE_BROKEN = ["cut", "cut chunks", "reset", "reset chunks", "bad chunk", "too short"]


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("name", LARGE_BROKEN)
def test_a_large_reply_that_breaks_off_looks_cut(at: EgressPlace, name: str, version: str):
    """Whatever the caller speaks: it is short of its length or of its last chunk, or there is an error."""
    number = calls(at) + 1
    at.sandbox.control.fault("resource", times=1, **BROKEN[name][0])

    raw = head("GET", "/bytes/300000", version=version) + (head("GET", "/hello") if version == "1.1" else b"")
    answers, was_reset = raw_call(at, raw)

    record = last_record(at, number)
    first = answers[0]
    if first.status == 200:
        assert was_reset or not first.is_whole
        assert len(answers) == 1
        assert record["outcome"] == "cut_off"
    else:
        assert (first.status, record["status"]) == (502, None)
        assert first.values("proxy-status")
    assert at.ask("GET", "/hello").status == 200


def test_what_an_api_says_too_much_is_not_the_answer_to_somebody_else(at: EgressPlace):
    """What is left in front of the next reply goes with its connection."""
    for _ in range(5):
        at.sandbox.control.fault("resource", "wrong_length", difference=-20, times=1)
        connection = UnixConnection(at.broker.socket)
        first = connection.ask("GET", f"{CALL}/hello")
        second = connection.ask("GET", f"{CALL}/hello")
        connection.close()
        assert first.status in {200, 502}, "it may have been seen in time"
        assert (second.status, second.json().get("message")) == (200, "hello"), (first, second)


def test_replies_that_are_odd_but_sound_are_passed_on(at: EgressPlace):
    """Compressed ones as they are, redirects without being followed, after few interim ones."""
    control = at.sandbox.control
    control.fault("resource", "gzip", times=1)
    packed = at.ask("GET", "/hello")
    control.fault("resource", "redirect", times=1)
    elsewhere = at.ask("GET", "/hello")
    control.fault("resource", "interim", count=3, times=1)
    after_interim = at.ask("GET", "/hello")
    control.fault("resource", "drip", seconds_per_byte=0.01, times=1)
    dripped = at.ask("GET", "/hello")

    assert (packed.status, packed.values("Content-Encoding"), packed.body[:2]) == (200, ["gzip"], b"\x1f\x8b")
    assert elsewhere.status == 307
    assert control.requests("elsewhere") == []
    assert (after_interim.status, dripped.status) == (200, 200)
    assert dripped.json()["message"] == "hello"


def test_an_api_that_answers_before_it_has_the_body_is_heard(at: EgressPlace):
    """Its answer comes at once, and no unexpected failure; the caller sees it though it is still sending."""
    for status in (413, 200):
        number = calls(at) + 1
        at.sandbox.control.fault("resource", "early_answer", status=status, times=1)
        with connected(at) as connection:
            connection.sendall(head("POST", "/count", "Content-Length: 1000000") + b"x" * 1_000)
            received, _ = until_end(connection)
        (answer,) = given_in(received, bodiless=False)
        assert answer.status == status
        assert answer.values("connection") == ["close"]
        assert last_record(at, number)["status"] == status
    at.sandbox.control.fault("resource", "status", status=429, times=1)
    with connected(at) as connection:
        connection.sendall(head("POST", "/count", "Content-Length: 1000000") + b"x" * 1_000)
        received, _ = until_end(connection)
    assert given_in(received, bodiless=False)[0].status == 429


def test_descriptors_are_given_back(at: EgressPlace):
    """After broken replies, callers that left and large bodies: no connection stays, to either side."""

    def rest() -> int:
        assert at.ask("GET", "/hello").status == 200
        time.sleep(3.5)  # idle connections to APIs are kept for three seconds
        return descriptors(at.broker.pid)

    before = rest()
    for _ in range(5):
        for fault, _, _ in list(BROKEN.values())[:6]:
            at.sandbox.control.fault("resource", times=1, **fault)
            raw_call(at, head("GET", "/bytes/300000", "Connection: close"))
        for raw, _, _ in LEAVING.values():
            with connected(at) as connection:
                connection.sendall(raw)
                time.sleep(0.02)
    at.sandbox.control.clear_faults()

    wait_until(lambda: rest() <= before, "descriptors are as before")


def test_paused_connections_are_not_taken_over(at: EgressPlace):
    """Who comes after callers that stopped to read in the middle gets replies of its own, whole."""
    for size in (70_000, 300_000, 5_000_000):
        with ExitStack() as stack:
            for _ in range(6):
                connection = stack.enter_context(connected(at))
                connection.sendall(head("GET", f"/bytes/{size}"))
                connection.recv(100)
        with ThreadPoolExecutor(6) as pool:
            replies = list(pool.map(lambda _: at.ask("GET", "/hello"), range(24)))
        assert [reply.json()["message"] for reply in replies] == ["hello"] * 24


def test_a_caller_without_chunks_gets_small_replies_whole_and_no_large_ones(at: EgressPlace):
    """HTTP/1.0 marks the end of what has no length by the end of the connection, and that is no mark."""
    (small,), _ = raw_call(at, head("GET", "/bytes/60000?chunked=1", version="1.0"))
    (known,), _ = raw_call(at, head("GET", "/bytes/300000", version="1.0"))
    number = calls(at) + 1
    (large,), _ = raw_call(at, head("GET", "/bytes/300000?chunked=1", version="1.0"))

    assert (small.status, small.values("content-length"), len(small.body)) == (200, ["60000"], 60_000)
    assert (known.status, known.values("content-length"), len(known.body)) == (200, ["300000"], 300_000)
    assert (large.status, large.values("proxy-status")) == (502, ["token-broker; error=http_request_error"])
    assert b"use HTTP/1.1" in large.body
    assert last_record(at, number)["outcome"] == "version_unsupported"


@pytest.mark.parametrize(
    ("kind", "parameters", "status"),
    [("bad_certificate", {"variant": "expired"}, 502), ("reset", {}, 502), ("delay", {"delay_seconds": 5}, 504)],
)
def test_a_connection_goes_on_behind_a_body_that_was_sent_in_vain(
    at: EgressPlace, kind: str, parameters: dict[str, Any], status: int
):
    """Where all of it is there; else it ends, and what comes behind is no request."""
    at.sandbox.control.fault("resource", kind, **parameters)
    connection = UnixConnection(at.broker.socket)
    connection.connect()
    sock = connection.sock
    failed = connection.ask("POST", f"{CALL}/count", b"GET / HTTP/1.1\r\n" * 100)
    at.sandbox.control.clear_faults()
    after = connection.ask("POST", f"{CALL}/count", b"12345")

    assert (failed.status, failed.values("Connection")) == (status, [])
    assert (after.status, after.json()["bytes"], connection.sock is sock) == (200, 5, True)
    connection.close()
    at.sandbox.control.fault("resource", kind, **parameters)
    half = head("POST", "/count", "Content-Length: 2000") + b"GET / HTTP/1.1\r\n" * 100
    with connected(at) as raw:
        raw.sendall(half)
        received, _ = until_end(raw)
    (answer,) = given_in(received, bodiless=False)
    assert answer.values("connection") == ["close"]
    at.sandbox.control.clear_faults()


def test_a_reply_may_begin_before_the_body_is_over(at: EgressPlace):
    """Either side sends as it likes, also slowly; a body that turns bad ends the reply at once."""
    with connected(at) as connection:
        connection.sendall(head("POST", "/echo", "Transfer-Encoding: chunked"))
        for _ in range(20):
            connection.sendall(b"5\r\nhello\r\n")
            time.sleep(0.25)
        connection.sendall(b"0\r\n\r\n")
        received, _ = until_end(connection)
    (echoed,) = given_in(received, bodiless=False)
    assert (echoed.status, echoed.body, echoed.is_whole) == (200, b"hello" * 20, True)

    with connected(at) as connection:
        connection.sendall(head("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        assert connection.recv(1_000).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        connection.sendall(b"zz\r\n")
        until_end(connection)
        took = time.monotonic() - began
    assert took < 2.5, "the API has three seconds for the next piece"
