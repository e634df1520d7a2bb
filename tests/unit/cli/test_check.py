from __future__ import annotations

from pathlib import Path

import pytest

from broker.cli import main
from tests.unit.daemon.rotating import WITH_DPOP_KEY
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import key_pem, p256, written


def configured(tmp_path: Path, text: str = CONFIG) -> str:
    (tmp_path / "config.toml").write_text(text)
    return str(tmp_path / "config.toml")


def test_a_sound_configuration_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Warnings go to standard error; the verdict is on standard output."""
    written(tmp_path / "k.pem", key_pem(p256()))

    code = main(["check", "--config", configured(tmp_path)])

    captured = capsys.readouterr()
    assert code == 0
    assert captured.out == f"{tmp_path}/config.toml: good: 1 token(s), 1 listener(s)\n"
    assert all(line.startswith("warning: ") for line in captured.err.splitlines())


def test_syntax_opens_no_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A configuration can be checked where its keys are not."""
    config = configured(tmp_path)

    assert main(["check", "--syntax", "--config", config]) == 0
    assert main(["check", "--config", config]) == 2
    assert "[file_missing]" in capsys.readouterr().err


def test_credentials_need_not_be_there_for_the_syntax(tmp_path: Path):
    """They are only there under the service manager."""
    text = CONFIG.replace('file = "audit.log"', 'file = "audit.log"\nkey = { credential = "audit" }')

    assert main(["check", "--syntax", "--config", configured(tmp_path, text)]) == 0


def test_users_need_not_be_there_for_the_syntax(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A file is checked where it is written, and its users are where it is used."""
    text = CONFIG.replace('listener = ["l"]', 'listener = ["l"]\nuid = ["no-such-user-here", "nor-this-one"]')
    config = configured(tmp_path, text)

    assert main(["check", "--syntax", "--config", config]) == 0
    assert main(["check", "--config", config]) == 2
    assert "no-such-user-here" in capsys.readouterr().err


def test_every_problem_is_one_line_and_they_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Exit 2; each with its place."""
    text = CONFIG.replace('client = "c"', 'client = "d"').replace('mode = "0600"', "mode = 600")

    code = main(["check", "--config", configured(tmp_path, text)])

    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert any(line.startswith("token.t.client: ") for line in lines)
    assert any(line.startswith("listener.l.mode: ") for line in lines)
    assert lines[-1] == f"{tmp_path}/config.toml: {len(lines) - 1} problem(s); nothing was started"


def test_a_file_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """One line and what to do, exit 2."""
    code = main(["check", "--config", str(tmp_path / "absent.toml")])

    assert code == 2
    assert "[configuration_unreadable]" in capsys.readouterr().err


def test_the_audit_key_and_ca_files_are_looked_at_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What ``run`` would stumble over, ``check`` tells, all of it."""
    written(tmp_path / "k.pem", key_pem(p256()))
    text = CONFIG.replace('file = "audit.log"', 'file = "audit.log"\nkey = { file = "absent.key" }')
    text = text.replace('profile = "oauth2"', 'profile = "oauth2"\nca_file = "absent.pem"')

    assert main(["check", "--config", configured(tmp_path, text)]) == 2

    said = capsys.readouterr().err
    assert "absent.key" in said
    assert "absent.pem" in said


def test_a_dpop_key_that_signs_something_else_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """By another name, and from another file."""
    same = key_pem(p256())
    for name in ("k.pem", "d.pem"):
        written(tmp_path / name, same)

    assert main(["check", "--config", configured(tmp_path, WITH_DPOP_KEY)]) == 2

    assert "[key_shared]" in capsys.readouterr().err


def test_the_directories_of_sockets_and_state_are_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What a start would refuse, all of it, with what mends it; not for the syntax alone."""
    written(tmp_path / "k.pem", key_pem(p256()))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    text = CONFIG.replace("api.sock", "open/a/api.sock").replace("[daemon]", '[daemon]\nstate_dir = "open/state"')
    config = configured(tmp_path, text)

    code = main(["check", "--config", config])

    said = capsys.readouterr().err
    assert code == 2
    assert "[listener_directory_unsafe]" in said
    assert "[state_dir_unsafe]" in said
    assert f"chmod o-w {tmp_path / 'open'}" in said
    assert main(["check", "--syntax", "--config", config]) == 0
