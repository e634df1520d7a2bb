"""Whole logins: the real command as a process, a daemon that does as it is told, and a browser of a few lines."""

from __future__ import annotations

import http.client
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.unit.cli.fake_daemon import BEGUN, FakeDaemon, fake_daemon

pytestmark = pytest.mark.real_time

LINK = re.compile(r"http://127\.0\.0\.1:\d+/start/[A-Za-z0-9_-]{43}")


@dataclass(slots=True)
class Command:
    """A running ``login``, what it printed until its link, and that link."""

    process: subprocess.Popen[str]
    said: str
    link: str

    def end(self) -> tuple[int, str, str]:
        """Wait for it: exit code, standard output, and all of standard error."""
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, self.said + err


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "DISPLAY", "WAYLAND"))}
    return {**kept, **more}


@contextmanager
def login(fake: FakeDaemon, *arguments: str, **variables: str) -> Iterator[Command]:
    process = subprocess.Popen(
        [sys.executable, "-m", "broker", "login", "ledger", "--socket", str(fake.path), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )
    said = ""
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if "Ctrl-C gives up" in line:
                break
        found = LINK.search(said)
        assert found is not None, said
        yield Command(process, said, found[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@dataclass(slots=True)
class Browser:
    """Goes where it is sent, with its cookies."""

    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, url: str, *, form: dict[str, str] | None = None, bare: bool = False) -> tuple[int, str, str]:
        """Give status, location and body."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        cookies = {} if bare else {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            if form is None:
                connection.request("GET", target, headers=cookies)
            else:
                content = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", target, body=urlencode(form), headers={**content, **cookies})
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        for cookie in answer.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return answer.status, answer.headers.get("Location", ""), body


def origin(command: Command) -> str:
    parts = urlsplit(command.link)
    return f"{parts.scheme}://{parts.netloc}"


def test_a_person_consents_and_both_page_and_terminal_say_to_what(tmp_path: Path):
    """The daemon gets the binding and the whole address; the key of the link is nowhere else than in the link."""
    with fake_daemon(tmp_path / "s") as fake, login(fake, "--label", "my laptop") as command:
        browser, at = Browser(), origin(command)
        status, location, _ = browser.get(command.link)
        came_back = browser.get(f"{at}/callback?code=c%2Bd&state=s&iss=i")
        page = browser.get(f"{at}/done")
        code, out, err = command.end()

    assert (status, location) == (303, BEGUN["authorization_url"])
    assert came_back[:2] == (303, "/done")
    assert page[0] == 200
    assert all(word in page[2] for word in ("ledger", "openid", "accounts", "close this window"))
    assert code == 0
    assert out.splitlines() == [
        "Consent given.",
        "  token  ledger",
        "  scope  openid accounts",
        "  person alice",
        "  grant  grant-1",
    ]
    assert fake.bodies("POST", "/v1/authorizations") == [
        {"token": "ledger", "redirect_uri": f"{at}/callback", "label": "my laptop"}
    ]
    assert fake.bodies("POST", "/callback") == [
        {"binding": "binding-1", "callback_url": f"{at}/callback?code=c%2Bd&state=s&iss=i"}
    ]
    assert fake.count("DELETE", "/v1/") == 0
    assert "binding-1" not in out + err


def test_an_answer_that_is_posted_reaches_the_daemon_as_a_form(tmp_path: Path):
    """The address in it is that of the callback, without anything."""
    with fake_daemon(tmp_path / "s") as fake, login(fake) as command:
        browser, at = Browser(), origin(command)
        browser.get(command.link)
        _, location, _ = browser.get(f"{at}/callback", form={"code": "c", "state": "s"}, bare=True)
        came_back = browser.get(at + location)
        browser.get(f"{at}/done")
        code, _, _ = command.end()

    assert (came_back[:2], code) == ((303, "/done"), 0)
    assert fake.bodies("POST", "/callback") == [
        {"binding": "binding-1", "callback_url": f"{at}/callback", "form": {"code": "c", "state": "s"}}
    ]


def test_a_failed_check_is_named_in_the_terminal_and_not_on_the_page(tmp_path: Path):
    """The page has words of its own, the terminal those of the daemon beside them."""
    body = {"error": "invalid_request", "error_description": "the response is not accepted", "check": "iss"}
    with fake_daemon(tmp_path / "s") as fake, login(fake) as command:
        fake.replies["POST callback"] = (400, body)
        browser, at = Browser(), origin(command)
        browser.get(command.link)
        came_back = browser.get(f"{at}/callback?code=c&state=s")
        page = browser.get(f"{at}/failed")
        code, out, err = command.end()

    assert (came_back[:2], page[0], code, out) == ((303, "/failed"), 200, 1, "")
    assert "the response is not accepted" not in page[2]
    assert "The server&#x27;s answer was not accepted" in page[2]
    assert "The server's answer was not accepted. " in err
    assert "the response is not accepted [invalid_request]\n  the check that failed: iss\n" in err


def test_a_second_use_of_the_link_gives_the_login_up(tmp_path: Path):
    """At the daemon, too: nobody can finish it."""
    with fake_daemon(tmp_path / "s") as fake, login(fake) as command:
        Browser().get(command.link)
        status, _, page = Browser().get(command.link)
        code, out, err = command.end()

    assert (status, code, out) == (409, 1, "")
    assert "The link was opened twice" in page
    assert "The link was opened twice" in err
    assert (fake.count("DELETE", "/v1/authorizations/authorization-1"), fake.count("POST", "callback")) == (1, 0)


def test_a_link_that_is_opened_twice_too_late_is_told(tmp_path: Path):
    """The grant is there; the person learns how to get rid of it."""
    with fake_daemon(tmp_path / "s") as fake, login(fake) as command:
        fake.resume.clear()
        browser, at = Browser(), origin(command)
        browser.get(command.link)
        thread = threading.Thread(target=browser.get, args=(f"{at}/callback?code=c&state=s",))
        thread.start()
        while not fake.count("POST", "callback"):
            time.sleep(0.01)
        Browser().get(command.link)
        fake.resume.set()
        thread.join(10)
        browser.get(f"{at}/done")
        code, _, err = command.end()

    assert code == 0
    assert "token-broker grants revoke grant-1" in err


def test_what_does_not_belong_to_the_login_spends_nothing(tmp_path: Path):
    """Neither the link nor the callback."""
    with fake_daemon(tmp_path / "s") as fake, login(fake) as command:
        browser, at = Browser(), origin(command)
        junk = [
            browser.get(f"{at}/start/wrong")[0],
            browser.get(f"{at}/favicon.ico")[0],
            browser.get(f"{at}/callback?code=stolen")[0],
        ]
        browser.get(command.link)
        junk.append(Browser().get(f"{at}/callback?code=stolen")[0])
        came_back = browser.get(f"{at}/callback?code=c&state=s")
        browser.get(f"{at}/done")
        code, _, _ = command.end()

    assert (junk, came_back[:2], code) == ([400] * 4, (303, "/done"), 0)
    assert fake.count("POST", "callback") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_authorization_up(tmp_path: Path, number: int):
    """Nothing is left: neither at the daemon nor on the port."""
    with fake_daemon(tmp_path / "s") as fake, login(fake) as command:
        command.process.send_signal(number)
        code, out, err = command.end()
        with pytest.raises(OSError, match="refused"):
            Browser().get(command.link)

    assert (code, out) == (130, "")
    assert "given up" in err
    assert "Traceback" not in err
    assert fake.count("DELETE", "/v1/authorizations/authorization-1") == 1


def test_a_login_ends_when_its_time_is_over(tmp_path: Path):
    """The daemon says how long that is."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["GET authorizations"] = (200, {"id": "authorization-1", "state": "waiting", "expires_in": 1})
        with login(fake) as command:
            code, out, err = command.end()

    assert (code, out) == (1, "")
    assert "It took too long." in err


def test_a_link_that_is_opened_late_leads_to_a_new_request(tmp_path: Path):
    """A server forgets a pushed request within a minute; the one that was begun first is given up."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["POST authorizations"] = (201, {**BEGUN, "expires_in": 5})
        with login(fake) as command:
            fake.replies["POST authorizations"] = (
                201,
                {**BEGUN, "id": "authorization-2", "authorization_url": "https://as.example/2", "expires_in": 60},
            )
            browser, at = Browser(), origin(command)
            _, location, _ = browser.get(command.link)
            browser.get(f"{at}/callback?code=c&state=s")
            browser.get(f"{at}/done")
            code, _, _ = command.end()

    assert (location, code) == ("https://as.example/2", 0)
    assert [(how, target) for how, target, _ in fake.asked] == [
        ("POST", "/v1/authorizations"),
        ("GET", "/v1/authorizations/authorization-1"),
        ("DELETE", "/v1/authorizations/authorization-1"),
        ("POST", "/v1/authorizations"),
        ("GET", "/v1/authorizations/authorization-2"),
        ("POST", "/v1/authorizations/authorization-2/callback"),
    ]


def test_through_ssh_the_way_to_the_port_is_told(tmp_path: Path):
    """With the port; no browser is opened at the far end."""
    with fake_daemon(tmp_path / "s") as fake, login(fake, SSH_CONNECTION="x", DISPLAY=":0") as command:
        port = urlsplit(command.link).port

        assert f"ssh -L {port}:127.0.0.1:{port} HOST" in command.said


def test_a_redirect_uri_of_one_s_own_decides_port_and_path(tmp_path: Path):
    """For a server that compares all of it."""
    from broker.cli.login_listener import LoginListener

    free = LoginListener(0)
    free.close()
    uri = f"http://127.0.0.1:{free.port}/my/way"
    with fake_daemon(tmp_path / "s") as fake, login(fake, "--redirect-uri", uri, "--grant", "g") as command:
        browser = Browser()
        browser.get(command.link)
        came_back = browser.get(f"{uri}?code=c&state=s")
        browser.get(f"{origin(command)}/done")
        code, _, _ = command.end()

    assert (came_back[:2], code) == ((303, "/done"), 0)
    assert fake.bodies("POST", "/v1/authorizations") == [{"token": "ledger", "grant": "g", "redirect_uri": uri}]
    assert fake.bodies("POST", "/callback")[0]["callback_url"] == f"{uri}?code=c&state=s"


# --- --paste ---


def pasted(fake: FakeDaemon, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "login", "ledger", "--paste", "--socket", str(fake.path), *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
        timeout=20,
    )


def test_the_address_where_the_browser_ended_can_be_pasted(tmp_path: Path):
    """A wrong one is asked for again; the daemon chooses the redirect URI where none is named."""
    answer = "https://app.example/callback?code=c&state=s"
    with fake_daemon(tmp_path / "s") as fake:
        result = pasted(fake, f"https://app.example/\n{answer}\n")

    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "Consent given.")
    assert str(BEGUN["authorization_url"]) in result.stderr
    assert re.search(r"in your browser within 5[0-9] s:", result.stderr)
    assert re.search(r"The login may then take its time, 9 min 5[0-9] s from now", result.stderr)
    assert "somebody sent you" in result.stderr
    assert "That is not the address" in result.stderr
    assert fake.bodies("POST", "/v1/authorizations") == [{"token": "ledger"}]
    assert fake.bodies("POST", "/callback") == [{"binding": "binding-1", "callback_url": answer}]


def test_an_address_of_another_place_is_not_handed_over(tmp_path: Path):
    """It would spend the login; after three of them it is given up."""
    with fake_daemon(tmp_path / "s") as fake:
        result = pasted(fake, "https://other.example/callback?code=c\n" * 3, "--port", "8765")

    assert (result.returncode, result.stdout) == (1, "")
    assert fake.bodies("POST", "/v1/authorizations") == [
        {"token": "ledger", "redirect_uri": "http://127.0.0.1:8765/callback"}
    ]
    assert (fake.count("POST", "callback"), fake.count("DELETE", "authorization-1")) == (0, 1)


def test_the_end_of_another_login_is_not_handed_over(tmp_path: Path):
    """Somebody may have sent it, and it would spend this one; the right one may follow."""
    answer = "https://app.example/callback?code=c&state=s"
    with fake_daemon(tmp_path / "s") as fake:
        result = pasted(fake, f"https://app.example/callback?code=c&state=another\n{answer}\n")

    assert (result.returncode, result.stdout.splitlines()[0]) == (0, "Consent given.")
    assert "another login than this one" in result.stderr
    assert [body["callback_url"] for body in fake.bodies("POST", "/callback")] == [answer]


def test_nothing_pasted_gives_it_up(tmp_path: Path):
    """The end of the input is an answer, too."""
    with fake_daemon(tmp_path / "s") as fake:
        result = pasted(fake, "")

    assert (result.returncode, fake.count("DELETE", "authorization-1")) == (1, 1)
    assert "given up" in result.stderr


def test_what_is_pasted_into_a_terminal_is_not_shown(tmp_path: Path):
    """Somebody may look over the shoulder, and terminals remember what they showed."""
    answer = "https://app.example/callback?code=the-code&state=s"
    with fake_daemon(tmp_path / "s") as fake:
        pid, terminal = pty.fork()
        if pid == 0:
            arguments = ["-m", "broker", "login", "ledger", "--paste", "--socket", str(fake.path)]
            os.execve(sys.executable, [sys.executable, *arguments], environment())
        shown = b""
        while b"press Enter: " not in shown and select.select([terminal], [], [], 20)[0]:
            shown += os.read(terminal, 65_536)
        time.sleep(0.05)
        os.write(terminal, answer.encode() + b"\n")
        while select.select([terminal], [], [], 20)[0]:
            try:
                shown += os.read(terminal, 65_536)
            except OSError:
                break
        os.close(terminal)
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert b"Consent given." in shown
    assert b"the-code" not in shown
    assert fake.bodies("POST", "/callback") == [{"binding": "binding-1", "callback_url": answer}]
