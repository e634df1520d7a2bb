"""
Values that must not be printed.

A secret shows a fingerprint (only where it has so much entropy that a fingerprint tells nothing) or
nothing at all. The raw value comes out through ``reveal()`` alone, so that every place that uses it is
found by one search.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import NoReturn, final


class Secret:
    """A string with no printable form; compares in constant time; cannot be pickled, copied or formatted."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    @final
    def reveal(self) -> str:
        """Give the raw value: to the wire, to a signature, to an authorized caller, and to nothing else."""
        return self._value

    @final
    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    @final
    def __hash__(self) -> int:
        return hash((type(self), self._value))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    @final
    def __str__(self) -> str:
        return repr(self)

    @final
    def __format__(self, spec: str) -> str:
        return repr(self)

    @final
    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not serialized")

    @final
    def __copy__(self) -> NoReturn:
        raise TypeError("a secret is not copied")

    @final
    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret is not copied")


class HighEntropySecret(Secret):
    """A secret made by a random generator, whose truncated digest may be shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        digest = hashlib.sha256(self._value.encode()).hexdigest()
        return f"{type(self).__name__}(sha256:{digest[:12]})"


@final
class AccessToken(HighEntropySecret):
    """An access token (RFC 6749 section 1.4), opaque to everybody but its resource server."""

    __slots__ = ()


@final
class RefreshToken(HighEntropySecret):
    """A refresh token (RFC 6749 section 1.5): it leaves the broker by no route but the token endpoint."""

    __slots__ = ()


@final
class AuthorizationCode(HighEntropySecret):
    """An authorization code (RFC 6749 section 1.3.1), good for one exchange."""

    __slots__ = ()


@final
class CodeVerifier(HighEntropySecret):
    """The secret half of PKCE (RFC 7636 section 4.1)."""

    __slots__ = ()


@final
class IdToken(HighEntropySecret):
    """An ID token as it came, unverified: it tells who the person is (OpenID Connect Core section 2)."""

    __slots__ = ()


@final
class RequestObject(HighEntropySecret):
    """A signed authorization request (RFC 9101): what was asked of whom is nobody else's business."""

    __slots__ = ()


@final
class ClientAssertion(HighEntropySecret):
    """A signed JWT that proves who the client is (RFC 7523 section 2.2)."""

    __slots__ = ()


@final
class DpopProof(HighEntropySecret):
    """A signed JWT that proves who holds the key of an access token, for one request (RFC 9449 section 4)."""

    __slots__ = ()


@final
class ClientSecret(Secret):
    """
    A password that we share with an authorization server (RFC 6749 section 2.3.1).

    It shows no digest: who made it, and from how much chance, nobody knows here.
    """

    __slots__ = ()


@final
class BasicCredentials(Secret):
    """The value of an ``Authorization`` header that holds a client secret (RFC 7617 section 2)."""

    __slots__ = ()


@final
class Passphrase(Secret):
    """Opens an encrypted private key."""

    __slots__ = ()
