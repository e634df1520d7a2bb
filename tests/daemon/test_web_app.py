"""
The example of a single-page application (``deploy/examples/web-app``) in a real browser, at a fake Iridium.

Its back end has the broker of ``docs/examples/iridium.toml`` beside it, and no token of anybody.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from broker.sandbox.iridium.running import Iridium
from tests.daemon.browsing import PHONE, Visitor, chromium, visitor
from tests.daemon.contrary_broker import ContraryBroker, answer
from tests.daemon.harness import PATIENCE, BrokerProcess, Process, wait_until
from tests.daemon.iridium_example import ROOT, example
from tests.daemon.iridium_place import fake_iridium

APP = ROOT / "deploy" / "examples" / "web-app" / "app.py"

READABLE = 4.5
"""Contrast of text with its ground (WCAG 2.2, 1.4.3)."""

MILLISECONDS = PATIENCE * 1_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@dataclass
class Site:
    """The application, with what is behind it."""

    origin: str
    iridium: Iridium
    broker: BrokerProcess
    app: Process

    def subject(self, person: str, provider: str) -> str:
        return self.iridium.subject_of(person, provider)


@contextmanager
def site(directory: Path, *, lifetime: int = 600, switches: tuple[str, ...] = ()) -> Iterator[Site]:
    """Run a fake Iridium, a broker and the application; *switches* are as documented."""
    with ExitStack() as stack:
        iridium = stack.enter_context(fake_iridium(directory / "iridium", lifetime=lifetime))
        for name in switches:
            iridium.set_switch(name, "documented")
        port = free_port()
        origin = f"http://127.0.0.1:{port}"
        iridium.set_redirect_uri(f"{origin}/callback")
        home = iridium.directory
        config = home / "broker.toml"
        config.write_text(example(iridium, origin=origin, home=home))
        broker = BrokerProcess(
            "broker", directory, [], config=config, socket=home / "api.sock", audit=home / "audit.log"
        )
        app = Process("app", directory, [str(APP), "--socket", str(broker.socket), "--port", str(port)])
        app.command = (sys.executable, "-I")
        stack.callback(broker.sweep)
        stack.callback(broker.stop)
        broker.up(ready=False)
        stack.callback(app.stop)
        app.start()
        wait_until(lambda: "; open http" in app.out.read_text() if app.running() else app.running(), "the app serves")
        yield Site(origin, iridium, broker, app)
        secrets = iridium.tokens.values()
        broker.secrets |= secrets
        assert not any(one in app.said() for one in secrets)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def log_in(somebody: Visitor, at: Site, *, person: str, provider: str) -> None:
    """From the first page to the provider's and back."""
    page = somebody.page
    page.goto(at.origin)
    page.click(f"[data-provider={provider}]")
    page.check(f"input[value={person}]")
    page.click("button")
    page.click("button[value=allow]")
    expect(page.locator("#me")).to_have_text(at.subject(person, provider), timeout=MILLISECONDS)


def holds(somebody: Visitor) -> str:
    """Give all that a page of the application could read, and the cookies that it could not."""
    kept = somebody.page.evaluate(
        "() => JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, document.body.outerHTML])"
    )
    return f"{kept}{somebody.context.cookies()}"


@pytest.mark.parametrize("provider", ["github", "google"])
def test_login_call_refresh_and_logout(browser: Browser, tmp_path: Path, provider: str):
    """A person never sees a token, nor that one was refreshed; after the logout there is nothing left at Iridium."""
    switches = ("IRI-13b", "IRI-13e")  # as observed no single-page application may refresh
    with site(tmp_path, lifetime=8, switches=switches) as at, visitor(browser) as ada:
        log_in(ada, at, person="ada", provider=provider)
        at.broker.wait_for("token_refreshed")
        ada.page.click("#call")
        expect(ada.page.locator("#me")).to_have_text(at.subject("ada", provider))

        secrets = at.iridium.tokens.values()
        assert not any(one in holds(ada) for one in secrets)
        assert not any(one in url for one in secrets for url in ada.asked)
        ada.page.click("#logout")
        expect(ada.page.locator("#out")).to_be_visible()

        assert at.broker.wait_for("grant_revoked")["outcome"] == "revoked"
        assert at.iridium.journal.count("logout.ended") == 1
        assert ada.foreign == []


def test_two_people_in_two_browsers_never_see_each_others_data(browser: Browser, tmp_path: Path):
    """Each has a grant of their own, and neither's session leads to the other's; one logs out, the other stays."""
    with site(tmp_path) as at, visitor(browser) as ada, visitor(browser, scheme="dark", width=PHONE) as bob:
        log_in(ada, at, person="ada", provider="github")
        log_in(bob, at, person="bob", provider="github")
        for somebody, name in ((ada, "ada"), (bob, "bob")) * 2:
            somebody.page.click("#call")
            somebody.page.reload()
            expect(somebody.page.locator("#me")).to_have_text(at.subject(name, "github"))
            other = "bob" if name == "ada" else "ada"
            assert at.subject(other, "github") not in holds(somebody)

        ada.page.click("#logout")
        expect(ada.page.locator("#out")).to_be_visible()
        bob.page.click("#call")
        expect(bob.page.locator("#me")).to_have_text(at.subject("bob", "github"))
        ada.page.reload()
        expect(ada.page.locator("#out")).to_be_visible()


def test_a_login_that_somebody_else_began_is_nobodys(browser: Browser, tmp_path: Path):
    """Ada sends bob her way back, while he is logging in: it makes him nobody, and his own login goes on."""
    with site(tmp_path) as at, visitor(browser) as ada, visitor(browser) as bob:
        for somebody in (ada, bob):
            somebody.page.goto(at.origin)
            somebody.page.click("[data-provider=github]")
            somebody.page.wait_for_selector("input[value=bob]")
        his = bob.page.url
        ada.page.check("input[value=ada]")
        ada.page.click("button")
        ada.context.clear_cookies()  # so that her way back is not used up
        ada.page.click("button[value=allow]")
        expect(ada.page.locator("#failed")).to_be_visible()
        (back,) = (url for url in ada.asked if url.startswith(f"{at.origin}/callback"))

        bob.page.goto(back)

        expect(bob.page.locator("#failed")).to_be_visible()
        assert at.iridium.journal.count("token") == 0
        bob.page.goto(his)
        bob.page.check("input[value=bob]")
        bob.page.click("button")
        bob.page.click("button[value=allow]")
        expect(bob.page.locator("#me")).to_have_text(at.subject("bob", "github"), timeout=MILLISECONDS)


def test_who_logs_in_again_leaves_no_grant_behind(browser: Browser, tmp_path: Path):
    """The one before is given up when the new one is there; a restart gives up what nobody has a session to."""
    with site(tmp_path) as at, visitor(browser) as ada:
        log_in(ada, at, person="ada", provider="github")
        ada.page.evaluate("() => login('google')")
        ada.page.check("input[value=bob]")
        ada.page.click("button")
        ada.page.click("button[value=allow]")
        expect(ada.page.locator("#me")).to_have_text(at.subject("bob", "google"), timeout=MILLISECONDS)

        assert at.broker.wait_for("grant_revoked", token="github")["outcome"] == "revoked"
        at.app.stop()
        at.app.start()

        assert at.broker.wait_for("grant_revoked", token="google")["outcome"] == "revoked"


def test_what_a_request_leaves_unread_is_no_request(tmp_path: Path, browser: Browser):
    """A page of somebody else can send a body that looks like one, with the cookies of whoever visits it."""
    smuggled = "POST /api/logout HTTP/1.1\r\nHost: x\r\nOrigin: ORIGIN\r\nX-Requested-By: app\r\n\r\n"
    with site(tmp_path) as at, visitor(browser) as ada:
        log_in(ada, at, person="ada", provider="github")
        (cookie,) = (one["value"] for one in ada.context.cookies() if one["name"] == "session")
        hidden = smuggled.replace("ORIGIN", at.origin).replace("\r\n\r\n", f"\r\nCookie: session={cookie}\r\n\r\n")
        body = "x" * 10_000 + hidden
        for method in ("POST", "GET"):
            with socket.create_connection(("127.0.0.1", int(at.origin.rpartition(":")[2])), PATIENCE) as raw:
                raw.sendall(
                    f"{method} /api/login HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
                )
                answers = b""
                while piece := raw_piece(raw):
                    answers += piece
            assert answers.count(b"HTTP/1.") == 1

        ada.page.click("#call")
        expect(ada.page.locator("#me")).to_have_text(at.subject("ada", "github"))
        assert at.broker.log("grant_revoked") == []


def raw_piece(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        return b""


def test_a_broker_that_is_gone_is_said_to_be(browser: Browser, tmp_path: Path):
    """And who is logged in is not told that they have logged out."""
    with site(tmp_path) as at, visitor(browser) as ada:
        log_in(ada, at, person="ada", provider="github")
        at.broker.stop()

        ada.page.click("#logout")

        expect(ada.page.locator("#failed")).to_contain_text("broker_unreachable")


def test_who_says_no_at_the_provider_is_told_so(browser: Browser, tmp_path: Path):
    """And can try again."""
    with site(tmp_path) as at, visitor(browser) as ada:
        ada.page.goto(at.origin)
        ada.page.click("[data-provider=google]")
        ada.page.check("input[value=ada]")
        ada.page.click("button")
        ada.page.click("button[value=deny]")

        expect(ada.page.locator("#failed")).to_be_visible()
        expect(ada.page.locator("#out")).to_be_visible()
        assert [text for text in ada.contrasts() if text[1] < READABLE] == []
        assert not ada.is_wider_than_the_window()


def test_other_pages_can_neither_begin_nor_end_a_session(tmp_path: Path, browser: Browser):
    """What changes something has to come from the application's own page."""
    with site(tmp_path) as at:
        for headers in ({}, {"Origin": "https://evil.example", "X-Requested-By": "app"}, {"Origin": at.origin}):
            connection = http.client.HTTPConnection(at.origin.removeprefix("http://"), timeout=PATIENCE)
            try:
                body = json.dumps({"provider": "github"})
                connection.request("POST", "/api/login", body, {"Content-Type": "application/json", **headers})
                answer = connection.getresponse()
                answer.read()
            finally:
                connection.close()

            assert answer.status == 403
            assert answer.getheader("Set-Cookie") is None
        assert at.broker.log("authorization_started") == []


def test_a_port_that_is_taken_is_said_to_be_and_nothing_is_given_up(tmp_path: Path):
    """Who listens there may be the application itself, whose people would be logged out."""
    broker = ContraryBroker(tmp_path / "api.sock", [answer(200, {"grants": []})])
    with socket.create_server(("127.0.0.1", 0)) as taken, broker.listening():
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-I", str(APP), "--socket", str(broker.path), "--port", port],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert (done.returncode, done.stdout, broker.requests) == (1, "", [])
    assert done.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port\n"


def test_an_application_without_its_broker_says_so(tmp_path: Path):
    """In one line."""
    done = subprocess.run(
        [sys.executable, "-I", str(APP), "--socket", str(tmp_path / "none.sock"), "--port", str(free_port())],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the broker cannot be asked: FileNotFoundError\n"
