from __future__ import annotations

import pytest

from broker.tokens.suspicion import (
    PROBE_INTERVAL,
    WINDOW,
    Suspicion,
    admit,
    after_client_error,
    after_refusal,
    after_success,
    bears_another,
    threshold,
)

NOW = 1000.0


def refuse(suspicion: Suspicion, *names: str, now: float = NOW, grants: int = 1000) -> Suspicion:
    for name in names:
        suspicion = after_refusal(suspicion, name, now=now, grants=grants)
    return suspicion


@pytest.mark.parametrize(("grants", "needed"), [(1, 2), (2, 2), (10, 2), (20, 2), (21, 3), (1000, 3)])
def test_three_grants_or_a_tenth_make_a_client_suspect_but_never_one(grants: int, needed: int):
    """R2.7, with the reason for "never one" beside the constant."""
    names = [f"g{number}" for number in range(needed)]

    assert threshold(grants) == needed
    assert refuse(Suspicion(), *names, grants=grants).is_suspect
    assert not refuse(Suspicion(), *names[:-1], grants=grants).is_suspect


def test_one_grant_counts_once_however_often_it_is_refused():
    """It is asked for twice before it ends."""
    assert not refuse(Suspicion(), "a", "a", "a", "b", "a").is_suspect


def test_refusals_that_are_far_apart_do_not_count_together():
    """People do withdraw their consents, one by one."""
    first = refuse(Suspicion(), "a", "b")

    assert not refuse(first, "c", now=NOW + WINDOW).is_suspect
    assert refuse(first, "c", now=NOW + WINDOW - 1).is_suspect


def test_the_verdicts_of_that_minute_are_named():
    """They are taken back."""
    suspicion = refuse(refuse(Suspicion(), "old", now=NOW - WINDOW), "a", "b", "c")

    assert set(suspicion.lately(NOW)) == {"a", "b", "c"}


def test_a_suspect_client_asks_once_in_a_while():
    """The one that passes is the probe; the others hear how long they have to wait."""
    suspicion = refuse(Suspicion(), "a", "b", "c")

    assert admit(suspicion, NOW) == (suspicion, PROBE_INTERVAL)
    probing, wait = admit(suspicion, NOW + PROBE_INTERVAL)
    assert wait is None
    assert admit(probing, NOW + PROBE_INTERVAL + 1)[1] == PROBE_INTERVAL - 1


def test_a_refused_probe_leaves_it_suspect():
    """Another grant each time, by chance: a dead one alone does not keep it so."""
    suspicion = refuse(refuse(Suspicion(), "a", "b", "c"), "d", now=NOW + PROBE_INTERVAL)

    assert suspicion.is_suspect


def test_one_success_clears_it():
    """The server believes the client."""
    trusted = after_success(refuse(Suspicion(), "a", "b", "c"))

    assert not trusted.is_suspect
    assert admit(trusted, NOW) == (trusted, None)
    assert after_success(trusted) is trusted


def test_one_success_does_not_forgive_what_was_refused_within_the_minute():
    """A server of which every second instance lost its mind goes on being suspect."""
    trusted = after_success(refuse(Suspicion(), "a", "b", "c"))

    assert refuse(trusted, "d", now=NOW + 1).is_suspect
    assert not bears_another(trusted, now=NOW + 1, grants=1000)
    assert bears_another(trusted, now=NOW + WINDOW, grants=1000)
    assert bears_another(refuse(Suspicion(), "a"), now=NOW, grants=1000)
    assert not bears_another(refuse(Suspicion(), "a"), now=NOW, grants=10)


def test_a_refused_client_makes_verdicts_about_its_grants_worthless():
    """``invalid_client`` right after ``invalid_grant``: the fault is with the client."""
    assert after_client_error(refuse(Suspicion(), "a"), now=NOW + 1).is_suspect
    assert not after_client_error(Suspicion(), now=NOW).is_suspect
    assert not after_client_error(refuse(Suspicion(), "a"), now=NOW + WINDOW).is_suspect
    suspect = refuse(Suspicion(), "a", "b", "c")
    assert after_client_error(suspect, now=NOW) == suspect
