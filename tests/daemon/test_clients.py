"""
The example clients (``deploy/examples/clients``), all through the same table of situations: what
``docs/howto/clients/index.md`` says of a correct client holds for each.

They are run as a person runs them, against a real broker, and against a socket that misbehaves as told.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.daemon.client_languages import LANGUAGES, Programs, build, needs
from tests.daemon.client_place import client_place, free_port
from tests.daemon.contrary_broker import (
    ETAG,
    TOKEN,
    ContraryBroker,
    Step,
    answer,
    endless,
    gone,
    late,
    refusal,
)
from tests.daemon.harness import JWT_HEAD, PATIENCE, BrokerProcess, wait_until

ANSWER_SECONDS = 15.0
"""What the page says that a client waits for an answer."""

each_language = pytest.mark.parametrize("language", LANGUAGES)


@dataclass(frozen=True)
class Ran:
    """What came of a run; *seconds* is how long it took."""

    code: int
    out: str
    err: str
    seconds: float


class Caller:
    """Runs a client at a socket."""

    def __init__(self, programs: Programs, language: str, home: Path) -> None:
        self.language = language
        self.command = programs.command(language)
        self._home = home

    def start(self, place: Path | str, *arguments: str) -> subprocess.Popen[str]:
        """Run it where a proxy is set that nobody must ask."""
        nowhere = "http://127.0.0.1:9"
        home = {"HOME": str(self._home), "http_proxy": nowhere, "HTTP_PROXY": nowhere, "ALL_PROXY": nowhere}
        where = {"TOKEN_BROKER_SOCKET": place if isinstance(place, str) else f"unix://{place}"}
        return subprocess.Popen(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **home, **where},
        )

    def run(self, place: Path | str, *arguments: str) -> Ran:
        began = time.monotonic()
        process = self.start(place, *arguments)
        return finished(process, began)

    def served(self, ran: Ran) -> bool:
        """Say whether it told of the token of the contrary broker, and of nothing else."""
        told = f"token_type=Bearer expires_in={TOKEN['expires_in']}\n"
        return (ran.code, ran.out, ran.err) == (
            0,
            f"{TOKEN['access_token']}\n" if self.language == "shell" else told,
            "",
        )


def finished(process: subprocess.Popen[str], began: float) -> Ran:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError("the client did not end") from None
    return Ran(process.returncode, out, err, time.monotonic() - began)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("clients"))


@pytest.fixture
def caller(programs: Programs, language: str, tmp_path: Path) -> Caller:
    return Caller(programs, language, tmp_path)


# --- a real broker ---


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with client_place(tmp_path_factory.mktemp("real"), free_port()) as process:
        yield process


@each_language
def test_a_token_is_served_and_shown_to_nobody_who_did_not_ask(caller: Caller, broker: BrokerProcess):
    """With --print it is the broker's; the shell's client prints it because that is what it is for."""
    told = caller.run(broker.socket, "demo")
    printed = caller.run(broker.socket, *(["--print"] if caller.language != "shell" else []), "demo")

    assert (told.code, told.err, printed.code, printed.err) == (0, "", 0, "")
    token = printed.out.splitlines()[-1]
    assert token.startswith(JWT_HEAD)
    assert token == broker.token().json()["access_token"] or token != told.out
    if caller.language != "shell":
        assert re.fullmatch(r"token_type=Bearer expires_in=[0-9]+\n", told.out)


@each_language
def test_a_name_that_is_not_granted_is_refused_with_what_is(caller: Caller, broker: BrokerProcess):
    """The hint of the broker lists what this caller may have."""
    ran = caller.run(broker.socket, "other")

    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(r"token broker: access_denied \(403\): .*demo.*\n", ran.err)


@each_language
def test_a_missing_consent_is_for_a_person(caller: Caller, broker: BrokerProcess):
    """It is said how one is given, and not tried again."""
    ran = caller.run(broker.socket, "person")

    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(r"token broker: consent_required \(409\): .*token-broker login person.*\n", ran.err)
    assert ran.seconds < PATIENCE / 2


@each_language
def test_a_rejected_token_may_be_reported(caller: Caller, broker: BrokerProcess):
    """The broker takes what the client sends then, and answers with a token."""
    ran = caller.run(broker.socket, *(["--refresh", "demo"] if caller.language == "shell" else ["demo", ETAG]))

    assert (ran.code, ran.err) == (0, "")
    assert ran.out


# --- a contrary one ---

SERVED = answer(200, TOKEN)
SOON, LATER = "Retry-After: 1", "Retry-After: 60"


@dataclass(frozen=True)
class Situation:
    """What the socket does, what the client says then (*says* None: it has the token), and after how many requests."""

    script: tuple[Step, ...]
    requests: int
    says: str | None = None


SITUATIONS = {
    "served, with members of a later version": Situation((SERVED,), 1),
    "slow, but within the time": Situation((late(1.0, SERVED),), 1),
    "busy, then served": Situation((refusal(503, "temporarily_unavailable", SOON), SERVED), 2),
    "too many requests, then served": Situation((refusal(429, "slow_down", SOON), SERVED), 2),
    "busy without a time": Situation((refusal(503, "temporarily_unavailable"), SERVED), 2),
    "busy until a date": Situation((refusal(503, "temporarily_unavailable", "Retry-After: Sun, 29 Nov"), SERVED), 2),
    "busy for ever": Situation(
        (refusal(503, "temporarily_unavailable", SOON),), 3, r"temporarily_unavailable \(503\): see to it"
    ),
    "busy for long": Situation((refusal(429, "slow_down", LATER),), 1, r"slow_down \(429\): see to it"),
    "gone before the answer, then served": Situation((gone, SERVED), 2),
    "gone within the answer, then served": Situation((answer(200, TOKEN, cut=3), SERVED), 2),
    "gone within the head, then served": Situation((answer(200, TOKEN, cut=230), SERVED), 2),
    "gone every time": Situation((gone,), 2, "unreachable.*"),
    "refused by the server": Situation(
        (refusal(502, "authorization_server_error", SOON),), 1, r"authorization_server_error \(502\): see to it"
    ),
    "without a hint": Situation((refusal(500, "server_error", hint=None),), 1, r"server_error \(500\): so it is"),
    "with quotes in the hint": Situation(
        (refusal(403, "access_denied", hint='try "a", or \\b'),), 1, r'access_denied \(403\): try "a", or \\b'
    ),
    "a redirect": Situation((refusal(307, "odd", "Location: http://localhost/v1/tokens/demo"),), 1, r"odd \(307\): .*"),
    "too large, and says so": Situation((endless("Content-Length: 10000000\r\n"),), 1, "answer_too_large"),
}


@each_language
@pytest.mark.parametrize("name", SITUATIONS)
def test_what_a_client_does_when(caller: Caller, name: str, tmp_path: Path):
    """Each does the same, in bounded tries and time, and puts nothing on stdout without a token."""
    situation = SITUATIONS[name]
    contrary = ContraryBroker(tmp_path / "api.sock", list(situation.script))

    with contrary.listening():
        ran = caller.run(contrary.path, "demo")

    if situation.says is None:
        assert caller.served(ran), ran
    else:
        assert (ran.code, ran.out) == (1, "")
        assert re.fullmatch(f"token broker: {situation.says}\n", ran.err), ran.err
    assert len(contrary.requests) == situation.requests
    assert {request.split(b"\r\n")[0].rpartition(b" ")[0] for request in contrary.requests} == {b"GET /v1/tokens/demo"}
    assert all(b"\r\nhost: localhost\r\n" in request.lower() for request in contrary.requests)


@each_language
def test_an_answer_without_an_end_is_not_read_to_it(caller: Caller, tmp_path: Path):
    """Though it does not say how long it is."""
    contrary = ContraryBroker(tmp_path / "api.sock", [endless("")])

    with contrary.listening():
        ran = caller.run(contrary.path, "demo")

    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch("token broker: (answer_too_large|unreachable: .*)\n", ran.err)
    assert ran.seconds < ANSWER_SECONDS


@each_language
def test_the_tag_of_a_rejected_token_is_sent_as_it_was(caller: Caller, tmp_path: Path):
    """Though it has quotes in it. The shell's client has no tag, and the broker needs none."""
    contrary = ContraryBroker(tmp_path / "api.sock", [SERVED])
    shell = caller.language == "shell"

    with contrary.listening():
        ran = caller.run(contrary.path, *(["--refresh", "demo"] if shell else ["demo", ETAG]))

    head, _, body = contrary.requests[0].partition(b"\r\n\r\n")
    assert caller.served(ran), ran
    assert head.startswith(b"POST /v1/tokens/demo/refresh HTTP/1.")
    assert (b"content-type: application/json" in head.lower()) is not shell
    assert body.decode().replace(": ", ":") == ("" if shell else '{"rejected":"W/\\"mN3v5k0TqZr8xJ2c\\""}')


@each_language
def test_a_name_that_no_token_has_is_not_sent(caller: Caller, tmp_path: Path):
    """It could lead to another route."""
    contrary = ContraryBroker(tmp_path / "api.sock", [SERVED])
    names = ["a/../b", "a b", "a?wait=60", "a%2f", "..", "", "A", "\xe4", "a\r\nX: y", "a\n", "-q", "a" * 64]

    with contrary.listening():
        ran = {name: caller.run(contrary.path, name) for name in names}

    assert contrary.requests == []
    assert {name: (one.code, one.out, "bad_name" in one.err) for name, one in ran.items()} == dict.fromkeys(
        names, (1, "", True)
    )


@each_language
def test_a_socket_that_is_not_there_yet_is_waited_for(caller: Caller, tmp_path: Path):
    """A broker that starts beside the program is there a moment later."""
    contrary = ContraryBroker(tmp_path / "api.sock", [SERVED])
    began = time.monotonic()
    process = caller.start(contrary.path, "demo")
    threading.Event().wait(0.5)

    with contrary.listening():
        ran = finished(process, began)

    assert caller.served(ran), ran


@each_language
def test_a_broker_that_ends_while_it_is_asked_and_comes_back_is_asked_again(caller: Caller, tmp_path: Path):
    """As in a restart: the connection breaks, then nobody is there, then the next broker serves."""
    contrary = ContraryBroker(tmp_path / "api.sock", [late(1.0, gone), SERVED])
    with contrary.listening():
        began = time.monotonic()
        process = caller.start(contrary.path, "demo")
        wait_until(lambda: bool(contrary.requests), "it asks")
    threading.Event().wait(1.4)

    with contrary.listening():
        ran = finished(process, began)

    assert caller.served(ran), ran
    assert len(contrary.requests) == 2


@each_language
@pytest.mark.parametrize("left_behind", [False, True], ids=["missing", "left behind"])
def test_a_socket_that_nobody_serves_is_given_up(caller: Caller, left_behind: bool, tmp_path: Path):
    """After about a second, with its path."""
    place = tmp_path / "api.sock"
    if left_behind:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(place))

    ran = caller.run(place, "demo")

    assert (ran.code, ran.out) == (1, "")
    assert re.match(rf"token broker: unreachable: .*{re.escape(str(place))}", ran.err)
    assert 0.8 < ran.seconds < 9.0  # ten tries take 0.9 s, and nothing more than starting a program comes to that


@each_language
@pytest.mark.parametrize("place", ["http://127.0.0.1:1", "http:///run/api.sock", "/run/api.sock", "unix://api.sock"])
def test_a_place_that_is_no_unix_socket_is_refused(caller: Caller, place: str):
    """With the form that it has to have."""
    ran = caller.run(place, "demo")

    assert (ran.code, ran.out) == (1, "")
    assert "TOKEN_BROKER_SOCKET has to be unix:///PATH" in ran.err


def test_a_broker_that_never_answers_is_given_up(programs: Programs, tmp_path: Path):
    """After 15 s, without another try; all clients at once, so that it takes no longer."""
    contrary = ContraryBroker(tmp_path / "api.sock", [late(PATIENCE, gone)])
    with contrary.listening(), ExitStack() as stack:
        began = time.monotonic()
        started = {}
        for language in LANGUAGES:
            caller = Caller(programs, language, tmp_path)
            started[language] = stack.enter_context(caller.start(contrary.path, "demo"))
        ran = {language: finished(process, began) for language, process in started.items()}

    assert len(contrary.requests) == len(LANGUAGES)
    for language, one in ran.items():
        assert (language, one.code, one.out) == (language, 1, "")
        assert "unreachable" in one.err
        assert one.seconds >= ANSWER_SECONDS


# --- the files ---


@pytest.mark.parametrize("language", [name for name, language in LANGUAGES.items() if language.formats])
def test_a_client_has_the_form_that_its_language_has(language: str, tmp_path: Path):
    """Python's is held by the style of this tree."""
    one = LANGUAGES[language]
    needs(one.formats[0])

    said = build([*one.formats, str(one.path)], tmp_path)

    assert said == ""
