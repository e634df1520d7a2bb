"""Tests of ``broker/cli/doctor_case.py``: which daemon is meant, and whose it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.cli.doctor_case import Case, daemons_of, owner_of, read_configuration, runner_of
from broker.cli.findings import Level
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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_daemon_that_is_not_there_is_known_by_what_it_made(config: Path, tmp_path: Path):
    """What belongs to root says nothing: it may have been put in place for somebody."""
    settings, _ = read_configuration(config, {}, stranger=False)
    (tmp_path / "audit.log").touch()
    nobody = owner_of(config, settings, [tmp_path / "s"])
    os.chown(tmp_path / "audit.log", 990, 991)

    assert (nobody, owner_of(config, settings, [tmp_path / "s"])) == (None, (990, 991))


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
