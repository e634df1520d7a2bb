"""
``WWW-Authenticate``: what a resource server wants to see (RFC 9110 section 11.6.1).

One header may hold several challenges, and several headers may be there; schemes and names of parameters are
compared without case. What does not have the form is taken for no challenge, and ends the reading of its header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

MAX_CHALLENGES = 16
"""In all: servers send one to three."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?=[ \t,]|$)")
_PARAMETER = re.compile(rf'[ \t,]*({_WORD})[ \t]*=[ \t]*(?:({_WORD})|"((?:[^"\\]|\\.)*)")[ \t]*(?=,|$)')
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$)")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A *scheme* in lower case with its *parameters*, whose names are in lower case, too."""

    scheme: str
    parameters: Mapping[str, str]

    @property
    def error(self) -> str | None:
        """The ``error`` of RFC 6750 section 3 and RFC 9449 section 7.1."""
        return self.parameters.get("error")


def read_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Read the *values* of all ``WWW-Authenticate`` fields of a reply."""
    found: list[Challenge] = []
    for value in values:
        for challenge in _challenges(value):
            if len(found) < MAX_CHALLENGES:
                found.append(challenge)
    return tuple(found)


def says_invalid_token(challenges: Iterable[Challenge]) -> bool:
    """Say whether the token itself was refused: what another one can help against."""
    return any(one.scheme in {"bearer", "dpop"} and one.error == "invalid_token" for one in challenges)


def wants_dpop_nonce(challenges: Iterable[Challenge]) -> bool:
    """Say whether the proof lacked a nonce, or had an old one (RFC 9449 section 9)."""
    return any(one.scheme == "dpop" and one.error == "use_dpop_nonce" for one in challenges)


def _challenges(value: str) -> Iterator[Challenge]:
    at = 0
    while scheme := _SCHEME.match(value, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        if _PARAMETER.match(value, at) is None and (alone := _TOKEN68.match(value, at)):
            at = alone.end()
        while parameter := _PARAMETER.match(value, at):
            at = parameter.end()
            quoted = parameter[3]
            parameters[parameter[1].lower()] = parameter[2] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        yield Challenge(scheme=scheme[1].lower(), parameters=parameters)
