"""What the token server of the benchmarks says."""

from __future__ import annotations

from bench.canned import encoded


def test_parts_of_a_token_are_base64url_without_padding():
    """As the broker reads them."""
    assert encoded(b"\xff\xfe") == "__4"
