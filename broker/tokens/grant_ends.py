"""
When an access token is the last one of its grant: what a refresh would need, and there is not (rules.md R2.10).

Pure, as the table that asks (``grant_steps``).
"""

from __future__ import annotations

from dataclasses import replace

from broker.tokens.grant import EndReason, Grant, Phase
from broker.tokens.grant_state import Terms


def why_last(grant: Grant, terms: Terms) -> EndReason | None:
    """Say why the access token of *grant* is its last one; None where it can be refreshed."""
    if grant.refresh_token is None or not terms.refreshes:
        return EndReason.NO_REFRESH_TOKEN
    if grant.reason == EndReason.SUBJECT_CHANGED:
        # A refresh was seen to bring somebody else's token: the next one would, too.
        return EndReason.SUBJECT_CHANGED
    return EndReason.ACCESS_TOKEN_ENDED if terms.needs_access_token and grant.access is None else None


def ended_by_terms(grant: Grant, terms: Terms) -> bool:
    """Say whether a grant has ended for want of a way to refresh it, and the configuration has one now."""
    return grant.reason == EndReason.NO_REFRESH_TOKEN and why_last(opened(grant), terms) is None


def opened(grant: Grant) -> Grant:
    """Give the grant as if nothing had ended it."""
    return replace(grant, phase=Phase.SETTLED, reason=None)
