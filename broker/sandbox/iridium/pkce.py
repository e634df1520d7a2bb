"""Codes of Iridium's own, and the two ways in which a verifier becomes a challenge (IRI-05)."""

from __future__ import annotations

import hashlib
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A code, for whom it is and what it is bound to; an empty *code_challenge* asks for no particular verifier."""

    value: str = field(repr=False)
    subject: str
    client_id: str
    redirect_uri: str
    code_challenge: str = field(repr=False)
    expires_at: float


def new_code(subject: str, *, client_id: str, redirect_uri: str, code_challenge: str, expires_at: float) -> Code:
    """Make a code with a value that nobody can guess."""
    return Code(
        value=secrets.token_urlsafe(32),
        subject=subject,
        client_id=client_id,
        redirect_uri=redirect_uri,
        code_challenge=code_challenge,
        expires_at=expires_at,
    )


def standard_challenge(verifier: str) -> str:
    """Give the challenge of RFC 7636 section 4.2."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")


def hexadecimal_challenge(verifier: str) -> str:
    """Give the challenge that Iridium and its own clients compute: of the digits, not of the bytes."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).hexdigest().encode()).decode().replace("==", "")
