"""
Authorization responses: how a code or an error gets back to the client, and how a fault spoils that.

RFC 6749 section 4.1.2, RFC 9207 (``iss``), OAuth 2.0 Form Post Response Mode, and JARM. Sans I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from broker.sandbox.authorization_request import Back
from broker.sandbox.faults import Fault
from broker.sandbox.id_tokens import sign_badly
from broker.sandbox.keyring import Keyring
from broker.sandbox.options import Options

RESPONSE_LIFETIME = 120
"""Seconds that a signed response is good for; JARM section 2.1 recommends at most ten minutes."""

AN_HOUR = 3_600

WRONG_STATE = "a-state-that-nobody-sent"

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned:
    """What the browser takes to *redirect_uri*: in the query, or in a form where *posted*."""

    redirect_uri: str
    pairs: tuple[tuple[str, str], ...] = field(repr=False)
    posted: bool

    @property
    def location(self) -> str:
        """Give the URL to redirect to."""
        separator = "&" if "?" in self.redirect_uri else "?"
        return f"{self.redirect_uri}{separator}{urlencode(self.pairs)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """Makes the responses of *issuer*."""

    issuer: str
    options: Options
    keyring: Keyring

    def respond(self, back: Back, outcome: dict[str, str], fault: Fault | None, *, now: float) -> Returned:
        """Send *outcome* (``code``, or ``error`` and its description) *back*; *now* in Unix seconds."""
        members = dict(outcome)
        if back.state is not None:
            members["state"] = back.state
        signed = back.response_mode.endswith("jwt")
        if self.options.iss_parameter and not signed:
            members["iss"] = self.issuer
        if signed:
            claims = {"iss": self.issuer, "aud": back.client_id, "exp": int(now) + RESPONSE_LIFETIME, **members}
            pairs = self._signed(claims, fault)
        else:
            pairs = _twisted(members, fault)
        if fault is not None and fault.kind == "repeated_parameter":
            name = fault.parameters["name"]
            pairs += [(name, value) for key, value in pairs if key == name or signed][:1]
        return Returned(
            redirect_uri=back.redirect_uri, pairs=tuple(pairs), posted=back.response_mode.startswith("form_post")
        )

    def _signed(self, claims: dict[str, Any], fault: Fault | None) -> Pairs:
        twisted: dict[str, Any] = dict(_twisted(claims, fault))
        how = ""
        match fault.kind if fault is not None else "":
            case "jarm_wrong_aud":
                twisted["aud"] = "another-client"
            case "jarm_no_aud":
                del twisted["aud"]
            case "jarm_expired":
                twisted["exp"] -= AN_HOUR
            case "jarm_no_exp":
                del twisted["exp"]
            case kind:
                how = kind.removeprefix("jarm_")
        return [("response", sign_badly(self.keyring, self.options.id_token_alg, "JWT", twisted, how))]


def _twisted(members: dict[str, Any], fault: Fault | None) -> list[tuple[str, Any]]:
    """Give *members* as *fault* wants them."""
    if fault is None:
        return list(members.items())
    changed = dict(members)
    match fault.kind:
        case "wrong_iss":
            other = fault.parameters["value"]
            changed["iss"] = f"{members.get('iss', '')}INVALID" if other is None else other
        case "wrong_state":
            changed["state"] = WRONG_STATE
        case "no_iss" | "no_state":
            changed.pop(fault.kind.removeprefix("no_"), None)
        case "alter":
            changed.update(fault.parameters["set"])
            changed = {name: value for name, value in changed.items() if name not in fault.parameters["remove"]}
    return list(changed.items())
