"""Certificates, keys and CA files are replaced while the daemon runs and callers use it: no call fails."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.sandbox.layout import load
from tests.daemon.harness import BrokerProcess, SandboxProcess, broker_process, get, sandbox_process, wait_until

NOTICED = 30.0
"""Seconds that a change of a file may take on a busy machine: a look is made every ten."""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("rotation"), lifetime=600) as process:
        yield process


class Secret:
    """A directory as Kubernetes mounts a secret: every file is a link through ``..data``, which is swapped."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0
        directory.mkdir(mode=0o700)

    def swap(self, **files: Path) -> None:
        """Put copies of *files* in the place of what is there, all at once."""
        self.count += 1
        version = self.directory / f"..version-{self.count}"
        version.mkdir(mode=0o700)
        for name, source in files.items():
            shutil.copy(source, version / name)
            (version / name).chmod(0o600)
        fresh = self.directory / "..data.new"
        fresh.symlink_to(version.name)
        fresh.replace(self.directory / "..data")
        for name in files:
            link = self.directory / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")


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
    made = load(sandbox.home).issue_client(name, now=time.time())
    return sandbox.home / f"{name}.pem", sandbox.home / f"{name}.key", made.thumbprint()


def bound_to(broker: BrokerProcess) -> str:
    answer = broker.token()
    assert answer.status == 200, answer.body
    return str(answer.json()["cnf"]["x5t#S256"])


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
