from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from broker.cli import login_pages as pages
from broker.cli.local_client import DaemonError
from broker.errors import BrokerError, LocalError

PAGES = [pages.done_page("ledger", "openid accounts"), pages.failed_page(pages.USED_TWICE)]


class Outline(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}


def luminance(color: str) -> float:
    """WCAG 2.2, relative luminance of a color written as #rrggbb."""
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_and_loads_nothing(page: bytes):
    """A language, a title, one heading, a width for phones; no script, no image, no form and no link."""
    outline = Outline(page)

    assert outline.tags[0] == ("html", {"lang": "en"})
    assert [tag for tag, _ in outline.tags].count("h1") == 1
    assert {"title", "main", "style"} <= outline.names()
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in outline.tags
    assert not outline.names() & {"script", "img", "link", "form", "a", "iframe", "input"}
    assert not re.search(rb"https?:|url\(|@import", page)


@pytest.mark.parametrize("page", PAGES)
def test_the_policy_admits_the_style_of_the_page_and_nothing_else(page: bytes):
    """The hash is of the very bytes between the tags (CSP level 3)."""
    style = re.search(rb"<style>(.*)</style>", page, re.DOTALL)

    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1]).digest()).decode()
    assert pages.CONTENT_SECURITY_POLICY.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "frame-ancestors 'none'" in pages.CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("scheme", [0, 1])
@pytest.mark.parametrize("name", ["text", "soft", "good", "bad"])
def test_every_color_of_text_stands_out_from_the_card_and_the_page(scheme: int, name: str):
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3), in light and in dark."""
    palette = [dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", half)) for half in pages.STYLE.split("@media (prefers")[:2]]

    for ground in ("card", "page"):
        lighter, darker = sorted((luminance(palette[scheme][name]), luminance(palette[scheme][ground])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_what_was_granted_is_said_in_names_alone():
    """A scope that is none, whoever says so, does not get onto the page."""
    page = pages.done_page("led<ger", 'openid <script> accounts "quoted" a\\b').decode()

    assert "led&lt;ger" in page
    assert re.findall(r"<li><code>(.*?)</code></li>", page) == ["openid", "&lt;script&gt;", "accounts"]


def test_without_a_scope_the_page_says_so():
    """An empty list would look like a mistake."""
    assert "as the server has it" in pages.done_page("ledger", "").decode()


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (DaemonError({"error": "authorization_server_error", "server_error": "access_denied"}, 502), pages.REFUSED),
        (
            DaemonError({"error": "authorization_server_error", "server_error": "x", "check": "error"}, 502),
            pages.SERVER_REFUSED,
        ),
        (DaemonError({"error": "authorization_server_error", "server_error": "x"}, 502), pages.CLIENT_REFUSED),
        (DaemonError({"error": "subject_mismatch"}, 409), pages.OTHER_PERSON),
        (DaemonError({"error": "invalid_request", "state": "expired"}, 410), pages.EXPIRED),
        (DaemonError({"error": "not_found"}, 404), pages.EXPIRED),
        (DaemonError({"error": "access_denied"}, 403), pages.NOT_ALLOWED),
        (DaemonError({"error": "temporarily_unavailable"}, 503), pages.TRY_LATER),
        (DaemonError({"error": "invalid_request", "check": "state"}, 400), pages.NOT_ACCEPTED),
        (DaemonError({"error": "authorization_server_error", "check": "nonce"}, 502), pages.NOT_ACCEPTED),
        (LocalError("daemon_unreachable", "nobody listens"), pages.UNREACHABLE),
    ],
)
def test_the_words_are_chosen_by_the_code(error: BrokerError, problem: pages.Problem):
    """What the daemon or the server said is not among them."""
    assert pages.problem_of(error) is problem


def test_every_problem_says_what_to_do():
    """A heading, an explanation, and a remedy, as whole sentences."""
    problems = [value for value in vars(pages).values() if isinstance(value, pages.Problem)]

    assert len(problems) >= 9
    for problem in problems:
        assert problem.explanation.endswith(".")
        assert problem.remedy.endswith(".")
        assert not problem.heading.endswith(".")
