"""
``docs/howto/raidiam.md``, word for word, at a server that poses as Raidiam's sandbox (``tests.interop.raidiam``).

What is not as for a reader: the portal is this test, which issues what is asked for in ``*.csr`` when the page says so
and registers the application; the file gets the way to the servers once it is filled in; the person who logs in is
scripted.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from broker.config.schema import CertificateSection, ClientSection, IssuerSection, KeySection, TokenSection
from tests.daemon.harness import wait_until
from tests.daemon.test_proxy import ConnectProxy
from tests.daemon.test_tutorial import ROOT, Step, Terminal, agrees, steps
from tests.interop.credentials import requested_key
from tests.interop.person import consent
from tests.interop.raidiam import EXAMPLE, NAMES, REDIRECT_URI, application, at_the_bed, raidiam
from tests.interop.rig import Rig

PAGE = ROOT / "docs" / "howto" / "raidiam.md"

CLIENT_ID = "67c57882-043b-11ec-9a03-0242ac130003"
SUBJECT = f"CN={CLIENT_ID},OU=74e929d9-33b6-4d85-8ba7-c146c867a817,O=Raidiam Connect,C=GB"
KID = "0d9fb1fe-7b0a-4c0c-9f5e-8a7a4d1d9b11"
"""As the page has them."""

PORTAL = ("sed -i ", "install -m 0600 transport-2.pem")
"""How the commands begin before which the reader was in the portal."""

SECTIONS = {
    "issuer": IssuerSection,
    "certificate": CertificateSection,
    "key": KeySection,
    "client": ClientSection,
    "token": TokenSection,
}


class Reader:
    """Follows the page in one terminal, and is the portal."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._servers: tuple[Rig, ConnectProxy] | None = None
        (directory / "clone").mkdir()
        (directory / "clone" / "docs").symlink_to(ROOT / "docs")
        (directory / "bin").mkdir()
        command = directory / "bin" / "token-broker"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m broker "$@"\n')
        command.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_BROKER")}
        self._terminal = Terminal(
            name="",
            directory=directory / "clone",
            screen=directory / "screen",
            environment={
                **kept,
                "PATH": f"{command.parent}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "LC_ALL": "C",
            },
        )
        self._terminal.open()
        stack.callback(self._terminal.close)

    @property
    def home(self) -> Path:
        return self._directory / "clone" / "raidiam"

    @property
    def rig(self) -> Rig:
        assert self._servers is not None
        return self._servers[0]

    def follow(self, step: Step) -> str | None:
        """Do what *step* says; give what was printed if that is not what the page shows."""
        if step.typed.startswith(PORTAL):
            self._go_to_the_portal()
        printed = self._log_in(step) if step.typed.startswith("token-broker login") else self._terminal.run(step.typed)
        if step.typed.startswith("sed -i "):
            self._show_the_way()
        if step.typed.startswith("token-broker run"):
            log = self.home / "broker.log"
            wait_until(lambda: log.exists() and "daemon_started" in log.read_text(), "the time a reader takes to go on")
        return None if agrees(step.shown, printed) else printed

    def _go_to_the_portal(self) -> None:
        """Have what was asked for issued; the first time the application is registered, too."""
        if self._servers is None:
            folder = self._directory / "rig"
            folder.mkdir()
            self._servers = self._stack.enter_context(raidiam(folder, self._registered))
        for request in self.home.glob("*.csr"):
            issued = request.with_suffix(".pem")
            if not issued.exists():
                issued.write_bytes(self.rig.authority.sign(request.read_bytes()))

    def _registered(self, _: Rig) -> list[dict[str, Any]]:
        key = requested_key((self.home / "signing.csr").read_bytes(), alg="PS256", kid=KID)
        return [application(CLIENT_ID, key=key, subject=SUBJECT)]

    def _show_the_way(self) -> None:
        assert self._servers is not None
        file = self.home / "config.toml"
        file.write_text(at_the_bed(file.read_text(), self.rig.ca_file, self._servers[1]))

    def _log_in(self, step: Step) -> str:
        """Open the address that is printed, consent, and paste the one where the browser ended."""
        assert self._servers is not None
        terminal = self._terminal
        terminal.type(step.typed)
        wait_until(lambda: "or theirs to you" in terminal.printed(), "an address to open")
        address = re.search(r"https://\S+", terminal.printed())
        assert address is not None
        back = consent(address[0], redirect_uri=REDIRECT_URI, ca_file=self.rig.ca_file, proxy=self._servers[1].url)
        terminal.type(back.url)
        wait_until(lambda: "\n  grant  " in terminal.printed(), f"a grant; it printed {terminal.printed()}")
        return terminal.run("")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reader, list[str]]]:
    """Follow the page to its end; gives what was not as it shows."""
    if shutil.which("curl") is None:
        pytest.skip("the page uses curl, and this machine has none")
    wrong = []
    with ExitStack() as stack:
        reader = Reader(tmp_path_factory.mktemp("guide"), stack)
        for step in steps(PAGE.read_text()):
            printed = reader.follow(step)
            if printed is not None:
                wrong.append(f"$ {step.typed}\nthe page shows:\n" + "\n".join(step.shown) + f"\nprinted:\n{printed}")
        yield reader, wrong


def test_the_guide_works_word_for_word(followed: tuple[Reader, list[str]]):
    """From nothing to a call of the directory, another certificate, and the end of the grant."""
    _, wrong = followed

    if wrong:
        pytest.fail("\n\n".join(wrong), pytrace=False)  # in full: pytest would shorten what it compares


def test_what_the_guide_did_is_what_it_says(followed: tuple[Reader, list[str]]):
    """The servers saw a pushed and signed request, a code and a client that were good for tokens, and calls."""
    reader, _ = followed

    calls = [(call["path"], call["status"], call["signed"], call["mtls"]) for call in reader.rig.calls()]
    assert calls == [("/request", 201, True, True), ("/token/revocation", 200, False, True)]
    asked = reader.rig.token_requests()
    assert {seen.grant_type for seen in asked} >= {"authorization_code", "client_credentials"}
    assert {(seen.status, seen.client_id, seen.mtls) for seen in asked} == {(200, CLIENT_ID, True)}
    assert [call.status for call in reader.rig.api_calls()] == [200, 200]


def test_every_block_of_the_page_is_followed():
    """None is of a kind that the test above would pass over."""
    page = PAGE.read_text()

    assert set(re.findall(r"^```(.+)$", page, re.MULTILINE)) == {"console"}
    typed = [step.typed for step in steps(page)]
    for wanted in ("csr", "check --online", "run", "login", "rotate", "grants revoke"):
        assert any(f"token-broker {wanted}" in line for line in typed), wanted
    assert len([line for line in typed if line.startswith("curl") and "/v1/egress/" in line]) == 2


def test_each_key_that_the_page_names_exists_and_is_in_the_example():
    """Both sides of the table can be found where it says."""
    example = tomllib.loads(EXAMPLE.read_text())
    optional = {"id_token_signed_response_alg", "sender_constraint"}  # for which the example has the defaults

    named = re.findall(r"\| `\[(\w+)\.(\w+)\] (\w+)` \|", PAGE.read_text())

    assert len(named) > 10
    for kind, name, key in named:
        assert key in {field.name for field in attrs.fields(SECTIONS[kind])}, key
        assert key in optional or key in example[kind][name], key


def test_the_hosts_of_the_example_are_those_of_the_servers():
    """So that what is shown at the servers of the tests is said to the real ones."""
    example = tomllib.loads(EXAMPLE.read_text())

    assert example["issuer"]["raidiam"]["issuer"] == NAMES["issuer"]
    assert {upstream["base_url"] for upstream in example["upstream"].values()} == {NAMES["api"]}
