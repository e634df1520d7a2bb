"""Tests of ``broker/cli/online.py``: what is made of what the servers said (tests/daemon asks real ones)."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.online import DAY, Asked, clock_difference, of_certificate, of_issuer
from broker.errors import Outcome, RemoteError
from broker.oauth.metadata import AuthorizationServer

DATE = "Mon, 21 Sep 2026 14:13:20 GMT"
STATED = 1_790_000_000.0

SERVER = AuthorizationServer(issuer="https://as.example", token_endpoint="https://as.example/token")


@pytest.mark.parametrize(
    ("begin", "end", "ahead"),
    [
        (STATED, STATED + 0.9, 0.0),
        (STATED + 0.9, STATED + 1.5, 0.0),  # the date has whole seconds
        (STATED - 20, STATED + 20, 0.0),  # a slow answer is no difference
        (STATED + 61, STATED + 62, 60.0),
        (STATED - 62, STATED - 60, -60.0),
    ],
)
def test_the_clocks_differ_by_no_less_than_is_said(begin: float, end: float, ahead: float):
    """A server must not be told wrong for being slow."""
    assert clock_difference(DATE, begin, end) == ahead


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Sep 2026 14:13:20 GMT", "\x00", "1" * 100])
def test_a_date_that_is_none_says_nothing(date: str):
    """And breaks nothing."""
    assert clock_difference(date, STATED, STATED) is None


@pytest.mark.parametrize(("ahead", "way"), [(60.0, "60 s ahead of"), (-3_600.0, "3600 s behind")])
def test_a_clock_that_is_wrong_is_named_with_its_direction(ahead: float, way: str):
    """Assertions are refused for it, and the server's words seldom say so."""
    findings = list(of_issuer("a", Asked(server=SERVER, ahead=ahead)))

    assert [finding.wrong for finding in findings] == [False, True]
    assert way in findings[1].text


def test_a_server_that_a_dialect_describes_is_not_said_to_be_accepted():
    """Nobody was asked, so that nothing is known of it, its clock neither."""
    (finding,) = of_issuer("a", Asked(server=SERVER, ahead=None, described=True))

    assert (finding.place, finding.wrong) == ("issuer.a", False)
    assert "dialect" in finding.text
    assert "accepted" not in finding.text


@pytest.mark.parametrize("ahead", [None, 0.0, 15.0, -15.0])
def test_a_small_or_unknown_difference_is_not_mentioned(ahead: float | None):
    """Servers allow for some seconds."""
    assert [finding.wrong for finding in of_issuer("a", Asked(server=SERVER, ahead=ahead))] == [False]


def test_a_refused_document_is_told_with_its_code_and_its_remedy():
    """One line an operator can act on."""
    error = RemoteError("dns_failed", "no such host", outcome=Outcome.NOT_SENT, hint="see the name")

    (finding,) = of_issuer("a", Asked(server=error, ahead=None, urls=("https://as/a", "https://as/a")))

    assert (finding.place, finding.wrong) == ("issuer.a", True)
    assert finding.text == "no such host [dns_failed]; see the name; asked for was https://as/a"


@pytest.mark.parametrize(
    ("days", "text", "wrong"),
    [
        (100, "100 day(s) left, until 2026-12-30 14:13 UTC", False),
        (3, "3 day(s) left, until 2026-09-24 14:13 UTC: renew it now", False),
        (-1, "", True),
    ],
)
def test_the_days_of_a_certificate_are_counted(days: int, text: str, wrong: bool):
    """With a word while there is time."""
    finding = of_certificate("c", STATED + days * DAY, STATED)

    assert finding.text.startswith(text)
    assert finding.wrong is wrong


def test_online_and_syntax_exclude_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One opens no file, the other needs them."""
    code = main(["check", "--online", "--syntax", "--config", str(tmp_path / "c")])

    assert code == 2
    assert "choose one" in capsys.readouterr().err
