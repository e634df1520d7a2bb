from __future__ import annotations

import pytest

from broker.tokens.breaker import MAX_SUSPICIONS, PROBE_INTERVAL, Breaker, Closed, Open, admit, after

SUSPECTED = "certificate_suspected"


def end(breaker: Breaker, reason: str | None, *, admitted_at: float, now: float, answered: bool = False) -> Breaker:
    return after(breaker, reason, now, admitted_at=admitted_at, answered=answered)


def suspect(times: int) -> Breaker:
    """Suspicions one after the other, a second each."""
    breaker: Breaker = Closed()
    for number in range(times):
        breaker = end(breaker, SUSPECTED, admitted_at=float(number), now=number + 0.5)
    return breaker


def test_three_suspicions_in_a_row_open_it():
    """Two may be a restarting server; the third stops the client but for probes."""
    assert suspect(MAX_SUSPICIONS - 1) == Closed(suspicions=2, suspected_at=1.5)
    assert suspect(MAX_SUSPICIONS) == Open(probe_at=2.5 + PROBE_INTERVAL)


def test_many_at_once_are_one_suspicion():
    """A restart that resets three requests of the same moment says no more than one reset."""
    breaker: Breaker = Closed()
    for _ in range(10):
        breaker = end(breaker, SUSPECTED, admitted_at=0.0, now=0.5)

    assert breaker == Closed(suspicions=1, suspected_at=0.5)


def test_an_expired_certificate_counts_as_a_suspicion():
    """The better-known reason is the same suspicion."""
    before = Closed(suspicions=2, suspected_at=0.0)

    assert end(before, "certificate_expired", admitted_at=1.0, now=2.0) == Open(probe_at=2.0 + PROBE_INTERVAL)


@pytest.mark.parametrize("reason", ["connect_failed", "timed_out", "dns_failed"])
def test_silence_neither_adds_to_a_suspicion_nor_clears_it(reason: str):
    """That nobody listens says nothing about our certificate."""
    suspected = Closed(suspicions=2, suspected_at=0.0)

    assert end(suspected, reason, admitted_at=1.0, now=2.0) == suspected
    assert end(Open(probe_at=9.0), reason, admitted_at=9.0, now=9.5) == Open(probe_at=9.0)


@pytest.mark.parametrize("breaker", [Closed(suspicions=2, suspected_at=0.0), Open(probe_at=9.0)])
def test_any_answer_of_the_server_clears_it(breaker: Breaker):
    """A server that answers, even with an error, accepted the certificate."""
    assert end(breaker, "server_refused", admitted_at=1.0, now=2.0, answered=True) == Closed()


def test_requests_pass_while_it_is_closed():
    """A suspicion alone holds nothing back."""
    assert admit(Closed(suspicions=2), 0.0) == (Closed(suspicions=2), None)


def test_requests_wait_for_the_probe_while_it_is_open():
    """Who comes too early is told how long to wait."""
    assert admit(Open(probe_at=60.0), 45.0) == (Open(probe_at=60.0), 15.0)


def test_only_one_request_is_the_probe():
    """The one that passes moves the next probe, so that others go on waiting."""
    breaker, wait = admit(Open(probe_at=60.0), 60.0)
    again, wait_again = admit(breaker, 60.0)

    assert wait is None
    assert again == breaker
    assert wait_again == PROBE_INTERVAL


def test_a_probe_that_fails_keeps_it_open():
    """The next probe comes an interval after the end of this one."""
    breaker, _ = admit(Open(probe_at=60.0), 60.0)

    assert end(breaker, SUSPECTED, admitted_at=60.0, now=61.0) == Open(probe_at=61.0 + PROBE_INTERVAL)


def test_a_request_from_before_it_opened_does_not_put_the_probe_off():
    """It was on its way already, and tells nothing new."""
    assert end(Open(probe_at=62.5), SUSPECTED, admitted_at=1.0, now=30.0) == Open(probe_at=62.5)
