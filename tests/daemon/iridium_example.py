"""
``docs/examples/iridium.toml`` at a fake Iridium: as it stands, but for names and places that are not this machine's.

Every replacement has to be found, so that an example that changes is not run half.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from broker.sandbox.iridium.running import Iridium

ROOT = Path(__file__).parents[2]

EXAMPLE = ROOT / "docs" / "examples" / "iridium.toml"


def example(iridium: Iridium, *, origin: str, home: Path) -> str:
    """Give the example for an application at *origin*; files are in *home*."""
    addresses = iridium.addresses
    hosts = json.dumps([urlsplit(url).netloc for url in (addresses.github, addresses.google)])
    return replaced(
        EXAMPLE.read_text(),
        {
            'issuer = "https://iridium.example.com"': f'ca_file = "ca.pem"\nissuer = "{addresses.issuer}"',
            # The fake providers are not where the real ones are.
            'dialect = "iridium"\n\n': f'dialect = {{ base = "iridium", provider_hosts = {hosts} }}\n\n',
            'client_id = "website"': 'client_id = "sandbox-single-page"',
            "https://app.example.com/callback": f"{origin}/callback",
            'base_url = "https://api.example.com"': f'ca_file = "ca.pem"\nbase_url = "{addresses.api}"',
            '"/run/token-broker/app/api.sock"': f'"{home}/api.sock"',
            'group = "app"': "",
            'uid = ["app"]': f"uid = [{os.getuid()}]",
            '"/var/lib/token-broker"': f'"{home}/state"',
            '"/etc/token-broker/': f'"{home}/',
            '"/var/log/token-broker/audit.jsonl"': f'"{home}/audit.log"',
            "[audit]\n": '[ops]\nlisten = "127.0.0.1:0"\n\n[audit]\n',
        },
    )


def replaced(text: str, pairs: Mapping[str, str]) -> str:
    """Replace each of *pairs* wherever it is, once at least."""
    for old, new in pairs.items():
        assert old in text, old
        text = text.replace(old, new)
    return text
