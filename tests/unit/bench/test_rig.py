from __future__ import annotations

import tomllib

import pytest

from bench.rig import Load, configuration
from bench.tokens import FULL, QUICK


@pytest.mark.parametrize(
    ("rate", "concurrent", "allowed"),
    [
        (FULL.rate, FULL.concurrent, FULL.rate),
        (QUICK.rate, QUICK.concurrent, QUICK.rate),
        (20, 8, 28),
        (1_000, 16, 1_000),
    ],
    ids=["full", "quick", "default", "largest"],
)
def test_what_may_arrive_in_a_second_is_the_rate_unless_that_is_small(rate: int, concurrent: int, allowed: int):
    """Where a few are asked for in a second, those under way weigh more than the distance between starts."""
    assert Load(tokens=1, rate=rate, concurrent=concurrent).allowed == allowed


def test_tokens_are_spread_over_clients_and_clients_over_issuers():
    """Evenly, and each issuer has the limits of the load."""
    written = tomllib.loads(configuration(Load(tokens=8, rate=7, concurrent=3), (1_001, 1_002)))

    assert [token["client"] for token in written["token"].values()] == ["c0", "c1", "c2", "c3"] * 2
    assert [client["issuer"] for client in written["client"].values()] == ["i0", "i1"] * 2
    assert {issuer["max_requests_per_second"] for issuer in written["issuer"].values()} == {7}
    assert written["workload"]["bench"]["tokens"] == list(written["token"])


def test_clients_with_secrets_sign_nothing_and_present_nothing():
    """Nothing is left in the file that nobody uses."""
    written = tomllib.loads(configuration(Load(tokens=1, secrets=True), (1_001, 1_002)))

    assert {client["client_auth_method"] for client in written["client"].values()} == {"client_secret_post"}
    assert not {"key", "certificate"} & set(written)
