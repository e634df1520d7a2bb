"""Tests of ``broker/cli/doctor_case.py``: which daemon is meant, and whose it is."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from broker.api.peers import GID, UCRED
from broker.cli.doctor_case import (
    Case,
    Runner,
    daemons_of,
    nobody_listens,
    owner_of,
    parse_runner,
    read_configuration,
    runner_of,
    tells_nothing,
)
from broker.cli.findings import Level
from broker.config.settings import TcpListenerSettings
from broker.errors import LocalError
from tests.unit.cli.canned import canned
from tests.unit.daemon.test_process import CONFIG


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.toml"
    path.write_text(CONFIG)
    path.chmod(0o600)
    return path


def test_sockets_are_those_of_the_configuration_unless_one_is_named(config: Path):
    """By an option, or by the environment."""
    settings, _ = read_configuration(config, {}, stranger=False)

    assert daemons_of(None, settings, {}) == (config.parent / "api.sock",)
    assert daemons_of("/other", settings, {}) == (Path("/other"),)
    assert daemons_of(None, settings, {"TOKEN_BROKER_SOCKET": "unix:///third"}) == (Path("/third"),)
    assert daemons_of(None, None, {}) == (Path("/run/token-broker/api.sock"),)
    with pytest.raises(LocalError, match="not unix"):
        daemons_of("tcp://x", settings, {})


def test_who_opened_a_socket_is_the_kernel_s_word(tmp_path: Path):
    """And nobody's where nobody listens."""
    with canned(tmp_path / "s", b""):
        runner = runner_of(tmp_path / "s")

    assert runner is not None
    assert (runner.pid, runner.uid) == (os.getpid(), os.geteuid())
    assert runner_of(tmp_path / "s") is None


SERVE = """
import os, socket, sys
os.setgroups([4242, 4243])
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.setgroups([27])
print("ready", flush=True)
sys.stdin.read()
"""
"""Opens a socket, and has other groups afterwards, as another process with its id would have."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can choose its groups")
def test_the_groups_are_those_of_who_opened_the_socket(tmp_path: Path):
    """And not of whatever process has its id now."""
    serve = [sys.executable, "-c", SERVE, str(tmp_path / "s")]
    with subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        runner = runner_of(tmp_path / "s")
        process.communicate()

    assert runner is not None
    assert runner.groups == (4242, 4243)


@pytest.mark.parametrize(("pid", "groups"), [(4711, (4242,)), (1, ()), (0, ())])
def test_who_is_not_the_daemon_or_not_known_has_no_groups_for_us(pid: int, groups: tuple[int, ...]):
    """The service manager has its own; process 0 is one of another namespace."""
    runner = parse_runner(UCRED.pack(pid, 990, 991), GID.pack(4242))

    assert runner == Runner(pid=pid, uid=990, gid=991, groups=groups)


def test_root_does_not_believe_in_a_daemon_of_root_s():
    """The way to its socket may be the work of the daemon's user; for anybody else it is as good as another one."""
    by_init, by_root = Runner(pid=1, uid=0, gid=0), Runner(pid=4711, uid=0, gid=0)
    by_another = Runner(pid=4711, uid=990, gid=991)

    assert [tells_nothing(one, 0) for one in (by_init, by_root, by_another)] == [True, True, False]
    assert [tells_nothing(one, 5) for one in (by_init, by_root, by_another)] == [True, False, False]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_link_in_the_place_of_what_a_daemon_made_is_its_user_s(config: Path, tmp_path: Path):
    """Whatever of root's it leads to."""
    settings, _ = read_configuration(config, {}, stranger=False)
    found = []
    with socket.socket(socket.AF_UNIX) as of_root:
        of_root.bind(str(tmp_path / "of-root"))
    for name in ("s", "audit.log"):
        (tmp_path / name).symlink_to(tmp_path / "of-root")
        os.chown(tmp_path / name, 990, 991, follow_symlinks=False)
        found.append(owner_of(config, settings, [tmp_path / "s"]))
        (tmp_path / name).unlink()

    assert found == [(990, 991)] * 2


BECOME = """
import ctypes, os, sys
lacking = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
head, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # version 3, and two words of each set
assert libc.capget(head, sets) == 0
sets[0] &= ~lacking
sets[1] &= ~lacking
assert libc.capset(head, sets) == 0
from broker.cli.doctor_case import become
who = lambda: (os.getresuid(), os.getresgid(), os.getgroups())
before = who()
print(become(990, 991, [4242]), who() == before)
"""
CAP_SETGID, CAP_SETUID = 1 << 6, 1 << 7
"""Bits of capabilities(7)."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("lacking", [CAP_SETGID, CAP_SETUID, CAP_SETGID | CAP_SETUID, 0])
def test_a_root_that_may_not_become_another_user_stays_what_it_was(lacking: int):
    """All of it or nothing: not the user without the groups, nor the groups without the user."""
    done = subprocess.run(
        [sys.executable, "-c", BECOME, str(lacking)], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.split() == (["False", "True"] if lacking else ["True", "False"])


def test_a_configuration_that_is_a_fifo_is_not_waited_for(tmp_path: Path):
    """It was opened once, with care, and not again."""
    os.mkfifo(tmp_path / "fifo")
    arguments = ["doctor", "--config", str(tmp_path / "fifo"), "--socket", str(tmp_path / "s")]

    done = subprocess.run(
        [sys.executable, "-m", "broker", *arguments], capture_output=True, text=True, timeout=30, check=False
    )

    assert f"FAILED  configuration: {tmp_path}/fifo is not a file [configuration_unreadable]" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_daemon_that_is_not_there_is_known_by_what_it_made(config: Path, tmp_path: Path):
    """What belongs to root says nothing: it may have been put in place for somebody. Nor does what is nobody's."""
    settings, _ = read_configuration(config, {}, stranger=False)
    (tmp_path / "audit.log").touch()
    of_root = owner_of(config, settings, [tmp_path / "s"])
    os.chown(tmp_path / "audit.log", 65_534, 65_534)
    of_nobody = owner_of(config, settings, [tmp_path / "s"])
    os.chown(tmp_path / "audit.log", 990, 991)

    assert (of_root, of_nobody, owner_of(config, settings, [tmp_path / "s"])) == (None, None, (990, 991))


def test_a_configuration_that_is_not_for_us_is_no_failure(tmp_path: Path):
    """Who is not the daemon's user need not be able to read it; the daemon's user does."""

    class Unreadable(type(tmp_path)):  # type: ignore[misc]
        def __fspath__(self) -> str:
            raise PermissionError(13, "no")

    settings, stranger = read_configuration(Unreadable("/c"), {}, stranger=True)
    _, own = read_configuration(Unreadable("/c"), {}, stranger=False)

    assert settings is None
    assert ([one.level for one in stranger], [one.level for one in own]) == ([Level.SKIPPED], [Level.FAILED])


def test_only_the_user_of_the_daemon_can_judge_its_files():
    """Where that is not known, we do as if we were."""
    daemons = (Path("/s"),)

    assert Case(daemons=daemons, uid=5).may_judge
    assert Case(daemons=daemons, uid=5, runs_as=5).may_judge
    assert not Case(daemons=daemons, uid=5, runs_as=6).may_judge


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize(("text", "level"), [(CONFIG, Level.SKIPPED), ("x = ", Level.FAILED)], ids=["good", "no TOML"])
def test_whose_a_configuration_is_matters_to_the_daemon_alone(config: Path, text: str, level: Level):
    """A stranger cannot judge it; what stands in it is as wrong for everybody."""
    config.write_text(text)
    os.chown(config, 990, 991)

    settings, findings = read_configuration(config, {}, stranger=True)

    assert (settings, {one.level for one in findings}) == (None, {level})


def test_that_nobody_listens_is_said_of_all_addresses_of_a_configuration(config: Path):
    """One that is taken is enough for a doubt, and so is one to which we may not connect."""
    settings, _ = read_configuration(config, {}, stranger=False)
    assert settings is not None

    away = nobody_listens(settings)
    with canned(config.parent / "api.sock", b""):
        there = nobody_listens(settings)
    left = nobody_listens(settings)

    assert (away, there, left) == (True, False, True)


def test_an_address_over_tcp_counts_too(config: Path):
    """Whoever listens there may be the daemon."""
    settings, _ = read_configuration(config, {}, stranger=False)
    assert settings is not None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tcp = TcpListenerSettings(name="t", host="127.0.0.1", port=port, secret_file=Path("/s"), gid=None)
        only_tcp = replace(settings, listeners=(tcp,))

        there = nobody_listens(only_tcp)
    away = nobody_listens(only_tcp)

    assert (there, away) == (False, True)
