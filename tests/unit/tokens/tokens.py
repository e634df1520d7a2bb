"""Makes values of the lifecycle for tests."""

from __future__ import annotations

from broker.oauth.secret import AccessToken
from broker.tokens.spec import IssuedToken, TokenSpec
from tests.fakes import WALL_AT_BOOT


def issued(*, at: float = 1_000.0, lifetime: float = 300.0, generation: int = 1, name: str = "t") -> IssuedToken:
    """A token that was obtained at *at* and lives for *lifetime* seconds."""
    return IssuedToken(
        access_token=AccessToken(f"{name}-{generation}"),
        token_type="Bearer",
        scope=("read",),
        issuer="https://as.example",
        obtained_at=at,
        expires_at=at + lifetime,
        expires_at_wall=WALL_AT_BOOT + at + lifetime,
        generation=generation,
        etag=f"etag-{generation}",
        fingerprint="f" * 16,
        binding="certificate",
        certificate_thumbprint="thumb",
        jti=f"jti-{generation}",
    )


def spec(name: str = "directory", client: str = "app", **changes: object) -> TokenSpec:
    """A spec as the configuration would give it."""
    return TokenSpec(name=name, client=client, scope=("read",), **changes)  # type: ignore[arg-type]
