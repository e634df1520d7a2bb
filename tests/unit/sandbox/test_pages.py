"""Tests of ``broker/sandbox/pages.py``: what people see is plain, labelled and harmless."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from broker.sandbox.pages import (
    STYLE,
    consent_page,
    error_page,
    form_post_page,
    logged_out_page,
    login_page,
    policy,
)

EVIL = '"><script>alert(1)</script>'

PAGES = {
    "login": login_page(("alice", "bob"), client_id=EVIL, hint=EVIL),
    "consent": consent_page("alice", client_id=EVIL, scope=[EVIL], details=[{"type": EVIL}]),
    "error": error_page(EVIL, EVIL),
    "form": form_post_page("https://app/cb", [("state", EVIL), (EVIL, "x")]),
    "logged out": logged_out_page(),
}


class Elements(HTMLParser):
    """Collects elements, and the text in labels and buttons."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize("name", PAGES)
def test_no_page_lets_bytes_of_a_request_become_markup(name: str):
    """There is no script at all, and nothing from elsewhere."""
    elements = Elements(PAGES[name])

    assert not {tag for tag, _ in elements.found} & {"script", "img", "link", "iframe", "object"}
    assert not [attribute for _, attributes in elements.found for attribute in attributes if attribute.startswith("on")]


@pytest.mark.parametrize("name", PAGES)
def test_every_page_has_a_language_a_title_a_heading_and_fits_a_phone(name: str):
    """What a screen reader and a small screen need."""
    page, elements = PAGES[name], Elements(PAGES[name])

    assert elements.all("html") == [{"lang": "en"}]
    assert len(elements.all("h1")) == len(elements.all("main")) == len(elements.all("title")) == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in elements.all("meta")
    assert "sandbox" in page


def test_the_style_follows_light_and_dark():
    """Its colors are the system's, apart from a button with colors of its own."""
    assert "color-scheme:light dark" in STYLE
    assert "background:Canvas;color:CanvasText" in STYLE


def test_every_choice_at_the_login_has_a_label_and_one_is_made():
    """The one hinted at, else the first."""
    for hint, checked in ((None, "alice"), ("bob", "bob"), ("mallory", "alice")):
        page = login_page(("alice", "bob"), client_id="app", hint=hint)

        radios = [one for one in Elements(page).all("input") if one["type"] == "radio"]
        assert len(re.findall(r"<label><input[^>]*> \w+</label>", page)) == len(radios) == 2
        assert [one["value"] for one in radios if "checked" in one] == [checked]


def test_the_form_of_the_login_may_have_another_field_and_other_values():
    """Which are escaped like everything else."""
    page = login_page(("ada", "bob"), client_id="app", hint=None, field="userToken", values={"ada": EVIL, "bob": "2"})

    radios = [one for one in Elements(page).all("input") if one["type"] == "radio"]
    assert [(one["name"], one["value"]) for one in radios] == [("userToken", EVIL), ("userToken", "2")]


def test_the_policy_names_each_place_once_that_a_form_may_lead_to():
    """Browsers apply it to every redirect on the way."""
    allowed = policy("https://a.example/x", "https://b.example/y", "https://a.example/z")

    assert "form-action 'self' https://a.example https://b.example;" in allowed


def test_the_consent_names_what_is_asked_for():
    """Who, for whom, what; and both answers are buttons."""
    page = consent_page("bob", client_id="app", scope=["openid", "read"], details=[{"type": "payment"}])

    for word in ("bob", "app", "openid", "read", "payment"):
        assert word in page
    assert [one.get("value") for one in Elements(page).all("button")] == ["allow", "deny"]


def test_a_form_for_the_client_carries_all_parameters():
    """And leads to the redirect URI."""
    elements = Elements(form_post_page("https://app/cb?a=1&b=2", [("code", "c"), ("state", "s")]))

    (form,) = elements.all("form")
    assert form["action"] == "https://app/cb?a=1&b=2"
    assert [(one["name"], one["value"]) for one in elements.all("input")] == [("code", "c"), ("state", "s")]


@pytest.mark.parametrize(
    ("redirect_uri", "place"),
    [
        (None, "'self';"),
        ("https://app.example/cb", "'self' https://app.example;"),
        ("http://127.0.0.1:8765/callback", "'self' http://127.0.0.1:8765;"),
        ("http://[::1]:8765/callback", "'self' http:;"),
    ],
)
def test_forms_lead_here_and_to_the_client_only(redirect_uri: str | None, place: str):
    """Browsers apply form-action to the redirect that follows, too."""
    allowed = policy(redirect_uri)

    assert f"form-action {place}" in allowed
    assert "default-src 'none'" in allowed
    assert "frame-ancestors 'none'" in allowed
    assert "script-src" not in allowed
