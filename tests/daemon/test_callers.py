"""Who gets what: users, sockets and groups, as the kernel has them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.harness import (
    CANARY,
    UID_A,
    UID_B,
    BrokerProcess,
    SandboxProcess,
    broker_process,
    get_as,
    sandbox_process,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as other users")

GROUP_A = 40_011


def policy(config: str, sockets: Path) -> str:
    """Give the sandbox's configuration with two workloads, each with a socket and a token of its own."""
    head, _, rest = config.partition("[token.demo]")
    section, _, tail = rest.partition("[listener.demo]")
    _, _, tail = tail.partition("[ops]")
    return f"""{head}
[token.a]{section}
[token.b]{section}
[listener.a]
path = "{sockets}/a.sock"
mode = "0666"
[listener.b]
path = "{sockets}/b.sock"
mode = "0666"
[listener.group]
path = "{sockets}/group.sock"
mode = "0660"
group = {GROUP_A}
[workload.a]
listener = ["a"]
uid = [{UID_A}]
tokens = ["a"]
may = ["get"]
[workload.b]
listener = ["b"]
uid = [{UID_B}]
tokens = ["b"]
may = ["get"]
[workload.group]
listener = ["group"]
gid = [{GROUP_A}]
tokens = ["a"]
may = ["get"]
[ops]{tail}"""


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """A directory that other users can pass through, unlike pytest's."""
    directory = Path(tempfile.mkdtemp(prefix="token-broker-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with sandbox_process(tmp_path_factory.mktemp("callers"), lifetime=60) as process:
        yield process


@pytest.fixture(scope="module")
def broker(sandbox: SandboxProcess, sockets: Path) -> Iterator[BrokerProcess]:
    config = policy((sandbox.home / "config.toml").read_text(), sockets)
    with broker_process(sandbox, config=config, start=False) as process:
        process.socket = sockets / "a.sock"
        process.up()
        yield process


@pytest.mark.parametrize(
    ("uid", "listener", "token", "status"),
    [
        (UID_A, "a", "a", 200),
        (UID_B, "b", "b", 200),
        (UID_A, "a", "b", 403),  # the other's token
        (UID_B, "b", "a", 403),
        (UID_A, "b", "a", 403),  # the other's socket
        (UID_A, "b", "b", 403),
        (UID_B, "a", "b", 403),
        (UID_B, "a", "a", 403),
        (40_003, "a", "a", 403),  # a third user
        (0, "a", "a", 403),  # root is nobody's workload
    ],
)
def test_each_user_gets_its_own_token_on_its_own_socket(
    broker: BrokerProcess, sockets: Path, uid: int, listener: str, token: str, status: int
):
    """Two users, two sockets: everything else is refused, alike, and recorded once."""
    before = broker.records("request_refused")

    answer = get_as(uid, sockets / f"{listener}.sock", f"/v1/tokens/{token}?wait=10")

    assert answer is not None
    assert answer.status == status
    refusals = broker.records("request_refused")[len(before) :]
    if status == 200:
        record = broker.records("token_served")[-1]
        assert (record["uid"], record["listener"], record["token"]) == (uid, listener, token)
        assert refusals == []
    else:
        assert answer.json()["error"] == "access_denied"
        (refusal,) = refusals
        assert (refusal["uid"], refusal["listener"], refusal["status"]) == (uid, listener, 403)


def test_a_denied_request_causes_no_call_to_the_server(sandbox: SandboxProcess, broker: BrokerProcess, sockets: Path):
    """Refused before anything else happens."""
    before = sandbox.control.count("token")

    for _ in range(5):
        get_as(UID_B, sockets / "a.sock", "/v1/tokens/a?min_valid=59")

    assert sandbox.control.count("token") == before


def test_an_unknown_token_is_refused_like_a_foreign_one(broker: BrokerProcess, sockets: Path):
    """Nobody learns which names exist; and what the caller made up is recorded nowhere."""
    unknown = get_as(UID_A, sockets / "a.sock", f"/v1/tokens/{CANARY}")
    foreign = get_as(UID_A, sockets / "a.sock", "/v1/tokens/b")

    assert unknown is not None
    assert foreign is not None
    assert (unknown.status, unknown.body) == (foreign.status, foreign.body)


@pytest.mark.parametrize(
    ("uid", "gid", "groups", "status"),
    [
        (40_005, GROUP_A, (), 200),  # primary group
        (40_005, 40_005, (GROUP_A,), 200),  # supplementary group
        (40_005, 40_005, (), None),  # the kernel does not let it in
    ],
)
def test_a_group_decides_by_socket_and_by_policy(
    broker: BrokerProcess, sockets: Path, uid: int, gid: int, groups: tuple[int, ...], status: int | None
):
    """A listener's mode and group keep others out; primary and supplementary groups both count."""
    answer = get_as(uid, sockets / "group.sock", "/v1/tokens/a?wait=10", gid=gid, groups=groups)

    assert (None if answer is None else answer.status) == status


def test_the_list_shows_each_caller_its_own(broker: BrokerProcess, sockets: Path):
    """Root reads the states of all, and the token of none."""
    of_a = get_as(UID_A, sockets / "a.sock", "/v1/tokens")
    of_root = get_as(0, sockets / "a.sock", "/v1/tokens")
    of_nobody = get_as(40_003, sockets / "a.sock", "/v1/tokens")

    assert of_a is not None
    assert of_root is not None
    assert of_nobody is not None
    assert [token["name"] for token in of_a.json()["tokens"]] == ["a"]
    assert [token["name"] for token in of_root.json()["tokens"]] == ["a", "b"]
    assert "access_token" not in of_root.body.decode()
    assert of_nobody.status == 403
