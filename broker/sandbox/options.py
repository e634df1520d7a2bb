"""
How the sandbox treats people's grants: what a real server's operator would configure, changed while it runs.

Everything has the value that a strict server of FAPI 2.0 would have. A test sets what it needs, through
``Sandbox.set_options`` or the control listener; the next request meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

MAX_SECONDS = 31_536_000
"""A year: longer than any consent that a test needs."""


MAX_NONCES = 1_000
"""Earlier nonces that are kept: more than requests are under way at a time."""


class Rotation(StrEnum):
    """What happens to a refresh token that is used."""

    NEVER = "never"
    """It goes on being the grant's."""
    GRACE = "grace"
    """It is replaced, and accepted for ``grace_seconds`` more; after that it is only refused."""
    STRICT = "strict"
    """It is replaced, and using it again ends the grant (RFC 9700 section 4.14.2)."""


class NonceMode(StrEnum):
    """Which nonces a server wants in proofs of possession (RFC 9449 section 8)."""

    OFF = "off"
    """None; one that it did not give is refused."""
    STEADY = "steady"
    """The same until it has had its time."""
    ROTATING = "rotating"
    """Another with every answer."""


class OptionRefusedError(ValueError):
    """An option does not exist or has no such value; the message says which."""


@dataclass(slots=True, kw_only=True)
class Options:
    """
    The options, all in force from the next request on.

    *rotation* and *grace_seconds* are about refresh tokens, *refresh_lifetime_seconds* ends grants (None: never)
    and is told as ``refresh_expires_in``. *require_par* and *require_request_object* refuse other requests;
    *front_channel_extras* lets the browser carry more than a pushed request needs. *iss_parameter* is RFC 9207,
    and *id_token_alg* signs ID tokens and authorization responses. *dpop_nonces* and *resource_dpop_nonces* are the
    nonces of the authorization server and of the resource server, good for *dpop_nonce_lifetime_seconds*;
    *dpop_nonces_kept* says how many earlier ones are good, too, *proof_lifetime_seconds* how old a proof may be.
    """

    rotation: Rotation = Rotation.STRICT
    grace_seconds: int = 30
    refresh_lifetime_seconds: int | None = None
    code_lifetime_seconds: int = 60
    request_lifetime_seconds: int = 60
    require_par: bool = False
    require_request_object: bool = False
    front_channel_extras: bool = False
    iss_parameter: bool = True
    id_token_alg: str = "PS256"  # noqa: S105 (an algorithm)
    dpop_nonces: NonceMode = NonceMode.OFF
    resource_dpop_nonces: NonceMode = NonceMode.OFF
    dpop_nonce_lifetime_seconds: int = 300
    dpop_nonces_kept: int = 0
    proof_lifetime_seconds: int = 60

    def as_json(self) -> dict[str, Any]:
        """Give all options by name."""
        return asdict(self)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set the named options, all or none. Raises OptionRefusedError."""
        unknown = set(changes) - NAMES
        if unknown:
            raise OptionRefusedError(f"unknown setting: there are lifetime_seconds, down, {', '.join(sorted(NAMES))}")
        for name, value in changes.items():
            form, accepts = _FORMS[name]
            if not accepts(value):
                raise OptionRefusedError(f"{name}: must be {form}")
        for name, value in changes.items():
            setattr(self, name, _MEANT.get(name, lambda given: given)(value))


NAMES = frozenset(field.name for field in fields(Options))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS


_SECONDS = (f"an integer from 0 to {MAX_SECONDS}", _is_seconds)
_NONCES = ("off, steady or rotating", lambda value: isinstance(value, str) and value in set(NonceMode))
_YES_OR_NO = ("true or false", _is_bool)
_FORMS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "rotation": ("never, grace or strict", lambda value: isinstance(value, str) and value in set(Rotation)),
    "grace_seconds": _SECONDS,
    "refresh_lifetime_seconds": (f"null, or {_SECONDS[0]}", lambda value: value is None or _is_seconds(value)),
    "code_lifetime_seconds": _SECONDS,
    "request_lifetime_seconds": _SECONDS,
    "require_par": _YES_OR_NO,
    "require_request_object": _YES_OR_NO,
    "front_channel_extras": _YES_OR_NO,
    "iss_parameter": _YES_OR_NO,
    "id_token_alg": ("PS256 or ES256", lambda value: value in ("PS256", "ES256")),
    "dpop_nonces": _NONCES,
    "resource_dpop_nonces": _NONCES,
    "dpop_nonce_lifetime_seconds": _SECONDS,
    "dpop_nonces_kept": (
        f"an integer from 0 to {MAX_NONCES}",
        lambda value: _is_seconds(value) and value <= MAX_NONCES,
    ),
    "proof_lifetime_seconds": _SECONDS,
}

_MEANT: Mapping[str, Callable[[Any], Any]] = {
    "rotation": Rotation,
    "dpop_nonces": NonceMode,
    "resource_dpop_nonces": NonceMode,
}
"""What those are that are given as text and kept as more."""
