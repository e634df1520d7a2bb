"""Certificates, keys and CA files are replaced while the daemon runs and callers use it: no call fails."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from broker.keys.making import key_pem, new_key
from tests.daemon.harness import (
    PATIENCE,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    get,
    sandbox_process,
    wait_until,
)
from tests.daemon.mounted_secret import Secret

NOTICED = 30.0
"""Seconds that a change of a file may take on a busy machine: a look is made every ten."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("rotation"), lifetime=600) as process:
        yield process


@pytest.fixture
def secret(sandbox: SandboxProcess) -> Secret:
    shutil.rmtree(sandbox.home / "mounted", ignore_errors=True)
    mounted = Secret(sandbox.home / "mounted")
    mounted.swap(cert=sandbox.home / "client.pem", key=sandbox.home / "client.key", ca=sandbox.home / "ca.pem")
    return mounted


@pytest.fixture
def broker(sandbox: SandboxProcess, secret: Secret) -> Iterator[BrokerProcess]:
    (sandbox.home / "audit.log").unlink(missing_ok=True)
    for old in sandbox.directory.glob("rotated.*"):
        old.unlink()
    config = (sandbox.home / "config.toml").read_text()
    for before, after in (
        ('"client.pem"', '"mounted/cert"'),
        ('"client.key"', '"mounted/key"'),
        ('"ca.pem"', '"mounted/ca"'),
    ):
        assert before in config
        config = config.replace(before, after)
    config = config.replace("[ops]", "[daemon]\nmax_requests_per_second_per_uid = 100000\n[ops]")
    with broker_process(sandbox, config=config, name="rotated") as process:
        yield process


def another(sandbox: SandboxProcess, name: str) -> tuple[Path, Path, str]:
    """Issue another client certificate; gives its files and its thumbprint."""
    made = sandbox.control.issue_certificate(name)
    return sandbox.home / f"{name}.pem", sandbox.home / f"{name}.key", str(made["thumbprint"])


def bound_to(broker: BrokerProcess) -> str:
    answer = broker.token()
    assert answer.status == 200, answer.body
    return str(answer.json()["cnf"]["x5t#S256"])


def is_bound_to(broker: BrokerProcess, thumbprint: str) -> bool:
    return bound_to(broker) == thumbprint


@contextmanager
def callers(broker: BrokerProcess, number: int = 8) -> Iterator[list[int]]:
    """Let so many callers ask, half of them in long polls, and collect their statuses."""
    statuses: list[int] = []
    done = threading.Event()

    def ask(*, waits: bool) -> None:
        etag = '"none"'
        while not done.is_set():
            headers = {"If-None-Match": etag} if waits else {}
            answer = get(broker.socket, "/v1/tokens/demo" + ("?wait=2" if waits else ""), headers)
            statuses.append(answer.status)
            etag = answer.headers.get("etag", etag)

    threads = [threading.Thread(target=ask, kwargs={"waits": n % 2 == 0}) for n in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_certificate_that_is_swapped_under_load_costs_no_call(
    broker: BrokerProcess, sandbox: SandboxProcess, secret: Secret
):
    """As Kubernetes does it: nobody tells the broker, and the tokens are bound to the new one soon after."""
    before = bound_to(broker)
    cert, key, thumbprint = another(sandbox, "swapped")

    with callers(broker) as statuses:
        secret.swap(cert=cert, key=key, ca=sandbox.home / "ca.pem")
        wait_until(lambda: bound_to(broker) == thumbprint, "the token is bound to the new certificate", NOTICED)
        broker.wait_for("certificate_retired", thumbprint=before)

    assert set(statuses) <= {200, 304}
    assert 200 in statuses
    assert broker.wait_for("files_rotated")["items"] == "certificate.demo"
    assert [event["generation"] for event in broker.log("certificate_loaded")] == [1, 2]
    assert b'token_broker_certificate_generation{certificate="demo"} 2.0' in broker.ops("/metrics").body
    assert len(broker.log("configuration_loaded")) == 1


def operator(broker: BrokerProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``token-broker rotate`` against *broker*."""
    command = [sys.executable, "-m", "broker", "rotate", "--socket", str(broker.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_key_that_comes_a_second_after_its_certificate_is_no_mistake(
    broker: BrokerProcess, sandbox: SandboxProcess, secret: Secret
):
    """Written one after the other, as scripts do: no event says that they do not match."""
    cert, key, thumbprint = another(sandbox, "late")

    with callers(broker) as statuses:
        for name, source in (("cert", cert), ("key", key)):
            (secret.directory / name).unlink()
            shutil.copy(source, secret.directory / name)
            (secret.directory / name).chmod(0o600)
            time.sleep(1.0)
        wait_until(lambda: bound_to(broker) == thumbprint, "the token is bound to the new certificate", NOTICED)

    assert set(statuses) <= {200, 304}
    # A look between the two sees a change that has not settled; only one that falls between twice would say so.
    assert len(broker.log("rotation_refused")) <= 1


def test_a_wrong_pair_changes_nothing_and_says_so_once(broker: BrokerProcess, sandbox: SandboxProcess, secret: Secret):
    """The certificate of one and the key of another; what is mended is used, without anybody's doing."""
    before = bound_to(broker)
    cert, key, thumbprint = another(sandbox, "mended")

    secret.swap(cert=cert, key=sandbox.home / "client.key", ca=sandbox.home / "ca.pem")
    refused = operator(broker)
    again = operator(broker)

    assert (refused.returncode, again.returncode) == (1, 1)
    assert "certificate.demo: " in refused.stderr
    assert "[certificate_mismatch]" in refused.stderr
    assert [event["reason"] for event in broker.log("rotation_refused")] == ["certificate_mismatch"]
    assert broker.records("rotation_refused")[0]["item"] == "certificate.demo"
    assert bound_to(broker) == before
    assert b"token_broker_rotation_refused 1.0" in broker.ops("/metrics").body

    secret.swap(cert=cert, key=key, ca=sandbox.home / "ca.pem")
    mended = operator(broker)

    assert (mended.returncode, mended.stdout) == (0, "certificate.demo: new, and in use\n")
    wait_until(lambda: bound_to(broker) == thumbprint, "the token is bound to the new certificate")
    assert b"token_broker_rotation_refused 0.0" in broker.ops("/metrics").body
    assert operator(broker).stdout == "nothing is new\n"


def test_what_is_compromised_is_served_no_more(broker: BrokerProcess, sandbox: SandboxProcess, secret: Secret):
    """With the answer of the command, no token is handed out that is bound to the old certificate."""
    before = bound_to(broker)
    cert, key, thumbprint = another(sandbox, "clean")

    too_early = operator(broker, "--compromised", "demo")
    ambiguous = "certificate.demo" in too_early.stderr
    nothing = operator(broker, "--compromised", "certificate.demo")
    secret.swap(cert=cert, key=key, ca=sandbox.home / "ca.pem")
    done = operator(broker, "--compromised", "certificate.demo")
    at_once = bound_to(broker)

    assert ambiguous, "there is a key of that name, too"
    assert (nothing.returncode, "put new files in its place first" in nothing.stderr) == (1, True)
    assert bound_to(broker) == thumbprint != before
    assert at_once == thumbprint
    assert done.returncode == 0, done.stderr
    assert "certificate.demo: nothing older is used any more" in done.stdout
    assert broker.wait_for("certificate_retired")["reason"] == "compromised"
    assert broker.records("compromise_declared")[-1]["items"] == "certificate.demo"


def test_a_new_signing_key_is_published_before_it_signs(broker: BrokerProcess, sandbox: SandboxProcess):
    """For the time that the server needs to fetch it; one that is compromised is gone at once."""
    (name,) = re.findall(r'^file = "(signing-[^"]+)"$', broker.config.read_text(), re.MULTILINE)
    text = re.sub(r"(?m)^kid = .*$", "switch_delay_seconds = 3600", broker.config.read_text())
    broker.config.write_text(text.replace(f'"{name}"', '"mounted/signing"'))
    shutil.copy(sandbox.home / name, sandbox.home / "mounted" / "signing")
    assert broker.process is not None
    broker.process.send_signal(signal.SIGHUP)
    broker.wait_for("configuration_loaded", generation=2)

    def published() -> list[str]:
        answer = get(broker.socket, "/v1/jwks/demo")
        assert answer.status == 200, answer.body
        return [key["kid"] for key in answer.json()["keys"]]

    (old,) = published()
    fresh = sandbox.home / "mounted" / "fresh"
    fresh.write_bytes(key_pem(new_key("PS256")))
    fresh.chmod(0o600)
    fresh.replace(sandbox.home / "mounted" / "signing")
    noticed = operator(broker)

    assert noticed.stdout == "key.demo: new, and in use\n"
    first, second = published()
    assert first == old
    assert broker.wait_for("signing_key_published", kid=second)["signs_in"] == pytest.approx(3600.0, abs=PATIENCE)
    assert [event["kid"] for event in broker.log("signing_key_loaded")][-1] == old

    dropped = operator(broker, "--compromised", "key.demo")

    assert dropped.returncode == 0, dropped.stderr
    assert published() == [second]
    assert broker.wait_for("signing_key_loaded", kid=second)


def test_five_rotations_in_a_row_leave_nothing_open(broker: BrokerProcess, sandbox: SandboxProcess, secret: Secret):
    """Certificate and CA file under load: no failed call, and as many descriptors as before."""

    def descriptors() -> int:
        return len(list(Path(f"/proc/{broker.pid}/fd").iterdir()))

    before = descriptors()
    authorities = (sandbox.home / "ca.pem").read_text()
    with callers(broker, 4) as statuses:
        for number in range(5):
            cert, key, thumbprint = another(sandbox, f"turn-{number}")
            bundle = sandbox.home / "bundle.pem"
            bundle.write_text(authorities * (number % 2 + 1))
            secret.swap(cert=cert, key=key, ca=bundle)
            assert operator(broker).returncode == 0
            wait_until(partial(is_bound_to, broker, thumbprint), "the token is bound to the new one")
    broker.wait_for("certificate_retired", generation=5)

    assert set(statuses) <= {200, 304}
    assert [event["generation"] for event in broker.log("certificate_loaded")] == [1, 2, 3, 4, 5, 6]
    assert "issuer.sandbox" in broker.log("files_rotated")[-1]["items"]
    wait_until(lambda: descriptors() <= before + 2, "what the older ones had open is closed")
