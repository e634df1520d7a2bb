"""SIGHUP: another configuration is put to use whole, without a request lost, or nothing changes."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.daemon.harness import BrokerProcess, SandboxProcess, broker_process, get, sandbox_process, wait_until


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("reload"), lifetime=600) as process:
        yield process


@pytest.fixture
def broker(sandbox: SandboxProcess) -> Iterator[BrokerProcess]:
    (sandbox.home / "audit.log").unlink(missing_ok=True)
    for old in sandbox.directory.glob("reloaded.*"):
        old.unlink()
    config = (sandbox.home / "config.toml").read_text()
    with broker_process(sandbox, config=config, name="reloaded") as process:
        yield process


def hang_up(broker: BrokerProcess, *changes: tuple[str, str], more: str = "") -> None:
    """Change the file and send SIGHUP."""
    text = broker.config.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    broker.config.write_text(text + more)
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)


def reload(broker: BrokerProcess, *changes: tuple[str, str], more: str = "") -> None:
    """Change the file, send SIGHUP and wait until it is in force."""
    before = len(broker.log("configuration_loaded"))
    hang_up(broker, *changes, more=more)
    wait_until(lambda: len(broker.log("configuration_loaded")) > before, "the configuration is loaded")


def access_token(broker: BrokerProcess, name: str = "demo") -> str:
    answer = broker.token(name)
    assert answer.status == 200, answer.body
    return str(answer.json()["access_token"])


RESOURCE = "https://api.sandbox.example/"
"""One of the two that the sandbox lets its client ask for."""

SECOND = """
[token.second]
client = "demo"
scope = ["hello:read"]
[workload.second]
listener = ["demo"]
tokens = ["second"]
"""


def test_a_bad_file_changes_nothing_and_all_of_it_is_said_at_once(broker: BrokerProcess):
    """One event, audited, with every problem and its place; the token is the very one from before."""
    before = access_token(broker)

    hang_up(broker, ('client = "demo"', 'client = "demmo"\nnonsense = 1'), ('mode = "0600"', "mode = 600"))
    event = broker.wait_for("configuration_refused")

    assert {"token.demo.client", "token.demo.nonsense", "listener.demo.mode"} <= set(
        re.findall(r"^([\w.]+):", event["problems"], re.MULTILINE)
    )
    assert len(broker.log("configuration_refused")) == 1
    assert broker.records("configuration_refused")[0]["count"] == event["found"] >= 3
    assert access_token(broker) == before
    assert len(broker.log("configuration_loaded")) == 1
    assert b"token_broker_configuration_refused 1.0" in broker.ops("/metrics").body


def test_bad_key_files_change_nothing(broker: BrokerProcess, sandbox: SandboxProcess):
    """A certificate of another key, and a file that is not there: both in one event."""
    before = access_token(broker)

    hang_up(broker, ('"client.key"', '"other.key"'), ('file = "signing-', 'file = "missing-'))
    event = broker.wait_for("configuration_refused")

    assert event["reason"] == "files_unusable"
    assert "certificate_mismatch" in event["problems"]
    assert "file_missing" in event["problems"]
    assert access_token(broker) == before


def test_a_removed_right_is_gone_with_the_next_request(broker: BrokerProcess):
    """The policy is replaced as a whole."""
    assert broker.token().status == 200

    reload(broker, ('tokens = ["demo"]', "tokens = []"))

    assert broker.token().status == 403


def test_a_token_is_added_and_the_other_stays_the_very_one(broker: BrokerProcess):
    """What did not change is not fetched again."""
    before = access_token(broker)

    reload(broker, more=SECOND)

    assert access_token(broker, "second") != before
    assert access_token(broker) == before
    assert [event["token"] for event in broker.log("token_refreshed")].count("demo") == 1
    assert broker.log("configuration_loaded")[-1]["generation"] == 2


def test_a_removed_token_is_refused(broker: BrokerProcess):
    """With its section goes the right to it, and its metric."""
    reload(broker, more=SECOND)
    access_token(broker, "second")

    reload(broker, (SECOND, ""))

    assert broker.token("second").status == 403
    assert b'expires_timestamp_seconds{token="second"}' not in broker.ops("/metrics").body


def test_a_narrowed_token_is_replaced(broker: BrokerProcess):
    """Who names where a token may be used does not want the one in hands that may be used anywhere."""
    wide = access_token(broker)

    reload(broker, ('scope = ["hello:read"]', f'scope = ["hello:read"]\nresource = ["{RESOURCE}"]'))

    assert access_token(broker) != wide


def test_what_needs_a_restart_stays_and_is_named(broker: BrokerProcess):
    """The socket is where it was; the event says what waits."""
    reload(broker, ("[ops]", "[daemon]\ndrain_seconds = 3\n[ops]"), ('"api.sock"', '"moved.sock"'))

    assert broker.log("configuration_loaded")[-1]["restart"] == "listener,daemon"
    assert get(broker.socket, "/livez").status == 200
    assert broker.token().status == 403  # the workload was meant for whoever can open the other socket


def test_a_replaced_certificate_is_a_new_generation_and_the_token_is_bound_to_it(broker: BrokerProcess):
    """Under the same name: the token that is bound to the old one is served until the new one is there."""
    before = broker.token().json()

    reload(broker, ('"client.pem"', '"other.pem"'), ('"client.key"', '"other.key"'))
    at_once = broker.token()
    wait_until(lambda: bool(broker.token().json()["cnf"] != before["cnf"]), "the token is bound to the new one")

    assert at_once.status == 200
    certificates = broker.log("certificate_loaded")
    assert [event["generation"] for event in certificates] == [1, 2]
    assert broker.token().json()["cnf"]["x5t#S256"] == certificates[1]["thumbprint"]


def test_what_is_the_same_by_content_is_the_same_generation(broker: BrokerProcess):
    """A reload that changes nothing changes nothing."""
    before = access_token(broker)

    reload(broker)

    assert {event["generation"] for event in broker.log("certificate_loaded")} == {1}
    assert access_token(broker) == before


def test_a_replaced_signing_key_signs_the_next_assertion(broker: BrokerProcess):
    """What the server would refuse for minutes is tried again at once when the key is mended."""
    (kid,) = re.findall(r'^kid = "[^"]+"$', broker.config.read_text(), re.MULTILINE)
    reload(broker, (kid, 'kid = "wrong"'), more=SECOND)
    wait_until(lambda: broker.token("second").status == 502, "the server refuses the key")

    reload(broker, ('kid = "wrong"', kid))

    wait_until(lambda: broker.token("second").status == 200, "the mended key is used")


def test_a_reload_under_load_loses_no_request(broker: BrokerProcess):
    """Callers notice nothing of ten reloads."""
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.005):  # a broker on its fast path answers them more often than a uid may ask
            statuses.append(broker.token().status)

    callers = [threading.Thread(target=ask) for _ in range(3)]
    for caller in callers:
        caller.start()
    for _ in range(10):
        reload(broker)
    done.set()
    for caller in callers:
        caller.join()

    assert set(statuses) == {200}
    assert len(statuses) > 30


def test_a_reload_while_it_drains_is_ignored(broker: BrokerProcess):
    """It is on its way out: nothing new is begun, and it ends with 0."""
    assert broker.process is not None
    broker.process.send_signal(signal.SIGTERM)
    broker.process.send_signal(signal.SIGHUP)

    assert broker.stop() == 0
    assert len(broker.log("configuration_loaded")) == 1
