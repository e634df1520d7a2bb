"""Proof Key for Code Exchange (RFC 7636): S256 and nothing else, always."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode

from broker.oauth.dialect import PkceTransform
from broker.oauth.secret import CodeVerifier

VERIFIER_BYTES = 32
"""256 random bits make the 43 characters that RFC 7636 section 4.1 recommends."""

METHOD = "S256"
"""``plain`` shows the verifier to whoever sees the request (RFC 9700 section 2.1.1)."""


def code_challenge(verifier: CodeVerifier, transform: PkceTransform = PkceTransform.S256) -> str:
    """Give the ``code_challenge`` of *verifier* (RFC 7636 section 4.2), or what a dialect has in its place."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii"))
    hashed = digest.digest() if transform is PkceTransform.S256 else digest.hexdigest().encode("ascii")
    return urlsafe_b64encode(hashed).rstrip(b"=").decode("ascii")
