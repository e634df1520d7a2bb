from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from broker.keys.sealing import SealingKey
from broker.oauth.secret import RefreshToken
from broker.tokens.grant import Grant
from broker.tokens.serving import TokenState
from broker.tokens.spec import Grants
from broker.tokens.storing import Put
from broker.wiring import Parts, build
from tests.unit.daemon.test_process import CONFIG
from tests.unit.wiring.configurations import loaded, settings_of

pytestmark = pytest.mark.real_time  # the store has a thread

PEOPLE = (
    CONFIG.replace("[daemon]", '[daemon]\nstate_dir = "."')
    + """
[store]
key = { file = "store.key" }
[client.p]
issuer = "nobody"
client_id = "p"
client_auth_method = "none"
sender_constraint = "none"
redirect_uris = ["http://127.0.0.1/cb"]
[token.person]
client = "p"
grant_type = "authorization_code"
"""
)

GRANT = Grant(
    id="g",
    token="person",
    owner="w",
    issuer="https://localhost:1",
    client_id="p",
    created_at=1.0,
    refresh_token=RefreshToken("rt-1"),
)


def built(tmp_path: Path) -> Parts:
    (tmp_path / "store.key").write_bytes(bytes(range(32)))
    (tmp_path / "store.key").chmod(0o600)
    settings = settings_of(tmp_path, PEOPLE)
    identities = loaded(tmp_path, settings)
    assert isinstance(identities.store_key, SealingKey)
    return build(settings, identities, log_stream=io.StringIO())


async def closed(parts: Parts) -> None:
    parts.telemetry.close()
    await parts.means.close()
    await parts.store.close()


async def test_tokens_of_clients_and_of_people_are_in_one_list(tmp_path: Path):
    """In the order of the configuration; nobody has consented to the one."""
    parts = built(tmp_path)
    tokens = parts.life.tokens

    states = {name: tokens.status(name).state for name in tokens.names()}
    await closed(parts)

    assert states == {"t": TokenState.PENDING, "person": TokenState.CONSENT_REQUIRED}
    assert list(parts.life.registry.names()) == ["t"]


async def test_a_token_that_is_missing_is_told_but_for_those_of_many_people(tmp_path: Path):
    """The one is not fetched yet, nobody has consented to the other; of many each grant has a state of its own."""
    parts = built(tmp_path)
    single = dict(parts.life.available())

    parts.life.tokens.replace(
        [
            replace(spec, consent=spec.consent and replace(spec.consent, grants=Grants.MANY))
            for spec in parts.settings.tokens
        ]
    )
    many = dict(parts.life.available())
    await closed(parts)

    assert single == {"t": False, "person": False}
    assert many == {"t": False}


async def test_what_the_store_has_is_taken_up_and_put_away_with_its_token(tmp_path: Path):
    """A configuration without the token keeps the grant for one that has it again."""
    parts = built(tmp_path)
    await parts.store.write([Put(name="grant/g", value=GRANT.to_bytes())])
    without = settings_of(tmp_path, PEOPLE.replace("token.person", "token.other"))
    again = settings_of(tmp_path, PEOPLE)

    parts.life.restore()
    seen = [parts.life.grants.one("person")]
    for settings in (without, again):
        parts.adopt(settings, parts.prepare(settings, parts.identities))
        seen.append(parts.life.grants.one("person"))
    names = set(parts.life.tokens.names())
    await closed(parts)

    assert seen == ["g", None, "g"]
    assert names == {"t", "person"}


async def test_what_waits_for_the_disk_is_written_at_the_end(tmp_path: Path):
    """Whatever ended last."""
    parts = built(tmp_path)
    parts.life.vault.keep_soon(GRANT)
    before = set(parts.store.records())

    await parts.life.close()
    after = set(parts.store.records())
    await closed(parts)

    assert (before, after) == (set(), {"grant/g"})


async def test_all_that_has_to_run_is_named(tmp_path: Path):
    """Each is a root task of the daemon, and its name is in what is said when it fails."""
    parts = built(tmp_path)
    await closed(parts)

    assert set(parts.life.runs()) == {"tokens", "grants", "consents", "dpop keys"}
