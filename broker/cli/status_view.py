"""
What ``status`` and its ``--watch`` show of a daemon: the table of tokens, the sentences below it, JSON.

What a daemon says is shown as text: nothing that could steer a terminal gets through.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from broker.cli.local_client import Status, TokenState
from broker.cli.tables import NOTHING, STATE_COLORS, duration, fitted, folded, plain, table

HEADINGS = ("TOKEN", "STATE", "REQUIRED", "EXPIRES IN", "NEXT TRY IN", "REASON")

DROPPED = ("REQUIRED", "NEXT TRY IN", "EXPIRES IN")
"""What a table does without where it would be too wide, in this order: the state and its reason are what matters."""

MAX_NAMED = 3
"""Tokens named before what is to be done about all of them: the table has the others."""


def as_json(status: Status) -> str:
    """Write *status* as one JSON object, in ASCII; what is not known is null."""
    return json.dumps(members_of(status), indent=2)


def members_of(status: Status) -> dict[str, Any]:
    """Give the members of that object."""
    tokens = [
        {
            "name": token.name,
            "state": token.state,
            "required": token.required,
            "expires_in": token.expires_in,
            "retry_in": token.retry_in,
            "reason": token.reason,
            "hint": token.hint,
            "grants": token.grants,
        }
        for token in status.tokens
    ]
    return {
        "ready": status.ready,
        "tokens": tokens,
        "sandbox": list(status.sandboxes),
        "restart": list(status.restart),
        "reload_refused": status.reload_refused,
    }


def as_table(status: Status, *, colors: bool, width: int | None = None) -> str:
    """Write *status* for a person; sentences are broken at *width* columns, rows never."""
    lines = rows_of(status.tokens, colors=colors) if status.tokens else ["no token that you may see"]
    lines += notes_of(status.tokens, width)
    lines += remarks_of(status)
    lines.append(verdict_of(status))
    return "\n".join(lines)


def rows_of(tokens: Sequence[TokenState], *, colors: bool, width: int | None = None) -> list[str]:
    """Give the headings and a row for each token, none of them wider than *width* columns if that is given."""
    rows: Sequence[Sequence[str]] = [HEADINGS, *(_row(token) for token in tokens)]
    if width is not None:
        rows = fitted(rows, width, dropped=DROPPED)
    return table(rows, column=HEADINGS.index("STATE"), colors=STATE_COLORS if colors else {})


def notes_of(tokens: Sequence[TokenState], width: int | None) -> list[str]:
    """Give what there is to say of tokens beside their rows; what is to be done about many is said once."""
    hinted: dict[str, list[str]] = {}
    for token in tokens:
        if token.hint is not None:
            hinted.setdefault(plain(token.hint), []).append(plain(token.name))
    lines = [line for hint, names in hinted.items() for line in folded(f"{_listed(names)}: {hint}", width)]
    for token in tokens:
        if token.grants is not None:
            how = f"{token.grants} grant(s), each with a state of its own: token-broker grants list --token"
            lines += folded(f"{plain(token.name)}: {how} {plain(token.name)}", width)
    return lines


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def remarks_of(status: Status) -> list[str]:
    """Give what there is to say of the daemon."""
    lines: list[str] = []
    if status.sandboxes:
        lines.append(f"SANDBOX, tokens worth nothing: {', '.join(map(plain, status.sandboxes))}")
    if status.restart:
        lines.append(f"restart pending: changes of {', '.join(map(plain, status.restart))} wait for one")
    if status.reload_refused:
        lines.append("the last reload was refused (see the log): old configuration in force")
    return lines


def verdict_of(status: Status) -> str:
    """Say whether every required token can be served."""
    return "ready" if status.ready else "NOT READY"


def _row(token: TokenState) -> tuple[str, ...]:
    return (
        plain(token.name),
        plain(token.state),
        NOTHING if token.required is None else ("yes" if token.required else "no"),
        duration(token.expires_in),
        duration(token.retry_in),
        NOTHING if token.reason is None else plain(token.reason),
    )
