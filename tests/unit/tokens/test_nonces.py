from __future__ import annotations

from broker.tokens.nonces import MAX_ORIGINS, MAX_RECENT, RECENT, Nonces
from tests.fakes import HandClock

API = "https://api.example"


def test_an_origin_gets_its_own_newest_nonce_and_no_other():
    """One that never gave a nonce is never sent one (DP-03)."""
    nonces = Nonces(HandClock())

    nonces.take(API, "first")
    nonces.take(API, "second")

    assert nonces.newest(API) == "second"
    assert nonces.newest("https://other.example") is None


def test_a_nonce_is_known_again_for_five_minutes():
    """Also one that was replaced meanwhile; never that of another origin (rules.md R7)."""
    clock = HandClock()
    nonces = Nonces(clock)
    nonces.take(API, "first")
    nonces.take(API, "second")

    clock.now += RECENT

    assert nonces.is_recent(API, "first")
    assert not nonces.is_recent(API, "third")
    assert not nonces.is_recent("https://other.example", "first")
    clock.now += 1
    assert not nonces.is_recent(API, "first")
    assert nonces.newest(API) == "second"


def test_a_nonce_that_is_handed_out_again_is_known_for_longer():
    """Some servers have one for minutes, and say it with each answer."""
    clock = HandClock()
    nonces = Nonces(clock)
    nonces.take(API, "same")
    clock.now += RECENT
    nonces.take(API, "same")
    clock.now += RECENT

    assert nonces.is_recent(API, "same")


def test_a_server_cannot_fill_the_memory():
    """With a nonce for each answer, nor by many names."""
    nonces = Nonces(HandClock())
    for number in range(MAX_RECENT + 1):
        nonces.take(API, f"n{number}")
    assert not nonces.is_recent(API, "n0")
    assert nonces.is_recent(API, "n1")

    for number in range(MAX_ORIGINS - 1):
        nonces.take(f"https://{number}.example", "n")
    assert nonces.newest(API) is not None
    nonces.take("https://one.more.example", "n")

    assert nonces.newest(API) is None
    assert nonces.newest("https://0.example") == "n"
