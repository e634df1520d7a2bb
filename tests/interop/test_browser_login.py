"""
A person, a real browser and a real server: Chromium is driven through ``token-broker login`` against
oidc-provider, from the printed link to the page at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from broker.cli.local_consents import grants_of
from tests.daemon.browsing import PHONE, WIDE, Visitor, chromium, login_command, visitor
from tests.daemon.harness import BrokerProcess, get
from tests.interop.brokers import broker_at, certificate_section, key_section, running
from tests.interop.rig import Rig, code_registration

CLIENT_ID = "app-code"

CONFIG = """
[client.app]
issuer = "real"
client_id = "app-code"
signing_keys = ["app"]
certificate = "app"
redirect_uris = ["http://127.0.0.1/callback"]
id_token_signed_response_alg = "ES256"

[token.ledger]
client = "app"
grant_type = "authorization_code"
scope = ["openid", "accounts"]
resource = ["{resource}"]
grants = "many"

[workload.app]
listener = ["app"]
tokens = ["ledger"]
may = ["get", "authorize", "list", "revoke"]
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def rig(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Rig.start(
        tmp_path_factory.mktemp("rig"),
        people=True,
        clients=lambda made: [code_registration(CLIENT_ID, made.signing_keys["PS256"])],
    ) as started:
        yield started


@pytest.fixture(scope="module")
def broker(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    sections = CONFIG.format(resource=rig.resource)
    sections += certificate_section(rig.app) + key_section("app", rig.signing_keys["PS256"])
    with running(broker_at(rig, tmp_path_factory.mktemp("broker") / "home", sections)) as process:
        yield process


def log_in(somebody: Visitor, link: str, person: str) -> None:
    """Open the link, and say who one is."""
    somebody.page.goto(link)
    somebody.page.fill("input[name=login]", person)
    somebody.page.fill("input[name=password]", "any")
    somebody.page.click("button[type=submit]")


def agree(somebody: Visitor) -> None:
    """Consent to what is asked."""
    somebody.page.click("button:has-text('Continue')")


SETTINGS = [("light", WIDE), ("dark", WIDE), ("light", PHONE), ("dark", PHONE)]
READABLE = 4.5
"""Contrast of text with its ground (WCAG 2.2, 1.4.3)."""


@pytest.mark.parametrize(("scheme", "width"), SETTINGS)
def test_a_person_consents_and_reads_to_what(
    browser: Browser, broker: BrokerProcess, tmp_path: Path, scheme: str, width: int
):
    """The page is readable in light and dark and on a phone, says what the terminal says, and loads nothing."""
    person = f"alice-{scheme}-{width}"
    with visitor(browser, scheme=scheme, width=width) as alice, login_command(broker.socket, "ledger") as command:
        log_in(alice, command.link, person)
        agree(alice)
        alice.page.wait_for_url(f"{command.origin}/done")
        alice.page.screenshot(path=tmp_path / f"done-{scheme}-{width}.png")
        page = alice.page.inner_text("main").splitlines()
        contrasts, is_too_wide = alice.contrasts(), alice.is_wider_than_the_window()
        code, out, err = command.end()

    assert (code, out.splitlines()[:4]) == (
        0,
        ["Consent given.", "  token  ledger", "  scope  accounts", f"  person {person}"],
    ), err
    assert [line for line in page if line] == [
        "Token Broker",
        "Consent given",
        "Token",
        "ledger",
        "Scope",
        "accounts",
        "The broker has what it needs, and goes on by itself.",
        "You may close this window.",
    ]
    assert len(contrasts) >= 6
    assert [text for text in contrasts if text[1] < READABLE] == []
    assert not is_too_wide
    [grant] = [one for one in grants_of(broker.socket, token="ledger") if one.subject == person]
    assert (grant.state, grant.subject_verified, grant.id in out) == ("fresh", True, True)
    served = get(broker.socket, f"/v1/grants/{grant.id}/token")
    assert (served.status, served.json()["scope"]) == (200, "accounts")


INJECTION = """
async () => {
  const refused = [];
  document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
  document.body.insertAdjacentHTML('beforeend', '<p style="color: red">x</p><img src="/favicon.ico">');
  const script = document.createElement('script');
  script.textContent = 'document.title = "taken over"';
  document.body.append(script);
  await new Promise((resolve) => setTimeout(resolve, 200));
  return [...new Set(refused)].sort();
}
"""
"""What somebody would try who had found a way into the page; gives what the browser refused of it."""


def test_pages_of_the_login_want_nothing_and_let_nothing_in(browser: Browser, broker: BrokerProcess, rig: Rig):
    """Three requests come to this machine's port, and none goes anywhere from there."""
    with visitor(browser) as alice, login_command(broker.socket, "ledger") as command:
        log_in(alice, command.link, "alice")
        with alice.page.expect_response(f"{command.origin}/done") as arrived:
            agree(alice)
        alice.page.wait_for_url(f"{command.origin}/done")
        headers = arrived.value.headers
        refused = alice.page.evaluate(INJECTION)
        came = [url for url in alice.asked if url.startswith(command.origin)]
        code, _, _ = command.end()

    assert code == 0
    assert [url.partition("?")[0] for url in came] == [
        command.link,
        f"{command.origin}/callback",
        f"{command.origin}/done",
    ]
    assert {page for page, _ in alice.foreign} <= {urlsplit(rig.issuer).netloc}  # whose pages want a font
    assert refused == ["img-src", "script-src-elem", "style-src-attr"]
    policy = [part.strip() for part in headers["content-security-policy"].split(";")]
    assert policy[0] == "default-src 'none'"
    assert policy[1].startswith("style-src 'sha256-")
    assert {"frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"} <= set(policy)
    assert (headers["referrer-policy"], headers["cache-control"]) == ("no-referrer", "no-store")


@pytest.mark.parametrize(("scheme", "width"), SETTINGS)
def test_a_person_who_declines_reads_what_to_do(
    browser: Browser, broker: BrokerProcess, tmp_path: Path, scheme: str, width: int
):
    """The server sends an error back; page and terminal say the same, and there is no grant."""
    before = len(list(grants_of(broker.socket)))
    with visitor(browser, scheme=scheme, width=width) as alice, login_command(broker.socket, "ledger") as command:
        alice.page.goto(command.link)
        alice.page.click("a:has-text('Cancel')")
        alice.page.wait_for_url(f"{command.origin}/failed")
        alice.page.screenshot(path=tmp_path / f"failed-{scheme}-{width}.png")
        page = alice.page.inner_text("main").splitlines()
        contrasts, is_too_wide = alice.contrasts(), alice.is_wider_than_the_window()
        code, out, err = command.end()

    assert (code, out) == (1, "")
    assert [line for line in page if line] == [
        "Token Broker",
        "Consent was refused",
        "Nothing was granted, because the request was declined at the server.",
        "What to do",
        "If that was a mistake, run the command again and agree.",
        "You may close this window.",
    ]
    assert "Consent was refused. Nothing was granted" in err
    assert [text for text in contrasts if text[1] < READABLE] == []
    assert not is_too_wide
    assert len(list(grants_of(broker.socket))) == before


def test_a_link_that_somebody_else_opens_too_is_worth_nothing(browser: Browser, broker: BrokerProcess):
    """Mallory opened it first; the person at the terminal sees why it ends, and Mallory's login counts for nothing."""
    before = len(list(grants_of(broker.socket)))
    with (
        visitor(browser) as mallory,
        visitor(browser) as alice,
        login_command(broker.socket, "ledger") as command,
    ):
        log_in(mallory, command.link, "mallory")
        alice.page.goto(command.link)
        page = alice.page.inner_text("main")
        code, out, err = command.end()

    assert (code, out) == (1, "")
    assert "The link was opened twice" in page
    assert "The link was opened twice" in err
    assert len(list(grants_of(broker.socket))) == before
    assert broker.records("authorization_abandoned") != []


def test_a_callback_from_another_browser_spends_nothing(browser: Browser, broker: BrokerProcess):
    """Mallory's answer in front of Alice's: it is refused without a word to the broker, and Alice goes on."""
    with (
        visitor(browser) as mallory,
        visitor(browser) as alice,
        login_command(broker.socket, "ledger") as command,
    ):
        log_in(alice, command.link, "alice-goes-on")
        answer = mallory.page.goto(f"{command.origin}/callback?code=stolen&state=guessed")
        status = None if answer is None else answer.status
        agree(alice)
        alice.page.wait_for_url(f"{command.origin}/done")
        code, out, err = command.end()

    assert (status, code) == (400, 0), err
    assert "  person alice-goes-on\n" in out


def test_a_site_that_sends_the_browser_to_the_callback_spends_nothing(browser: Browser, broker: BrokerProcess):
    """The browser has the cookie then; but it has not the state of what was asked, and Alice goes on."""
    with visitor(browser) as alice, login_command(broker.socket, "ledger") as command:
        log_in(alice, command.link, "alice-goes-on-too")
        page = alice.context.new_page()
        answers = [page.goto(f"{command.origin}/callback?{query}") for query in ("error=x", "code=c&state=guessed")]
        statuses = [None if answer is None else answer.status for answer in answers]
        agree(alice)
        alice.page.wait_for_url(f"{command.origin}/done")
        code, out, err = command.end()

    assert (statuses, code) == ([400, 400], 0), err
    assert "  person alice-goes-on-too\n" in out
