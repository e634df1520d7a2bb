from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from broker.wiring import build
from broker.wiring.public_keys import public_keys
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import WALL, key_pem, p256, written
from tests.unit.wiring.configurations import TWO_KEYS, loaded, settings_of, with_others

SELF_SIGNED = """
[client.f]
issuer = "nobody"
client_id = "f"
client_auth_method = "self_signed_tls_client_auth"
certificate = "x"
"""


def test_a_client_registers_what_its_method_is_proved_with(tmp_path: Path):
    """The key that signs, the certificate that is compared, and nothing where the server needs neither."""
    with_others(tmp_path)
    settings = settings_of(tmp_path, (tmp_path / "config.toml").read_text() + SELF_SIGNED)
    identities = loaded(tmp_path, settings, wall_now=WALL)

    found = public_keys(settings, identities)

    assert found["c"].keys == (identities.keys["k"].public_jwk(),)
    assert found["c"].tokens == {"t"}
    assert (found["d"].keys, found["e"].keys) == ((), ())
    assert found["f"].keys == (identities.certificates["x"].public_jwk(),)
    assert found["f"].tokens == frozenset()


async def test_another_configuration_has_other_keys(tmp_path: Path):
    """The listeners stay; what they show is what is in force."""
    settings = settings_of(tmp_path)
    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    other = settings_of(tmp_path, CONFIG + '\n[token.second]\nclient = "c"\n')

    before = parts.serving.public["c"].tokens
    parts.adopt(other, parts.prepare(other, parts.identities))
    parts.telemetry.close()

    assert before == {"t"}
    assert parts.serving.public["c"].tokens == {"t", "second"}


async def test_all_keys_of_a_client_are_published_and_those_that_overlap_with_them(tmp_path: Path):
    """The one that signs first; then what is published beside it, and the next one."""
    text = TWO_KEYS.replace('signing_keys = ["k"]', 'signing_keys = ["k", "second"]')
    written(tmp_path / "second.pem", key_pem(p256()))
    settings = settings_of(tmp_path, text)
    beside = {"kty": "EC", "kid": "beside"}
    identities = replace(loaded(tmp_path, settings), published={"k": (beside,)})

    found = public_keys(settings, identities)["c"].keys

    assert [key["kid"] for key in found] == [identities.keys["k"].kid, "beside", identities.keys["second"].kid]
