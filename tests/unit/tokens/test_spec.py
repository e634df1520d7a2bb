from __future__ import annotations

import dataclasses

from tests.unit.tokens.tokens import issued, spec


def test_a_lifetime_runs_from_request_to_expiry():
    """The lifetime is anchored at the start of the request, not at the answer."""
    assert issued(at=50.0, lifetime=60.0).lifetime == 60.0


def test_the_printed_form_of_an_issued_token_does_not_hold_it():
    """A token that ends up in a traceback or a debugger shows its fingerprint."""
    token = issued(name="canary")

    assert "canary-1" not in repr(token)
    assert "canary-1" not in str(token.access_token)


def test_a_spec_asks_for_client_credentials_by_default():
    """The grant type is the standard's word."""
    assert spec().grant_type == "client_credentials"


def test_what_is_left_goes_by_the_boot_clock_and_by_the_date_of_the_certificate():
    """A wall clock that is set moves the one end only."""
    token = issued(at=1_000.0, lifetime=300.0)
    bound = dataclasses.replace(token, certificate_not_after=5_000.0)

    assert token.left(boot=1_100.0, wall=4_000.0) == token.left(boot=1_100.0, wall=99_000.0) == 200.0
    assert bound.left(boot=1_100.0, wall=4_000.0) == 200.0
    assert bound.left(boot=1_100.0, wall=4_950.0) == 50.0
    assert bound.left(boot=1_100.0, wall=6_000.0) == -1_000.0


def test_the_end_that_is_shown_is_no_later_than_that_of_the_certificate():
    """Also after the wall clock was set ahead."""
    token = dataclasses.replace(issued(at=1_000.0, lifetime=300.0), certificate_not_after=5_000.0)

    assert token.expires_at_by(boot=1_100.0, wall=4_000.0) == 4_200.0
    assert token.expires_at_by(boot=1_100.0, wall=4_900.0) == 5_000.0


def test_a_token_ends_with_its_certificate_if_that_cut_it_short():
    """One that is bound to nothing does not, nor does one that ends before."""
    token = issued()

    assert dataclasses.replace(token, certificate_not_after=token.expires_at_wall).ends_with_certificate
    assert not dataclasses.replace(token, certificate_not_after=token.expires_at_wall + 1.0).ends_with_certificate
    assert not token.ends_with_certificate


def test_what_a_token_is_bound_to_is_told_as_far_as_it_was_seen():
    """RFC 7800: a certificate, a DPoP key, or both; a binding that nobody saw is none to tell of."""
    bound = {
        "certificate": dataclasses.replace(issued(), binding="certificate", certificate_thumbprint="x"),
        "key": dataclasses.replace(issued(), binding="dpop", certificate_thumbprint=None, jkt="k"),
        "both": dataclasses.replace(issued(), binding="dpop", certificate_thumbprint="x", jkt="k"),
        "unseen": dataclasses.replace(issued(), binding="unverified", certificate_thumbprint="x"),
    }

    assert {name: token.confirmation() for name, token in bound.items()} == {
        "certificate": {"x5t#S256": "x"},
        "key": {"jkt": "k"},
        "both": {"jkt": "k", "x5t#S256": "x"},
        "unseen": None,
    }
