"""The bytes of answers; that they are aiohttp's is shown by tests/daemon/test_fast_path.py."""

from __future__ import annotations

from broker.api.answers import NOT_MODIFIED, Answer, problem_answer
from broker.api.problems import DRAINING
from broker.api.wire import Dates, Writer
from tests.fakes import HandClock


def written(answer: Answer, *, last: bool = False) -> tuple[list[bytes], bytes, bool]:
    """Give the lines of the head, the body, and whether the connection ends."""
    raw, ends = Writer(dates=Dates(HandClock()), last=last).answer(answer)
    head, _, body = raw.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body, ends


def test_an_answer_has_its_headers_its_length_and_its_date():
    """In this order."""
    assert written(Answer(body=b"{}", headers=(("ETag", 'W/"1"'),))) == (
        [
            b"HTTP/1.1 200 OK",
            b"Content-Type: application/json",
            b"Cache-Control: no-store",
            b"Server: token-broker",
            b'ETag: W/"1"',
            b"Content-Length: 2",
            b"Date: Mon, 21 Sep 2026 14:30:00 GMT",
        ],
        b"{}",
        False,
    )


def test_an_answer_without_a_body_has_no_length():
    """304 is such a one."""
    head, body, _ = written(NOT_MODIFIED)

    assert head[0] == b"HTTP/1.1 304 Not Modified"
    assert not [line for line in head if line.startswith(b"Content-")]
    assert body == b""


def test_the_last_answer_of_a_connection_says_so():
    """Whether its caller wants that, or the broker."""
    for answer, last in ((Answer(body=b""), True), (Answer(body=b"", close=True), False)):
        head, _, ends = written(answer, last=last)

        assert head[-1] == b"Connection: close"
        assert ends


def test_a_refusal_has_its_own_headers():
    """``Retry-After`` among them."""
    head, body, _ = written(problem_answer(DRAINING))

    assert head[0].startswith(b"HTTP/1.1 503 ")
    assert b"Content-Length: %d" % len(body) in head


def test_the_date_is_that_of_the_wall_clock():
    """Also after that was set."""
    clock = HandClock()
    dates = Dates(clock)
    before = dates.now()
    clock.wall_offset = 3_600.0

    assert (before, dates.now()) == (b"Mon, 21 Sep 2026 14:30:00 GMT", b"Mon, 21 Sep 2026 15:30:00 GMT")
