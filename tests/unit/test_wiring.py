from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.errors import LocalError
from broker.hostenv.clock import SystemClock, SystemRandomness
from broker.oauth.secret import ClientSecret
from broker.wiring import Identities, _Lines, build, load_identities
from tests.fakes import WALL_AT_BOOT, Events
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import WALL, client, key_pem, p256, written


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


def loaded(
    tmp_path: Path,
    settings: Settings,
    *,
    wall_now: float = WALL_AT_BOOT,
    on_error: Callable[[LocalError], None] | None = None,
) -> Identities:
    written(tmp_path / "k.pem", key_pem(p256()))
    return load_identities(settings, wall_now=wall_now, on_error=on_error)


def test_clients_of_one_issuer_without_a_certificate_share_a_session(tmp_path: Path):
    """One for the metadata, one for both clients."""
    second = '\n[client.d]\nissuer = "nobody"\nclient_id = "d"\nclient_auth_method = "private_key_jwt"\n'
    settings = settings_of(tmp_path, CONFIG + second + 'signing_keys = ["k"]\nsender_constraint = "none"\n')

    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    parts.telemetry.close()

    assert len(parts.sessions) == 2


OTHERS = """
[certificate.x]
cert_file = "x.pem"
key_file = "x.key"
[client.d]
issuer = "nobody"
client_id = "d"
client_auth_method = "tls_client_auth"
certificate = "x"
[client.e]
issuer = "nobody"
client_id = "e"
client_auth_method = "client_secret_post"
client_secret = { file = "e.secret" }
certificate = "x"
"""
"""Two clients with one certificate, one of them with a secret."""


def with_others(tmp_path: Path) -> Settings:
    pair = client()
    written(tmp_path / "x.pem", pair.cert_pem())
    written(tmp_path / "x.key", pair.key_pem())
    written(tmp_path / "e.secret", b"canary-4711\n")
    return settings_of(tmp_path, CONFIG + OTHERS)


def test_clients_of_one_certificate_share_its_connections(tmp_path: Path):
    """One session for the metadata, one without certificate, one with; each client its own credential."""
    settings = with_others(tmp_path)
    identities = loaded(tmp_path, settings, wall_now=WALL)
    lines = _Lines(settings, identities, SystemClock(), SystemRandomness(), Events())

    c, d, e = (lines.registration(settings.clients[name]).exchange for name in "cde")

    assert len(lines.sessions) == 3
    assert d.session is e.session
    assert d.session.thumbprint == identities.certificates["x"].thumbprint
    assert c.session.thumbprint is None
    assert [exchange.secret for exchange in (c, d, e)] == [None, None, ClientSecret("canary-4711")]
    assert [exchange.signer is None for exchange in (c, d, e)] == [False, True, True]
    assert "canary" not in repr((identities, e))


def test_a_client_secret_that_cannot_be_read_is_an_error_like_others(tmp_path: Path):
    """A check names it, a start fails with it."""
    settings = with_others(tmp_path)
    (tmp_path / "e.secret").chmod(0o644)
    errors: list[LocalError] = []

    identities = loaded(tmp_path, settings, wall_now=WALL, on_error=errors.append)

    assert [error.code for error in errors] == ["file_permissions"]
    assert identities.secrets == {}


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
