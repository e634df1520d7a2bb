from __future__ import annotations

import pytest

from broker.tokens.breaker import MAX_SUSPICIONS, PROBE_INTERVAL, Breaker, Closed, Open, admit, after

SUSPECTED = "certificate_suspected"


def suspect(breaker: Breaker, times: int, now: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker = after(breaker, SUSPECTED, now, answered=False)
    return breaker


def test_three_suspicions_in_a_row_open_it():
    """Two may be a restarting server; the third stops the client but for probes."""
    assert suspect(Closed(), MAX_SUSPICIONS - 1) == Closed(suspicions=2)
    assert suspect(Closed(), MAX_SUSPICIONS) == Open(probe_at=PROBE_INTERVAL)


def test_an_expired_certificate_counts_as_a_suspicion():
    """The better-known reason is the same suspicion."""
    assert after(Closed(suspicions=2), "certificate_expired", 0.0, answered=False) == Open(probe_at=PROBE_INTERVAL)


@pytest.mark.parametrize("reason", ["connect_failed", "timed_out", "dns_failed"])
def test_silence_neither_adds_to_a_suspicion_nor_clears_it(reason: str):
    """That nobody listens says nothing about our certificate."""
    assert after(Closed(suspicions=2), reason, 0.0, answered=False) == Closed(suspicions=2)
    assert after(Open(probe_at=9.0), reason, 0.0, answered=False) == Open(probe_at=9.0)


@pytest.mark.parametrize("breaker", [Closed(suspicions=2), Open(probe_at=9.0)])
def test_any_answer_of_the_server_clears_it(breaker: Breaker):
    """A server that answers, even with an error, accepted the certificate."""
    assert after(breaker, "server_refused", 0.0, answered=True) == Closed()


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
    """The next probe comes an interval later."""
    assert after(Open(probe_at=60.0), SUSPECTED, 100.0, answered=False) == Open(probe_at=100.0 + PROBE_INTERVAL)
