from __future__ import annotations

from broker.oauth.secret import RefreshToken
from broker.tokens.grant import Grant
from broker.tokens.grant_state import Begin, Effect, Ended, Keep, Over, Quarantined, Refreshing, Resting
from broker.tokens.state import Expired

GRANT = Grant(
    id="g",
    token="t",
    owner="app",
    issuer="https://as.example",
    client_id="c",
    created_at=1.0,
    refresh_token=RefreshToken("canary"),
)


def test_every_effect_is_known():
    """A new one needs somebody who carries it out."""
    assert Effect == Begin | Expired | Keep | Ended | Quarantined


def test_no_state_shows_a_refresh_token():
    """States turn up in tracebacks and assertions."""
    states = (Resting(grant=GRANT, due_at=1.0), Refreshing(grant=GRANT, attempt=1), Over(grant=GRANT))

    assert "canary" not in repr(states)
