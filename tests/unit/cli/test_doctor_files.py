"""Tests of ``broker/cli/doctor_files.py``: keys, days, directories, audit log and store, each by itself."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from broker.cli.doctor_case import Case
from broker.cli.doctor_files import of_audit, of_end, of_keys, of_places, of_store
from broker.cli.findings import Finding, Level
from broker.cli.online import DAY
from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.hostenv.state_dir import LOCK, held
from tests.unit.cli.canned import canned
from tests.unit.cli.test_store import Setting

WALL = 1_790_000_000.0
CASE = Case(daemons=(Path("/s"),), uid=0)
STRANGER = Case(daemons=(Path("/s"),), uid=5, runs_as=6)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write(b"value")
    return setting


def settings(setting: Setting) -> Settings:
    return load_settings(setting.config, credentials_directory=None)


def levels(findings: list[Finding]) -> list[Level]:
    return [one.level for one in findings]


@pytest.mark.parametrize(("days", "level"), [(100, Level.OK), (3, Level.WARNING), (-1, Level.FAILED)])
def test_the_last_day_is_a_warning_while_there_is_time(days: int, level: Level):
    """With what to do where it matters."""
    found = of_end("certificate.c", WALL + days * DAY, WALL)

    assert (found.place, found.level) == ("certificate.c", level)
    assert (found.advice is None) is (level is Level.OK)


def test_a_key_that_is_missing_is_told_with_its_path(setting: Setting):
    """And nothing is said to be good then."""
    findings = list(of_keys(CASE, settings(setting)))

    assert levels(findings) == [Level.FAILED]
    assert "k.pem" in findings[0].text


def test_a_credential_of_the_service_manager_is_not_ours_to_miss(setting: Setting):
    """It is there for the service alone."""
    keys = {"k": replace(settings(setting).keys["k"], file=Path("/run/credentials/k"))}

    findings = list(of_keys(CASE, replace(settings(setting), keys=keys)))

    assert levels(findings) == [Level.SKIPPED]
    assert "CREDENTIALS_DIRECTORY=/run/credentials/token-broker.service" in str(findings[0].advice)
    assert "CREDENTIALS_DIRECTORY=/etc/credstore" in str(findings[0].advice)


def test_a_state_directory_that_others_can_read_is_told_with_its_remedy(setting: Setting):
    """As a start would refuse it."""
    good = list(of_places(CASE, settings(setting)))
    setting.state.chmod(0o755)
    bad = list(of_places(CASE, settings(setting)))

    assert Level.OK in levels(good)
    assert bad[0].level is Level.FAILED
    assert str(bad[0].advice).startswith("chmod 0700")


def test_an_audit_log_that_was_edited_fails_and_one_that_is_not_there_yet_does_not(setting: Setting):
    """Nor does an empty one, as after a rotation."""
    missing = list(of_audit(CASE, settings(setting)))
    (setting.directory / "audit.log").touch()
    empty = list(of_audit(CASE, settings(setting)))
    (setting.directory / "audit.log").write_bytes(b"junk\n")
    edited = list(of_audit(CASE, settings(setting)))

    assert levels(missing + empty) == [Level.WARNING, Level.OK]
    assert levels(edited) == [Level.FAILED]


def test_a_store_is_looked_into_while_nobody_holds_it(setting: Setting):
    """And is the daemon's while it does; where that does not answer, it is another one's."""
    free = list(of_store(CASE, settings(setting)))
    with held(setting.state):
        foreign = list(of_store(CASE, settings(setting)))
        with canned(setting.directory / "api.sock", b""):
            taken = list(of_store(CASE, settings(setting)))

    assert (free[0].level, "2 record(s), all of them sound" in free[0].text) == (Level.OK, True)
    assert (taken[0].level, "the daemon holds it" in taken[0].text) == (Level.OK, True)
    assert (foreign[0].level, foreign[0].text.startswith(f"process {os.getpid()} holds it")) == (Level.FAILED, True)
    assert "[state_dir_in_use]" in foreign[0].text


def test_looking_into_a_store_leaves_no_trace(setting: Setting):
    """Where no broker was yet, there is no lock, and none is made."""
    (setting.state / LOCK).unlink(missing_ok=True)
    before = sorted(setting.state.iterdir())

    (found,) = of_store(CASE, settings(setting))

    assert "2 record(s), all of them sound" in found.text
    assert sorted(setting.state.iterdir()) == before


def test_an_audit_log_that_is_a_link_is_not_followed(setting: Setting):
    """It could lead root anywhere; nor is a FIFO waited for."""
    (setting.directory / "elsewhere").write_bytes(b"junk\n")
    (setting.directory / "audit.log").symlink_to(setting.directory / "elsewhere")
    (link,) = of_audit(CASE, settings(setting))
    (setting.directory / "audit.log").unlink()
    os.mkfifo(setting.directory / "audit.log")
    (fifo,) = of_audit(CASE, settings(setting))

    assert (link.level, "symbolic link" in link.text) == (Level.FAILED, True)
    assert (fifo.level, "is not a file" in fifo.text) == (Level.FAILED, True)


def test_a_damaged_store_fails_with_what_to_do(setting: Setting):
    """Nothing is repaired, and nothing moved."""
    (file,) = setting.state.glob("*.db")
    file.write_bytes(b"SQLite format 3\x00" + b"\xff" * 4096)

    findings = list(of_store(CASE, settings(setting)))

    assert levels(findings) == [Level.FAILED]
    assert file.exists()


@pytest.mark.parametrize("look", [of_keys, of_places, of_store])
def test_a_stranger_is_told_that_nothing_is_known(setting: Setting, look: object):
    """A file is safe or not for the user of the daemon."""
    findings = list(look(STRANGER, settings(setting)))  # type: ignore[operator]

    assert levels(findings) == [Level.SKIPPED]
    assert "uid 6" in findings[0].text


def test_a_directory_of_a_token_file_that_everybody_can_write_is_told(setting: Setting):
    """As ``check`` and a start refuse it."""
    files = setting.directory / "files"
    files.mkdir(mode=0o755)
    with setting.config.open("a") as config:
        config.write('[sink.reports]\ntoken = "t"\npath = "files/token"\n')

    good = list(of_places(CASE, settings(setting)))
    files.chmod(0o777)
    bad = list(of_places(CASE, settings(setting)))

    assert Level.FAILED not in levels(good)
    assert (bad[0].level, "[sink_directory_unsafe]" in bad[0].text) == (Level.FAILED, True)


def test_an_audit_log_is_missed_only_while_a_daemon_serves(setting: Setting):
    """Before the very first start nothing was moved away."""
    (before,) = of_audit(CASE, settings(setting))
    with canned(setting.directory / "api.sock", b""):
        (later,) = of_audit(CASE, settings(setting))

    assert before.advice == "the daemon makes it at its start"
    assert later.advice == "was it moved away?"
