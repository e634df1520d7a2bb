"""The parts of a daemon over files that can be replaced, for the tests of rotation."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from broker.config.settings import Settings
from broker.wiring import Parts, build, load_identities
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import CLIENT_AUTH, DAY, NOW, WALL, intermediate, issue, key_pem, p256, written
from tests.unit.wiring.configurations import settings_of

WITH_CERTIFICATE = CONFIG.replace('sender_constraint = "none"', 'certificate = "x"').replace(
    "[client.c]", '[certificate.x]\ncert_file = "x.pem"\nkey_file = "x.key"\n[client.c]'
)
"""One client with a signing key and a certificate."""


WITH_DPOP_KEY = CONFIG.replace('sender_constraint = "none"', 'sender_constraint = "dpop"\ndpop_key = "d"').replace(
    "[client.c]", '[key.d]\nfile = "d.pem"\nalg = "ES256"\n[client.c]'
)
"""One client with a signing key and a DPoP key."""


class Place:
    """A directory with files, the parts that use them, and what these say."""

    def __init__(
        self,
        directory: Path,
        text: str = WITH_CERTIFICATE,
        *,
        days: float = 1.0,
        key: EllipticCurvePrivateKey | None = None,
    ) -> None:
        self.directory = directory
        self.log = io.StringIO()
        self.certificate(days=days)
        self.key(key)
        self.proof_key()
        self.settings: Settings = settings_of(directory, text)
        self.parts: Parts = build(self.settings, load_identities(self.settings, wall_now=WALL), log_stream=self.log)

    def certificate(self, *, days: float = 1.0, half: bool = False) -> None:
        """Put another pair into the place of the one that is there, or a certificate alone."""
        pair = issue(by=intermediate(), usages=CLIENT_AUTH, signs=True, end=NOW + days * DAY)
        written(self.directory / "x.pem", pair.cert_pem())
        if not half:
            written(self.directory / "x.key", pair.key_pem())

    def key(self, key: EllipticCurvePrivateKey | None = None) -> None:
        """Put another signing key into the place of the one that is there."""
        written(self.directory / "k.pem", key_pem(key or p256()))

    def proof_key(self) -> None:
        """Put another DPoP key into the place of the one that is there."""
        written(self.directory / "d.pem", key_pem(p256()))

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Give the log lines of these events."""
        lines = (json.loads(line) for line in self.log.getvalue().splitlines())
        return [line for line in lines if line["event"] in names]
