"""Tests of ``broker/cli/store.py``: what is wrong is named, the key is changed, an older copy is accepted."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from broker.cli import main
from broker.hostenv.state_dir import held
from broker.keys.sealing import load_sealing_key
from broker.storage.vault import Place, open_vault
from broker.tokens.storing import Put
from tests.fakes import WALL_AT_BOOT
from tests.unit.daemon.test_process import CONFIG

STORE = """
[store]
key = { file = "store.key" }
anchor = "anchor"
"""


class Setting:
    """A configuration with a store, and a key file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "config.toml"
        self.state = directory / "state"
        self.configure("store.key")
        self.key("store.key", b"k")
        self.state.mkdir(mode=0o700)

    def configure(self, key: str) -> None:
        text = CONFIG.replace("[daemon]\n", '[daemon]\nstate_dir = "state"\n') + STORE.replace("store.key", key)
        self.config.write_text(text)
        self.config.chmod(0o600)

    def key(self, name: str, byte: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(byte * 32)
        path.chmod(0o600)
        return path

    def write(self, value: bytes, key: str = "store.key") -> None:
        vault = open_vault(self.place(key))
        vault.commit([Put(name="grant/a", value=value), Put(name="grant/b", value=value)])
        vault.close()

    def place(self, key: str = "store.key") -> Place:
        sealer = load_sealing_key(self.directory / key)
        return Place(directory=self.state, sealer=sealer, anchor=self.directory / "anchor", wall=lambda: WALL_AT_BOOT)

    def run(self, action: str, *arguments: str) -> int:
        return main(["store", action, "--config", str(self.config), *arguments])


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def test_a_good_store_is_one_line(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """And no value of it."""
    setting.write(b"s3cret")

    assert setting.run("check") == 0

    captured = capsys.readouterr()
    assert captured.out == f"{setting.state}/store.1.db: 2 record(s), 0 of them suspect; 2 write(s)\n"
    assert captured.err == ""


def test_damage_is_named_and_left_alone(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """A record that is lost, one that can be read, and what the broker will do."""
    setting.write(b"1")
    connection = sqlite3.connect(setting.state / "store.1.db", isolation_level=None)
    connection.execute("UPDATE record SET sealed = x'00' WHERE name = 'grant/a'")
    connection.execute("UPDATE record SET generation = 1 WHERE name = 'grant/b'")
    connection.close()
    before = (setting.state / "store.1.db").read_bytes()

    assert setting.run("check") == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "grant/a: altered; it is lost"
    assert lines[1] == "grant/b: misplaced; it can be read, and will be tried once"
    assert lines[2].startswith("the file is damaged")
    assert lines[3].endswith("1 record(s), 1 of them suspect; 2 write(s)")
    assert (setting.state / "store.1.db").read_bytes() == before


def test_a_record_that_is_suspect_since_an_earlier_start_is_named(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """The file is whole again, but what it says of that record may be old: exit 1."""
    setting.write(b"1")
    connection = sqlite3.connect(setting.state / "store.1.db", isolation_level=None)
    connection.execute("UPDATE record SET generation = 1 WHERE name = 'grant/b'")
    connection.close()
    open_vault(setting.place()).close()

    assert setting.run("check") == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "grant/b: suspect since an earlier damage; it can be read, and will be tried once"
    assert lines[1].endswith("2 record(s), 1 of them suspect; 3 write(s)")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "the anchor is missing"), (b"junk", "the anchor cannot be read, is damaged")]
)
def test_an_anchor_that_is_lost_is_not_called_an_older_copy(
    content: bytes | None, said: str, setting: Setting, capsys: pytest.CaptureFixture[str]
):
    """Until somebody accepts it."""
    setting.write(b"1")
    (setting.directory / "anchor").unlink()
    if content is not None:
        (setting.directory / "anchor").write_bytes(content)

    assert setting.run("check") == 1
    told = capsys.readouterr().out
    assert said in told
    assert "older copy" not in told
    assert setting.run("accept") == 0
    assert setting.run("check") == 0


def test_an_older_copy_is_seen_and_accepted(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """Once is enough."""
    setting.write(b"1")
    shutil.copytree(setting.state, setting.directory / "copy")
    setting.write(b"2")
    shutil.rmtree(setting.state)
    (setting.directory / "copy").rename(setting.state)

    assert setting.run("check") == 1
    assert "token-broker store accept" in capsys.readouterr().out
    assert setting.run("accept") == 0
    assert "accepted: 2 record(s)" in capsys.readouterr().out
    assert setting.run("check") == 0
    assert setting.run("accept") == 0
    assert "nothing to accept" in capsys.readouterr().out


def test_the_key_is_changed(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """Then the configuration has to name the new one."""
    setting.write(b"1")
    new = setting.key("new.key", b"n")

    assert setting.run("rekey", "--new-key", str(new)) == 0

    assert f'key = {{ file = "{new}" }}' in capsys.readouterr().out
    assert setting.run("check") == 1
    assert "store_key_wrong" in capsys.readouterr().err
    setting.configure("new.key")
    assert setting.run("check") == 0
    assert setting.run("rekey", "--new-key", str(setting.key("short.key", b""))) == 1
    assert "store_key_short" in capsys.readouterr().err


def test_the_key_that_the_store_has_is_no_new_one(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """Who changes it because it was seen by others must not believe that it is done."""
    setting.write(b"1")

    assert setting.run("rekey", "--new-key", str(setting.key("copy.key", b"k"))) == 1

    assert "store_key_same" in capsys.readouterr().err
    assert setting.run("check") == 0


def test_an_anchor_that_cannot_follow_is_told(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """The key is changed all the same."""
    setting.write(b"1")
    new = setting.key("new.key", b"n")
    (setting.directory / "anchor.new").mkdir()

    assert setting.run("rekey", "--new-key", str(new)) == 0

    assert "token-broker store accept" in capsys.readouterr().err


def test_a_command_makes_no_store(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """A wrong path would look like an empty store."""
    new = str(setting.key("new.key", b"n"))

    codes = [setting.run("check"), setting.run("accept"), setting.run("rekey", "--new-key", new)]

    assert codes == [1, 1, 1]
    assert capsys.readouterr().err.count("store_missing") == 3
    assert not list(setting.state.glob("store.*"))


def test_a_running_broker_keeps_its_store(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """Exit 3, as for a second broker."""
    with held(setting.state):
        assert setting.run("check") == 3

    assert "state_dir_in_use" in capsys.readouterr().err


def test_without_a_store_there_is_nothing_to_do(setting: Setting, capsys: pytest.CaptureFixture[str]):
    """Nor with a configuration that is not there."""
    setting.config.write_text(CONFIG)

    assert setting.run("check") == 2
    assert "has no [store]" in capsys.readouterr().err
    setting.config.unlink()
    assert setting.run("check") == 2
