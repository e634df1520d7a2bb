"""Configurations and their files, for the tests of this package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.errors import LocalError
from broker.wiring import Identities, load_identities
from tests.fakes import WALL_AT_BOOT
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import client, key_pem, p256, written

PROXIED = CONFIG.replace(
    "[key.k]", 'proxy = "http://proxy.test:3128"\nproxy_credentials = { file = "proxy.secret" }\n[key.k]'
)
"""The one issuer is behind a proxy that wants credentials."""


def settings_of(tmp_path: Path, text: str = CONFIG) -> Settings:
    (tmp_path / "config.toml").write_text(text)
    return load_settings(tmp_path / "config.toml", credentials_directory=None)


TWO_KEYS = CONFIG + '\n[key.second]\nfile = "second.pem"\nalg = "ES256"\n'


def loaded(
    tmp_path: Path,
    settings: Settings,
    *,
    wall_now: float = WALL_AT_BOOT,
    on_error: Callable[[LocalError], None] | None = None,
) -> Identities:
    written(tmp_path / "k.pem", key_pem(p256()))
    return load_identities(settings, wall_now=wall_now, on_error=on_error)


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
