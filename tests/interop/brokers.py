"""
Brokers for tests at a real server: the sections that their configurations have in common, and their life.

What a test is about (clients, tokens, who may have them) it says itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.daemon.harness import BrokerProcess
from tests.interop.credentials import Certificate, SigningKey
from tests.interop.rig import Rig

_COMMON = """
[daemon]
state_dir = "state"

[store]
key = {{ file = "store.key" }}

[audit]
file = "audit.log"
key = {{ file = "audit.key" }}

[ops]
listen = "127.0.0.1:0"

[listener.app]
path = "api.sock"
mode = "0600"

[issuer.real]
issuer = "{issuer}"
profile = "fapi2"
ca_file = "{ca_file}"
{of_issuer}
"""


def certificate_section(certificate: Certificate) -> str:
    """Give ``[certificate.app]``."""
    return f'\n[certificate.app]\ncert_file = "{certificate.cert_file}"\nkey_file = "{certificate.key_file}"\n'


def key_section(name: str, key: SigningKey) -> str:
    """Give ``[key.NAME]``, with the ``kid`` by which the server knows *key*."""
    return f'\n[key.{name}]\nfile = "{key.file}"\nalg = "{key.alg}"\nkid = "{key.kid}"\n'


def broker_at(rig: Rig, home: Path, sections: str, *, of_issuer: str = "") -> BrokerProcess:
    """
    Write the configuration of a broker at the server of *rig*, under *home*; it is not started.

    *sections* come behind the common ones, *of_issuer* is more about the server.
    """
    home.mkdir(mode=0o700, exist_ok=True)
    for name in ("audit.key", "store.key"):
        (home / name).touch(mode=0o600)
        (home / name).write_bytes(bytes(range(32)))
    config = home / "config.toml"
    config.write_text(_COMMON.format(issuer=rig.issuer, ca_file=rig.ca_file, of_issuer=of_issuer) + sections)
    return BrokerProcess(
        name="broker", directory=home, arguments=[], config=config, socket=home / "api.sock", audit=home / "audit.log"
    )


@contextmanager
def running(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """Have *broker* up, look for secrets in what it wrote when the tests are done, and end it in any case."""
    try:
        broker.up()
        yield broker
        broker.sweep()
    finally:
        broker.stop()
