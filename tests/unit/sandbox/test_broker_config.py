"""Tests of ``broker/sandbox/broker_config.py``: the broker can use what is written for it."""

from __future__ import annotations

from pathlib import Path

from broker.config.load import load_settings
from broker.sandbox.broker_config import PERSON_TOKEN, SOCKET, TOKEN, broker_config
from broker.sandbox.demo_clients import REDIRECT_URIS
from broker.sandbox.jose import SigningAlg
from broker.sandbox.layout import STORE_KEY, load
from tests.unit.sandbox.test_metadata import ADDRESSES


def test_the_broker_loads_the_file(prepared: Path, tmp_path: Path):
    """Every key and every name is one that the broker knows; the sandbox is admitted as such."""
    key = load(prepared).signing_keys[SigningAlg.PS256]
    text = broker_config(ADDRESSES, key, client_id="sandbox-demo", scope="hello:read", uid=1234, ops_port=0)
    (tmp_path / "config.toml").write_text(text)

    settings = load_settings(tmp_path / "config.toml", credentials_directory=None)

    issuer = settings.issuers["sandbox"]
    assert (issuer.issuer.issuer, issuer.issuer.sandbox) == (ADDRESSES.issuer, True)
    assert issuer.ca_file == tmp_path / "ca.pem"
    assert [(token.name, token.scope, token.required) for token in settings.tokens] == [(TOKEN, ("hello:read",), True)]
    assert settings.keys["demo"].kid == key.kid
    assert [listener.place for listener in settings.listeners] == [(tmp_path / SOCKET,)]
    assert settings.workloads[0].uids == frozenset({1234})


def test_the_broker_loads_the_file_with_consents(prepared: Path, tmp_path: Path):
    """It has a store, and a token that a person consents to on any port of this machine."""
    key = load(prepared).signing_keys[SigningAlg.PS256]
    text = broker_config(
        ADDRESSES,
        key,
        client_id="sandbox-demo",
        scope="hello:read",
        uid=1234,
        ops_port=0,
        redirect_uris=REDIRECT_URIS,
        consents=True,
    )
    (tmp_path / "consents.toml").write_text(text)

    settings = load_settings(tmp_path / "consents.toml", credentials_directory=None)

    assert settings.store is not None
    assert [token.name for token in settings.tokens] == [TOKEN, PERSON_TOKEN]
    assert settings.tokens[1].scope == ("openid", "hello:read")
    assert settings.clients["demo"].client.redirect_uris == REDIRECT_URIS
    assert (prepared / STORE_KEY).stat().st_size == 32


def test_the_files_that_it_names_are_those_that_are_written(prepared: Path):
    """Certificate, keys and authority lie beside the configuration."""
    key = load(prepared).signing_keys[SigningAlg.PS256]
    text = broker_config(ADDRESSES, key, client_id="a", scope="b", uid=0, ops_port=0)
    (prepared / "config.toml").write_text(text)

    settings = load_settings(prepared / "config.toml", credentials_directory=None)

    certificate = settings.certificates["demo"]
    assert settings.audit is not None
    for path in (certificate.cert_file, certificate.key_file, settings.keys["demo"].file, settings.audit.key_file):
        assert path is not None
        assert path.is_file()
