from __future__ import annotations

from broker.api import proof_problems


def test_the_hint_says_what_proofs_may_be_for():
    """In base URLs of the configuration, or how to write them."""
    some, none = proof_problems.resource_refused(["https://a/", "https://b/v1"]), proof_problems.resource_refused([])

    assert some.hint == "proofs for this token are for URLs under: https://a/, https://b/v1"
    assert "dpop_resources" in str(none.hint)
    assert {some.status, none.status} == {403}


def test_what_passes_by_itself_says_when_to_come_again():
    """The others are mistakes, and a connection outlives them."""
    assert proof_problems.NO_PROOF.headers == (("Retry-After", "1"),)
    assert [problem.close for problem in (proof_problems.NOT_DPOP, proof_problems.NONCE_UNKNOWN)] == [False, False]
