"""
A real browser at the sandbox's pages, and back through ``token-broker login``: in each way in which a server
may answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.daemon.browsing import PHONE, WIDE, Visitor, chromium, login_command, visitor
from tests.daemon.harness import BrokerProcess, SandboxProcess, broker_process, get, sandbox_process

READABLE = 4.5
"""Contrast of text with its ground (WCAG 2.2, 1.4.3)."""

TOKEN = "person"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def sandbox(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@contextmanager
def answering_by(sandbox: SandboxProcess, response_mode: str) -> Iterator[BrokerProcess]:
    """Run a broker whose client is answered in this way."""
    text = (sandbox.home / "consents.toml").read_text()
    line = "sender_constraint ="
    assert text.count(line) == 1
    config = text.replace(line, f'response_mode = "{response_mode}"\n{line}')
    with broker_process(sandbox, config=config, name=f"by-{response_mode}") as broker:
        yield broker


def look(somebody: Visitor, *, more: int) -> None:
    """Fail for a page that somebody could not read; it has *more* texts at least."""
    contrasts = somebody.contrasts()
    assert len(contrasts) >= more
    assert [text for text in contrasts if text[1] < READABLE] == []
    assert not somebody.is_wider_than_the_window()


@pytest.mark.parametrize(
    ("response_mode", "scheme", "width"),
    [("query", "light", WIDE), ("form_post", "dark", PHONE), ("jwt", "light", PHONE)],
)
def test_a_person_consents_at_the_sandbox(
    browser: Browser, sandbox: SandboxProcess, tmp_path: Path, response_mode: str, scheme: str, width: int
):
    """By a redirect, by a form that is posted from the server's page, and by a signed response."""
    shots = (tmp_path / f"{number}-{response_mode}.png" for number in range(9))
    with ExitStack() as stack:
        broker = stack.enter_context(answering_by(sandbox, response_mode))
        alice = stack.enter_context(visitor(browser, scheme=scheme, width=width))
        command = stack.enter_context(login_command(broker.socket, TOKEN))
        page = alice.page

        page.goto(command.link)
        look(alice, more=5)
        page.screenshot(path=next(shots))
        page.check("input[value=bob]")
        page.click("button")
        look(alice, more=5)
        page.screenshot(path=next(shots))
        page.click("button[value=allow]")
        if response_mode == "form_post":
            look(alice, more=3)
            page.screenshot(path=next(shots))
            page.click("button")
        page.wait_for_url(f"{command.origin}/done")
        look(alice, more=6)
        page.screenshot(path=next(shots))
        code, out, err = command.end()

        assert (code, "  person bob\n" in out) == (0, True), err
        assert alice.foreign == []
        assert get(broker.socket, f"/v1/tokens/{TOKEN}").status == 200


def test_a_person_who_denies_it_at_the_sandbox_is_told(browser: Browser, sandbox: SandboxProcess):
    """And there is no token."""
    with (
        answering_by(sandbox, "query") as broker,
        visitor(browser) as alice,
        login_command(broker.socket, TOKEN) as command,
    ):
        alice.page.goto(command.link)
        alice.page.click("button")
        alice.page.click("button[value=deny]")
        alice.page.wait_for_url(f"{command.origin}/failed")
        heading = alice.page.inner_text("h1")
        code, _, err = command.end()

    assert (heading, code) == ("Consent was refused", 1)
    assert "Consent was refused." in err
