from __future__ import annotations

from dataclasses import replace

import pytest

from broker.oauth.secret import AccessToken, RefreshToken
from broker.tokens.grant import EndReason, Grant, Phase, SealedAccess
from broker.tokens.grant_ends import ended_by_terms, opened, why_last
from broker.tokens.grant_state import Replay, Terms

ACCESS = SealedAccess(
    access_token=AccessToken("at"), token_type="Bearer", scope=(), obtained_at=0.0, expires_at=1.0, binding="none"
)
GRANT = Grant(
    id="g",
    token="t",
    owner="w",
    issuer="https://as.example",
    client_id="c",
    created_at=0.0,
    refresh_token=RefreshToken("rt"),
    access=ACCESS,
)
ANY = Terms(replay=Replay.STRICT)
BEARER = replace(ANY, needs_access_token=True)


@pytest.mark.parametrize(
    ("grant", "terms", "reason"),
    [
        (GRANT, ANY, None),
        (GRANT, BEARER, None),
        (replace(GRANT, access=None), ANY, None),
        (replace(GRANT, access=None), BEARER, EndReason.ACCESS_TOKEN_ENDED),
        (replace(GRANT, refresh_token=None), ANY, EndReason.NO_REFRESH_TOKEN),
        (GRANT, replace(ANY, refreshes=False), EndReason.NO_REFRESH_TOKEN),
        (replace(GRANT, reason="subject_changed"), ANY, EndReason.SUBJECT_CHANGED),
        (replace(GRANT, reason="subject_changed", access=None), BEARER, EndReason.SUBJECT_CHANGED),
    ],
)
def test_an_access_token_is_the_last_where_nothing_could_be_asked_with(
    grant: Grant, terms: Terms, reason: EndReason | None
):
    """What the configuration and the grant have decides, and no clock."""
    assert why_last(grant, terms) is reason


@pytest.mark.parametrize("reason", [EndReason.INVALID_GRANT, EndReason.LOST_ANSWER, EndReason.SUBJECT_CHANGED])
def test_a_word_of_the_server_is_not_undone_by_a_configuration(reason: EndReason):
    """Only what was the configuration's own doing is."""
    assert not ended_by_terms(replace(GRANT, phase=Phase.ENDED, reason=reason.value), ANY)
    assert ended_by_terms(replace(GRANT, phase=Phase.ENDED, reason=EndReason.NO_REFRESH_TOKEN.value), ANY)


def test_an_opened_grant_is_settled():
    """As if nothing had ended it."""
    assert opened(replace(GRANT, phase=Phase.ENDED, reason="no_refresh_token")) == GRANT
