"""The units of systemd: sound, shut as far as they can be, and in agreement with the configuration beside them."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.config.load import load_settings
from tests.unit.config.files import FakeAccounts

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "systemd"
CREDENTIALS = Path("/run/credentials/token-broker.service")
GROUP = 996
"""What the group is on some machine."""

THRESHOLD = 13
"""Tenths: an exposure of at most 1.3; the next best service that was looked at has 2.1."""


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units in a folder of their own, with a program that exists in place of the broker's."""
    for kind in ("socket", "service"):
        text = (FOLDER / f"token-broker.{kind}").read_text()
        (tmp_path / f"token-broker.{kind}").write_text(text.replace("/opt/token-broker/bin/token-broker", "/bin/true"))
    return tmp_path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    command = ("systemd-analyze", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def verify(folder: Path) -> subprocess.CompletedProcess[str]:
    """Have systemd look for unknown keys and impossible values; unknown ones are errors only with this option."""
    files = [str(folder / f"token-broker.{kind}") for kind in ("socket", "service")]
    return analyze("verify", "--recursive-errors=yes", "--man=no", *files)


def settings_of(kind: str) -> dict[str, dict[str, list[str]]]:
    """Give each key of a unit with all its values: some may be written several times."""
    found: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in (FOLDER / f"token-broker.{kind}").read_text().splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return found


SERVICE, SOCKET = settings_of("service"), settings_of("socket")


def test_systemd_finds_nothing_wrong_with_the_units(units: Path):
    """Also with those that are drawn in."""
    done = verify(units)

    assert (done.returncode, done.stderr.strip()) == (0, "")


@pytest.mark.parametrize("wrong", ["ProtectSytem=strict", "WatchdogSec=soon"])
def test_a_mistake_in_a_unit_would_be_found(units: Path, wrong: str):
    """A key that does not exist, and a value that is none."""
    service = units / "token-broker.service"
    service.write_text(service.read_text().replace("[Service]\n", f"[Service]\n{wrong}\n"))

    assert verify(units).returncode != 0


def test_the_service_is_shut(units: Path):
    """By systemd's own measure."""
    done = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", str(units / "token-broker.service"))

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("opened", ["CapabilityBoundingSet=", "RestrictNamespaces=yes", "ProtectProc=invisible"])
def test_a_service_that_is_opened_would_be_found(units: Path, opened: str):
    """One line less is too much."""
    service = units / "token-broker.service"
    text = service.read_text()
    assert f"\n{opened}\n" in text
    service.write_text(text.replace(f"\n{opened}\n", "\n"))

    done = analyze("security", "--offline=true", f"--threshold={THRESHOLD}", str(service))

    assert done.returncode != 0


def test_clients_can_be_told_apart_and_reach_the_socket():
    """PrivateUsers= makes everybody nobody, RuntimeDirectory= takes the socket away with the service."""
    assert not {"PrivateUsers", "RuntimeDirectory"} & set(SERVICE["Service"])
    assert SOCKET["Socket"]["SocketMode"] == ["0660"]
    assert SOCKET["Socket"]["DirectoryMode"] == ["0755"]
    assert "Accept" not in SOCKET["Socket"]


def test_the_service_is_watched_and_comes_back_with_limits():
    """What a restart cannot mend is not restarted, and nothing is restarted for ever."""
    service = SERVICE["Service"]

    assert (service["Type"], service["NotifyAccess"]) == (["notify"], ["main"])
    assert int(service["WatchdogSec"][0].removesuffix("s")) >= 10
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2 3"]
    assert {"StartLimitIntervalSec", "StartLimitBurst"} <= set(SERVICE["Unit"])
    assert service["LimitCORE"] == ["0"]


def test_the_configuration_beside_the_units_agrees_with_them(tmp_path: Path):
    """Names and paths of socket, state, log, group and keys: whoever takes both has nothing to adapt there."""
    path = tmp_path / "config.toml"
    path.write_bytes((FOLDER / "config.toml").read_bytes())
    path.chmod(0o600)

    settings = load_settings(
        path, credentials_directory=CREDENTIALS, accounts=FakeAccounts(groups={"token-broker": GROUP})
    )

    (listener,) = settings.listeners
    keys = [settings.certificates["transport"].key_file, settings.keys["signing"].file]
    assert settings.warnings == ()
    assert settings.store is not None
    assert settings.audit is not None
    assert [listener.name] == SOCKET["Socket"]["FileDescriptorName"]
    assert [str(*listener.place)] == SOCKET["Socket"]["ListenStream"]
    assert [str(settings.daemon.state_dir)] == [f"/var/lib/{name}" for name in SERVICE["Service"]["StateDirectory"]]
    assert str(settings.audit.file.parent) == f"/var/log/{SERVICE['Service']['LogsDirectory'][0]}"
    assert {file.name for file in (*keys, settings.store.key_file, settings.audit.key_file) if file} == set(
        SERVICE["Service"]["LoadCredential"]
    )
    assert all(file.parent == CREDENTIALS for file in keys)
    assert settings.workloads[0].gids == {GROUP}
    assert settings.daemon.drain_seconds + 20 < int(SERVICE["Service"]["TimeoutStopSec"][0].removesuffix("s"))


def test_the_group_is_that_of_the_socket():
    """The file makes it; nobody is a member yet."""
    lines = words(FOLDER / "token-broker.sysusers.conf")

    assert lines == [["g", *SOCKET["Socket"]["SocketGroup"], "-"]]


def test_the_example_of_addresses_denies_everything_else(units: Path):
    """And is sound as a drop-in."""
    example = FOLDER / "token-broker.service.d" / "addresses.conf.example"
    parsed = configparser.ConfigParser(strict=False)
    parsed.read(example)
    folder = units / "token-broker.service.d"
    folder.mkdir()
    shutil.copy(example, folder / "addresses.conf")

    done = verify(units)

    assert parsed["Service"]["IPAddressDeny"] == "any"
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_the_example_for_token_files_is_sound_and_readers_get_in(units: Path):
    """A directory that is preserved would lie in /run/private with DynamicUser=."""
    example = FOLDER / "token-broker.service.d" / "files.conf.example"
    parsed = configparser.ConfigParser(strict=False)
    parsed.read(example)
    folder = units / "token-broker.service.d"
    folder.mkdir()
    shutil.copy(example, folder / "files.conf")

    done = verify(units)

    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert "RuntimeDirectoryPreserve" not in parsed["Service"]
    assert parsed["Service"]["RuntimeDirectoryMode"] == "0755"


def words(path: Path) -> Sequence[list[str]]:
    """Give the words of each line that is no comment."""
    return [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
