"""What is said of refreshes."""

from __future__ import annotations

from bench.refreshes import Refreshed, encoded, table


def test_the_table_has_the_rate_and_the_cost():
    """And what failed, which should be nothing."""
    row = table(Refreshed(grants=20_000, per_second=1_234.5, processor=456.7, failed=0)).splitlines()[-1]

    assert [cell.strip() for cell in row.strip("|").split("|")] == ["20,000 grants", "1,234", "457", "0"]


def test_parts_of_a_token_are_base64url_without_padding():
    """As the broker reads them."""
    assert encoded(b"\xff\xfe") == "__4"
