from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from broker.config.load import load_settings
from broker.config.settings import Settings
from broker.daemon.adoption import Adoption
from broker.daemon.reload import Reloader
from broker.errors import LocalError
from broker.hostenv.notify import Notifier
from broker.keys.sealing import load_sealing_key
from broker.telemetry.audit_verify import verify
from broker.wiring import Parts, build, load_identities
from tests.unit.daemon.test_process import CONFIG, events, identities
from tests.unit.keys.certificates import WALL, key_pem, p256, written

pytestmark = pytest.mark.real_time


def settings_of(tmp_path: Path, text: str = CONFIG) -> Settings:
    (tmp_path / "config.toml").write_text(text)
    return load_settings(tmp_path / "config.toml", credentials_directory=None)


async def reloaded(parts: Parts, load: Callable[[Path], Settings], log: io.StringIO, wanted: str) -> None:
    """Reload until an event *wanted* is in the *log*."""
    asked = asyncio.Event()
    adoption = Adoption(parts)
    reloader = Reloader(adoption, load, Notifier(None, parts.emit))
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(reloader.run(asked))
        asked.set()
        while wanted not in events(log):
            await asyncio.sleep(0.01)
        task.cancel()
    await adoption.close()
    parts.telemetry.close()


async def test_a_bug_in_a_reload_does_not_stop_the_daemon(tmp_path: Path):
    """It is reported without its message, and what was in force is."""
    log = io.StringIO()
    parts = build(settings_of(tmp_path), identities(tmp_path), log_stream=log)
    settings, means = parts.settings, parts.means

    def broken(_: Path) -> Settings:
        raise ZeroDivisionError("canary")

    await reloaded(parts, broken, log, "unexpected_failure")

    assert "canary" not in log.getvalue()
    assert (parts.settings, parts.means) == (settings, means)


async def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path):
    """Whoever moves the file away and reloads is told so."""
    log = io.StringIO()
    parts = build(settings_of(tmp_path), identities(tmp_path), log_stream=log)

    def gone(path: Path) -> Settings:
        raise LocalError("configuration_unreadable", f"{path} cannot be read", hint="is it there?")

    await reloaded(parts, gone, log, "configuration_refused")

    assert '"reason":"configuration_unreadable"' in log.getvalue()
    assert '"found":1' in log.getvalue()
    assert parts.serving.refused


async def test_a_refused_reload_is_forgotten_with_the_next_good_one(tmp_path: Path):
    """What is in force is then what the file says."""
    log = io.StringIO()
    parts = build(settings_of(tmp_path), identities(tmp_path), log_stream=log)
    parts.serving.refused = True

    await reloaded(parts, lambda _: settings_of(tmp_path), log, "configuration_loaded")

    assert not parts.serving.refused


async def test_tokens_of_people_wait_for_a_start_with_a_store(tmp_path: Path):
    """In memory alone their refresh tokens would be lost; the store is opened under the lock, at a start."""
    log = io.StringIO()
    parts = build(settings_of(tmp_path), identities(tmp_path), log_stream=log)
    asking = CONFIG.replace("[daemon]", '[daemon]\nstate_dir = "state"\n[store]\nkey = { file = "k" }\n[daemon2]')
    asking = asking.replace("[daemon2]\ndrain_seconds = 60", "")
    asking = asking.replace("[token.t]", 'redirect_uris = ["http://127.0.0.1/cb"]\n[token.t]\n')
    asking = asking.replace('client = "c"\n[listener', 'client = "c"\ngrant_type = "authorization_code"\n[listener')

    await reloaded(parts, lambda _: settings_of(tmp_path, asking), log, "configuration_refused")

    assert '"reason":"restart_required"' in log.getvalue()
    assert [spec.grant_type for spec in parts.settings.tokens] == ["client_credentials"]


async def test_a_signing_key_that_came_with_a_reload_and_waits_is_told(tmp_path: Path):
    """Whoever registers keys by hand sees which one to register, and by when."""
    log = io.StringIO()
    text = CONFIG.replace('alg = "ES256"', 'alg = "ES256"\nswitch_delay_seconds = 60')
    written(tmp_path / "k.pem", key_pem(p256()))
    settings = settings_of(tmp_path, text)
    parts = build(settings, load_identities(settings, wall_now=WALL), log_stream=log)
    written(tmp_path / "k.pem", key_pem(p256()))

    await reloaded(parts, lambda _: settings, log, "signing_key_published")

    (told,) = (
        line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "signing_key_published"
    )
    assert told["kid"] == parts.serving.public["c"].keys[1]["kid"] != parts.identities.keys["k"].kid
    assert 0 < told["signs_in"] <= 60


async def test_a_moved_listener_recognizes_nobody_until_a_restart(tmp_path: Path):
    """Who may open the socket in the file need not be who can open the one that is open."""
    log = io.StringIO()
    settings = settings_of(tmp_path)
    parts = build(settings, identities(tmp_path), log_stream=log)

    await reloaded(
        parts,
        lambda _: settings_of(tmp_path, CONFIG.replace("api.sock", "moved.sock")),
        log,
        "configuration_loaded",
    )

    assert parts.settings.listeners == settings.listeners
    assert parts.settings.workloads == ()
    assert '"restart":"listener"' in log.getvalue()
    assert '"generation":2' in log.getvalue()


async def test_another_secret_file_is_another_listener(tmp_path: Path):
    """Who may read the file of before need not be who may read the one that is configured now."""
    log = io.StringIO()
    socket = re.search(r'path = "api.sock"(\nmode = .*)?', CONFIG)
    assert socket is not None
    text = CONFIG.replace(socket[0], 'address = "127.0.0.1:8181"\nsecret_file = "secret"')
    parts = build(settings_of(tmp_path, text), identities(tmp_path), log_stream=log)

    await reloaded(
        parts, lambda _: settings_of(tmp_path, text.replace('"secret"', '"other"')), log, "configuration_loaded"
    )

    assert parts.settings.workloads == ()
    assert '"restart":"listener"' in log.getvalue()


async def test_another_audit_key_in_the_same_file_waits_for_a_restart(tmp_path: Path):
    """The log goes on with the key that it was opened with, and whoever replaced the file is told so."""
    log, text = io.StringIO(), CONFIG.replace('file = "audit.log"', 'file = "audit.log"\nkey = { file = "audit.key" }')
    key_file = tmp_path / "audit.key"
    key_file.write_bytes(b"a" * 32)
    key_file.chmod(0o600)
    settings = settings_of(tmp_path, text)
    parts = build(settings, replace(identities(tmp_path), audit_key=b"a" * 32), log_stream=log)
    key_file.write_bytes(b"b" * 32)

    await reloaded(parts, lambda _: settings, log, "configuration_loaded")

    assert '"restart":"audit"' in log.getvalue()
    assert parts.serving.restart == ("audit",)
    assert verify([("log", [settings.audit.file.read_bytes()])], key=b"a" * 32).intact  # type: ignore[union-attr]


async def test_another_store_key_in_the_same_file_waits_for_a_restart(tmp_path: Path):
    """The next start would be refused: whoever replaced the file is told while the old key may still be found."""
    log, text = io.StringIO(), CONFIG.replace("[daemon]", '[store]\nkey = { file = "s" }\n[daemon]\nstate_dir = "."')
    key_file = tmp_path / "s"
    key_file.write_bytes(b"a" * 32)
    key_file.chmod(0o600)
    settings = settings_of(tmp_path, text)
    parts = build(settings, replace(identities(tmp_path), store_key=load_sealing_key(key_file)), log_stream=log)
    key_file.write_bytes(b"b" * 32)

    await reloaded(parts, lambda _: settings, log, "configuration_loaded")
    await parts.store.close()

    assert '"restart":"store"' in log.getvalue()
    assert parts.serving.restart == ("store",)


async def test_what_looks_wrong_is_said_again_at_a_reload(tmp_path: Path):
    """Who changed the file sees what it brought, not only who started the daemon."""
    log = io.StringIO()
    parts = build(settings_of(tmp_path), identities(tmp_path), log_stream=log)

    await reloaded(
        parts,
        lambda _: settings_of(tmp_path, CONFIG.replace('tokens = ["t"]', "tokens = []")),
        log,
        "configuration_doubted",
    )

    (doubted,) = [line for line in log.getvalue().splitlines() if "configuration_doubted" in line]
    assert "workload.w.tokens" in doubted
    assert "token.t" in doubted
    assert '"level":"warning"' in doubted
