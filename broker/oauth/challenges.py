"""
What a resource server asks for in ``WWW-Authenticate`` (RFC 9110 section 11.6.1).

One field may hold several challenges and there may be several fields, so they are read by their grammar: a comma
separates challenges as well as parameters, and may stand in a quoted string. Schemes and names of parameters are
compared in lower case. What does not follow the grammar is nothing: better no challenge than a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

MAX_LENGTH = 8_192
"""Characters of all fields together that are read: as much as common servers take for all headers."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of RFC 9110 section 5.6.2
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")')
_SCHEME = re.compile(rf"({_TOKEN})(?:[ ]+|(?=[ \t]*(?:,|$)))")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_BETWEEN = re.compile(r"[ \t,]*")
_SPACE = re.compile(r"[ \t]*")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge: *scheme* and the names of *parameters* in lower case; of a repeated one the first."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def error(self) -> str | None:
        """The parameter ``error`` (RFC 6750 section 3, RFC 9449 section 7.1)."""
        return self.parameters.get("error")


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Give the challenges in the fields *values*, in their order; none from where the grammar is left."""
    text = ", ".join(values)
    return tuple(_challenges(text)) if len(text) <= MAX_LENGTH else ()


def says_invalid_token(challenges: Iterable[Challenge]) -> bool:
    """Say whether the token itself was refused: what another one can help against."""
    return any(one.scheme in {"bearer", "dpop"} and one.error == "invalid_token" for one in challenges)


def _challenges(text: str) -> Iterator[Challenge]:
    at = _after(_BETWEEN, text, 0)
    while at < len(text):
        found = _SCHEME.match(text, at)
        if found is None:
            return
        parameters: dict[str, str] = {}
        credentials = _TOKEN68.match(text, found.end())
        at = found.end() if credentials is None else credentials.end()
        while (parameter := _PARAMETER.match(text, at)) is not None:
            name, plain, quoted = parameter.groups()
            parameters.setdefault(name.lower(), plain if quoted is None else _ESCAPED.sub(r"\1", quoted))
            end = _after(_SPACE, text, parameter.end())
            if end < len(text) and text[end] != ",":
                return
            at = _after(_BETWEEN, text, end)
        yield Challenge(scheme=found[1].lower(), parameters=parameters)
        at = _after(_BETWEEN, text, at)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()
