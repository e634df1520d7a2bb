"""What may be kept of requests, of whom, and how much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.api.guard import Incoming
from broker.api.memo import (
    INELIGIBLE,
    MAX_BYTES,
    MAX_CALLERS,
    MAX_REQUESTS,
    Memo,
    is_eligible,
    keep,
    may_be_whole,
)
from broker.policy.peer import Peer

GOOD = b"GET /v1/tokens/directory HTTP/1.1\r\nHost: localhost\r\n\r\n"

PARSED: Any = "what was parsed"

INCOMING = Incoming(
    method="GET",
    target="/v1/tokens/directory",
    version=(1, 1),
    headers=(("Host", "localhost"),),
    head_size=60,
    has_body=False,
    content_length=None,
)


def test_a_piece_that_is_one_head_may_be_a_whole_request():
    """Whether it is, aiohttp says."""
    assert may_be_whole(GOOD)


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        GOOD[:-1],
        GOOD + b"G",
        GOOD + GOOD,
        GOOD.replace(b"tokens", b"grants"),
        GOOD.replace(b"GET", b"HEAD"),
        GOOD[:-2] + b"X: " + b"a" * MAX_BYTES + b"\r\n\r\n",
    ],
)
def test_any_other_piece_may_not(piece: bytes):
    """A part of one, two of them, one of another route, one that is too long."""
    assert not may_be_whole(piece)


def test_a_plain_request_is_eligible():
    """In the one version that keeps connections by itself."""
    assert is_eligible(INCOMING)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": (1, 0)},
        {"method": "HEAD"},
        {"has_body": True},
        {"content_length": 0},
        *({"headers": ((name.title(), "x"),)} for name in sorted(INELIGIBLE)),
    ],
)
def test_a_request_with_more_to_it_is_not(changes: dict[str, Any]):
    """Nor one with a secret of its sender, whatever that may be for."""
    assert not is_eligible(replace(INCOMING, **changes))


def test_each_caller_has_requests_of_its_own():
    """The pid makes no other caller, everything else does."""
    memo, peer = Memo(), Peer(listener="app", uid=1, gid=1, groups=frozenset({1}), pid=1)
    keep(memo.of(peer), GOOD, PARSED)
    others = [{"listener": "b"}, {"uid": 2}, {"gid": 2}, {"groups": frozenset[int]()}]

    assert GOOD in memo.of(replace(peer, pid=2))
    assert [GOOD in memo.of(replace(peer, **changes)) for changes in others] == [False] * 4  # type: ignore[arg-type]


def test_of_one_caller_the_latest_are_kept():
    """One that makes up requests pushes out its own."""
    known = Memo().of(Peer(listener="app", uid=1))
    for number in range(3 * MAX_REQUESTS):
        keep(known, b"%d" % number, PARSED)

    assert list(known) == [b"%d" % number for number in range(2 * MAX_REQUESTS, 3 * MAX_REQUESTS)]


def test_of_callers_those_are_kept_that_came_last():
    """However many there are."""
    memo = Memo()
    first, *others = [Peer(listener="app", uid=number) for number in range(MAX_CALLERS + 1)]
    keep(memo.of(first), GOOD, PARSED)
    for peer in others[:-1]:
        keep(memo.of(peer), GOOD, PARSED)
    memo.of(first)
    memo.of(others[-1])

    assert len(memo) == MAX_CALLERS - 1
    assert GOOD in memo.of(first)
