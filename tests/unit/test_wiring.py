from __future__ import annotations

import io
from pathlib import Path

import pytest

from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.errors import LocalError
from broker.wiring import Identities, build, load_identities
from tests.fakes import WALL_AT_BOOT
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import key_pem, p256, written


def settings_of(tmp_path: Path, text: str = CONFIG) -> Settings:
    (tmp_path / "config.toml").write_text(text)
    return load_settings(tmp_path / "config.toml", credentials_directory=None)


TWO_KEYS = CONFIG + '\n[key.second]\nfile = "second.pem"\nalg = "ES256"\n'


def test_the_first_wrong_file_is_an_error(tmp_path: Path):
    """A daemon does not start with half of its identities."""
    with pytest.raises(LocalError) as caught:
        load_identities(settings_of(tmp_path), wall_now=WALL_AT_BOOT)

    assert caught.value.code == "file_missing"


def test_a_check_gets_all_of_them_and_what_is_sound(tmp_path: Path):
    """Every error is handed on; what can be loaded is."""
    written(tmp_path / "k.pem", key_pem(p256()))
    errors: list[LocalError] = []

    loaded = load_identities(settings_of(tmp_path, TWO_KEYS), wall_now=WALL_AT_BOOT, on_error=errors.append)

    assert [error.code for error in errors] == ["file_missing"]
    assert "second.pem" in errors[0].message
    assert list(loaded.keys) == ["k"]


def loaded(tmp_path: Path, settings: Settings) -> Identities:
    written(tmp_path / "k.pem", key_pem(p256()))
    return load_identities(settings, wall_now=WALL_AT_BOOT)


def test_clients_of_one_issuer_without_a_certificate_share_a_session(tmp_path: Path):
    """One for the metadata, one for both clients."""
    second = '\n[client.d]\nissuer = "nobody"\nclient_id = "d"\nclient_auth_method = "private_key_jwt"\n'
    settings = settings_of(tmp_path, CONFIG + second + 'signing_keys = ["k"]\nsender_constraint = "none"\n')

    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    parts.telemetry.close()

    assert len(parts.sessions) == 2


def test_a_configuration_without_audit_and_ops_has_neither(tmp_path: Path):
    """Only where the file says so."""
    text = CONFIG.replace('[audit]\nfile = "audit.log"', "[audit]\nenabled = false")
    settings = settings_of(tmp_path, text)

    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    parts.reopen_logs()

    assert parts.audit is None
    assert parts.ops is None
    assert not (tmp_path / "audit.log").exists()


def test_an_audit_log_that_is_not_safe_keeps_the_daemon_from_being_built(tmp_path: Path):
    """A link in its place could lead anywhere."""
    settings = settings_of(tmp_path)
    (tmp_path / "audit.log").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(LocalError):
        build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())

    assert not (tmp_path / "elsewhere").exists()
