from __future__ import annotations

from pathlib import Path

import pytest

from broker.errors import LocalError
from broker.wiring import load_identities
from tests.fakes import WALL_AT_BOOT
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import WALL, client, key_pem, p256, written
from tests.unit.wiring.configurations import OTHERS, PROXIED, TWO_KEYS, loaded, settings_of, with_others


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


def test_a_client_secret_that_cannot_be_read_is_an_error_like_others(tmp_path: Path):
    """A check names it, a start fails with it."""
    settings = with_others(tmp_path)
    (tmp_path / "e.secret").chmod(0o644)
    errors: list[LocalError] = []

    identities = loaded(tmp_path, settings, wall_now=WALL, on_error=errors.append)

    assert [error.code for error in errors] == ["file_permissions"]
    assert identities.secrets == {}


def test_an_audit_key_that_is_too_short_is_found_with_the_other_files(tmp_path: Path):
    """A check and a reload say what the next start would fail with, and where."""
    text = TWO_KEYS.replace('file = "audit.log"', 'file = "audit.log"\nkey = { file = "audit.key" }')
    assert text != TWO_KEYS
    written(tmp_path / "audit.key", b"short")
    errors: list[LocalError] = []

    identities = load_identities(settings_of(tmp_path, text), wall_now=WALL_AT_BOOT, on_error=errors.append)

    assert "audit_key_short" in [error.code for error in errors]
    assert any("audit.key" in error.message for error in errors if error.code == "audit_key_short")
    assert identities.audit_key is None


@pytest.mark.parametrize(("content", "codes"), [(b"k" * 31, ["store_key_short"]), (b"k" * 32, [])])
def test_the_key_of_the_store_is_loaded_with_the_other_files(tmp_path: Path, content: bytes, codes: list[str]):
    """And a short one is found with them."""
    section = '[daemon]\nstate_dir = "state"\n'
    text = CONFIG.replace("[daemon]\n", section) + '[store]\nkey = { file = "store.key" }\n'
    written(tmp_path / "store.key", content)
    errors: list[LocalError] = []

    identities = loaded(tmp_path, settings_of(tmp_path, text), on_error=errors.append)

    assert [error.code for error in errors] == codes
    assert (identities.store_key is None) == bool(codes)
    assert "kkk" not in repr(identities)


def test_credentials_of_a_proxy_that_cannot_be_read_are_an_error_like_others(tmp_path: Path):
    """A check names the file, a start fails with it."""
    settings = settings_of(tmp_path, PROXIED)
    errors: list[LocalError] = []

    identities = loaded(tmp_path, settings, on_error=errors.append)

    assert [(error.code, "proxy.secret" in error.message) for error in errors] == [("file_missing", True)]
    assert identities.proxies == {}


DPOP = """
[client.p]
issuer = "nobody"
client_id = "p"
client_auth_method = "private_key_jwt"
signing_keys = ["k"]
sender_constraint = "dpop"
dpop_key = "second"
"""


def test_a_key_that_signs_proofs_is_no_signing_key(tmp_path: Path):
    """Each has one purpose (SEC-07): neither is found where the other is looked for."""
    written(tmp_path / "second.pem", key_pem(p256()))

    identities = loaded(tmp_path, settings_of(tmp_path, TWO_KEYS + DPOP))

    assert (list(identities.keys), list(identities.proof_keys)) == (["k"], ["second"])
    assert identities.proof_keys["second"].alg == "ES256"


@pytest.mark.parametrize("other", ["key.k", "key.third", "certificate.x"])
def test_a_dpop_key_that_has_another_purpose_by_another_name_is_an_error(tmp_path: Path, other: str):
    """A copy of the file is the same key (SEC-07): names say nothing of what is in them."""
    pair = client()
    text = TWO_KEYS + DPOP + OTHERS + DPOP.replace("client.p", "client.q").replace('"second"', '"third"')
    settings = settings_of(tmp_path, text + '\n[key.third]\nfile = "third.pem"\nalg = "ES256"\n')
    for name in ("k.pem", "second.pem", "third.pem"):
        written(tmp_path / name, key_pem(p256()))
    written(tmp_path / "x.pem", pair.cert_pem())
    written(tmp_path / "x.key", pair.key_pem())
    written(tmp_path / "e.secret", b"canary-4711\n")
    shared = {"key.k": "k.pem", "key.third": "third.pem", "certificate.x": "x.key"}[other]
    written(tmp_path / "second.pem", (tmp_path / shared).read_bytes())
    errors: list[LocalError] = []

    load_identities(settings, wall_now=WALL, on_error=errors.append)

    assert [error.code for error in errors] == ["key_shared"]
    assert all(f"[{section}]" in errors[0].message for section in ("key.second", other))
    with pytest.raises(LocalError, match="the same key"):
        load_identities(settings, wall_now=WALL)
