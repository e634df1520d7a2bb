"""
What ten thousand people's grants cost a broker while nothing happens to them: memory, processor time, the start.

    python -m bench.grants [--grants N] [--seconds S]

A real broker is started twice on the same configuration, with an empty store and with one that holds N grants,
each with a refresh token and an access token as large as a JWT that is good for hours. No server is there, and
none is asked: what is measured is keeping, not refreshing (``bench.tokens`` measures that for tokens).
"""

from __future__ import annotations

import argparse
import os
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.rig import Broker, machine
from broker.keys.sealing import SealingKey
from broker.oauth.secret import AccessToken, RefreshToken
from broker.storage.vault import Place, open_vault
from broker.tokens.grant import Grant, Rotation, SealedAccess
from broker.tokens.storing import Put

GRANTS = 10_000
SECONDS = 60.0
SETTLE = 5.0
"""Seconds after the start that belong to neither the start nor to keeping."""

BATCH = 500
"""Grants in one transaction while the store is filled."""

ACCESS_TOKEN = 900
"""Characters: an ``at+jwt`` with a binding and an ES256 signature."""

ISSUER = "https://as.example"
CONFIG = f"""
[daemon]
state_dir = "state"
[store]
key = {{ file = "store.key" }}
[audit]
enabled = false
[ops]
listen = "127.0.0.1:0"
[issuer.as]
issuer = "{ISSUER}"
profile = "oauth2"
[client.app]
issuer = "as"
client_id = "app"
client_auth_method = "none"
sender_constraint = "none"
redirect_uris = ["https://app.example/callback"]
[token.people]
client = "app"
grant_type = "authorization_code"
scope = ["accounts"]
grants = "many"
[listener.app]
path = "api.sock"
mode = "0600"
[workload.app]
listener = ["app"]
tokens = ["people"]
may = ["get", "authorize", "list"]
"""


PEOPLE = {"people": ISSUER}
"""The token of the configuration, and its issuer."""

HOURS = 86_400.0
"""Seconds that the access tokens are good for."""


def grant(now: float, *, token: str, issuer: str, left: float) -> Grant:
    """Make one of a person who consented an hour ago, with an access token that ends in *left* seconds."""
    access = SealedAccess(
        access_token=AccessToken(secrets.token_urlsafe(ACCESS_TOKEN)[:ACCESS_TOKEN]),
        token_type="Bearer",  # noqa: S106 - no secret
        scope=("accounts",),
        obtained_at=now - 60.0,
        expires_at=now + left,
        binding="none",
    )
    return Grant(
        id=f"g{secrets.token_urlsafe(32)}",
        token=token,
        owner="app",
        issuer=issuer,
        client_id="app",
        created_at=now - 3_600.0,
        scope=("accounts",),
        subject=secrets.token_urlsafe(12),
        subject_verified=True,
        refresh_token=RefreshToken(secrets.token_urlsafe(48)),
        rotation=Rotation.ROTATES,
        access=access,
    )


def fill(home: Path, grants: int, *, issuers: Mapping[str, str] = PEOPLE, left: float = HOURS) -> None:
    """Put *grants* into the store of the broker in *home*, of the tokens that *issuers* names in turns."""
    key = SealingKey((home / "store.key").read_bytes())
    vault = open_vault(Place(directory=home / "state", sealer=key, anchor=None, wall=time.time))
    for begin in range(0, grants, BATCH):
        numbers, now = range(begin, min(begin + BATCH, grants)), time.time()
        named = [tuple(issuers.items())[number % len(issuers)] for number in numbers]
        made = [grant(now, token=token, issuer=issuer, left=left) for token, issuer in named]
        vault.commit([Put(name=f"grant/{each.id}", value=each.to_bytes()) for each in made])
    vault.close()


def measure(home: Path, grants: int, seconds: float) -> tuple[float, float, float, float]:
    """Give the seconds until it serves, the most memory until then and while it keeps (MB), and the share of a core."""
    home.mkdir(mode=0o700)
    (home / "state").mkdir(mode=0o700)
    (home / "store.key").touch(mode=0o600)
    (home / "store.key").write_bytes(os.urandom(32))
    (home / "config.toml").write_text(CONFIG)
    fill(home, grants)
    broker = Broker(config=home / "config.toml")
    begun = time.monotonic()
    broker.start()
    try:
        broker.wait_until(lambda: broker.counts["daemon_started"] > 0, "it serves")
        served = time.monotonic() - begun
        time.sleep(SETTLE)
        at_start = broker.memory()
        used = broker.processor()
        time.sleep(seconds)
        share = 100 * (broker.processor() - used) / seconds
        return served, at_start, broker.memory(), share
    finally:
        broker.stop()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--grants", type=int, default=GRANTS, help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long it is watched (default: %(default)s)")
    wanted = parser.parse_args(arguments)
    print(", ".join(f"{name}: {value}" for name, value in machine().items()))
    print(f"{'grants':>8}  {'serves after':>12}  {'most memory':>12}  {'then':>10}  {'processor, idle':>16}")
    kept: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in (0, wanted.grants):
            served, most, then, share = measure(Path(folder) / f"with-{number}", number, wanted.seconds)
            kept[number] = then
            print(f"{number:>8,}  {served:>10.1f} s  {most:>9.1f} MB  {then:>7.1f} MB  {share:>14.2f} %")
    each = 1_000 * (kept[wanted.grants] - kept[0]) / wanted.grants
    print(f"memory for each grant: {each:.1f} kB")


if __name__ == "__main__":
    main()
