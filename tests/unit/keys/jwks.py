"""Private JWKs for tests."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, OKPKey, RSAKey

Members = dict[str, Any]


def jwk(key: Any, **more: Any) -> Members:
    """Give the members of the private *key*, and *more*."""
    imported: RSAKey | ECKey | OKPKey
    match key:
        case rsa.RSAPrivateKey():
            imported = RSAKey.import_key(key)
        case ec.EllipticCurvePrivateKey():
            imported = ECKey.import_key(key)
        case _:
            imported = OKPKey.import_key(key)
    return {**imported.as_dict(private=True), **more}


def without(members: Members, *names: str) -> Members:
    return {name: value for name, value in members.items() if name not in names}
