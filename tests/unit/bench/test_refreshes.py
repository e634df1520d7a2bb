"""What is said of refreshes."""

from __future__ import annotations

from bench.refreshes import Refreshed, table


def test_the_table_has_the_rate_and_the_cost():
    """And what failed, which should be nothing."""
    row = table(Refreshed(grants=20_000, per_second=1_234.5, processor=456.7, failed=0)).splitlines()[-1]

    assert [cell.strip() for cell in row.strip("|").split("|")] == ["20,000 grants", "1,234", "457", "0"]
