"""The page that is measured is the one that a scrape gets."""

from __future__ import annotations

import pytest

from bench import scrape


def test_all_pieces_are_measured_of_a_page_with_every_token():
    """No piece is the whole page."""
    page = scrape.measure(1_000)
    whole, _ = scrape.metrics_of(1_000).render()

    assert page.bytes == pytest.approx(len(whole), rel=0.01)  # the time of the process is in it
    assert page.pieces > 10
    assert 0 < page.longest < page.all


def test_the_table_has_a_row_for_each_number_of_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """With the goal beside the longest piece."""
    monkeypatch.setattr(scrape, "TOKENS", (10, 20))
    monkeypatch.setattr(scrape, "ROUNDS", 1)

    scrape.main()

    rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["10 tokens", "20 tokens"]
    assert all(row.split("|")[5].strip() == "2" for row in rows[2:])
