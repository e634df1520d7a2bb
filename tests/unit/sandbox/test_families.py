"""Tests of ``broker/sandbox/families.py``: codes are good once, and refresh tokens as the rotation says."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from broker.sandbox.families import Approved, Families, Family, GrantRefusedError, challenge
from broker.sandbox.options import Options, Rotation

NOW = 1_790_000_000.0
VERIFIER = "v" * 43
APPROVED = Approved(
    client_id="app",
    subject="alice",
    scope=("openid", "read"),
    audience=("https://api",),
    redirect_uri="https://app/cb",
    code_challenge=challenge(VERIFIER),
    nonce="n",
    auth_time=int(NOW),
)
GOOD: dict[str, Any] = {"client_id": "app", "redirect_uri": "https://app/cb", "verifier": VERIFIER, "now": NOW}


def families(**options: Any) -> Families:
    numbers = count()
    return Families(options=Options(**options), new_value=lambda: f"value-{next(numbers)}")


def started(grants: Families) -> Family:
    return grants.redeem(grants.issue_code(APPROVED, now=NOW), **GOOD)


def refreshed(grants: Families, token: str, *, now: float = NOW, **more: Any) -> Family:
    return grants.refresh(token, **{"client_id": "app", "scope": None, "now": now, **more})


def test_the_challenge_is_that_of_the_rfc():
    """RFC 7636, appendix B."""
    assert challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"redirect_uri": "https://app/cb/"},
        {"verifier": "w" * 43},
        {"verifier": ""},
        {"verifier": "v" * 42},
        {"now": NOW + 60},
    ],
)
def test_a_code_is_bound_to_what_it_was_given_for(changes: dict[str, Any]):
    """Client, redirect URI, verifier (RFC 6749 section 4.1.3, RFC 7636 section 4.6), and its minute."""
    grants = families()
    code = grants.issue_code(APPROVED, now=NOW)

    with pytest.raises(GrantRefusedError):
        grants.redeem(code, **{**GOOD, **changes})

    assert grants.as_json() == []


def test_a_code_is_spent_by_a_wrong_verifier():
    """Nobody gets a second guess."""
    grants = families()
    code = grants.issue_code(APPROVED, now=NOW)
    with pytest.raises(GrantRefusedError):
        grants.redeem(code, **{**GOOD, "verifier": "w" * 43})

    with pytest.raises(GrantRefusedError):
        grants.redeem(code, **GOOD)


def test_a_code_that_is_used_twice_ends_the_grant():
    """RFC 6749 section 4.1.2: what was issued for it is revoked."""
    grants = families()
    code = grants.issue_code(APPROVED, now=NOW)
    family = grants.redeem(code, **GOOD)

    with pytest.raises(GrantRefusedError) as caught:
        grants.redeem(code, **GOOD)

    assert caught.value.grant == family.name
    with pytest.raises(GrantRefusedError):
        refreshed(grants, family.refresh_token)


def test_without_rotation_the_same_token_goes_on():
    """As servers for confidential clients do."""
    grants = families(rotation=Rotation.NEVER)
    token = started(grants).refresh_token

    for _ in range(3):
        assert refreshed(grants, token).refresh_token == token


def test_strict_rotation_ends_the_family_of_a_token_that_is_used_again():
    """The newest token is dead, too (RFC 9700 section 4.14.2)."""
    grants = families(rotation=Rotation.STRICT)
    first = started(grants).refresh_token
    second = refreshed(grants, first).refresh_token

    with pytest.raises(GrantRefusedError, match="twice"):
        refreshed(grants, first)

    assert second != first
    with pytest.raises(GrantRefusedError, match="twice"):
        refreshed(grants, second)


def test_grace_accepts_the_previous_token_for_a_while():
    """And the family lives on when it comes too late."""
    grants = families(rotation=Rotation.GRACE, grace_seconds=10)
    first = started(grants).refresh_token
    second = refreshed(grants, first).refresh_token

    third = refreshed(grants, first, now=NOW + 9).refresh_token
    with pytest.raises(GrantRefusedError, match="replaced"):
        refreshed(grants, first, now=NOW + 10)

    assert len({first, second, third}) == 3
    assert refreshed(grants, third, now=NOW + 30).ended is None


def test_the_rotation_may_change_while_it_runs():
    """From the next refresh on."""
    grants = families(rotation=Rotation.NEVER)
    token = started(grants).refresh_token

    grants.options.change({"rotation": "strict"})

    assert refreshed(grants, token).refresh_token != token


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"scope": "openid write"}, "invalid_scope"),
        ({"audience": ("https://other",)}, "invalid_target"),
        ({"client_id": "other"}, "invalid_grant"),
    ],
)
def test_a_refused_refresh_does_not_rotate(wrong: dict[str, Any], error: str):
    """The client may correct itself (RFC 6749 section 6)."""
    grants = families(rotation=Rotation.STRICT)
    token = started(grants).refresh_token

    with pytest.raises(GrantRefusedError) as caught:
        refreshed(grants, token, **wrong)

    assert caught.value.error == error
    assert refreshed(grants, token, scope="read", audience=("https://api",)).ended is None


def test_a_grant_may_expire():
    """Counted from the consent, however often it was refreshed."""
    grants = families(refresh_lifetime_seconds=100)
    family = started(grants)
    again = refreshed(grants, family.refresh_token, now=NOW + 60)

    assert again.seconds_left(NOW + 60) == 40
    with pytest.raises(GrantRefusedError, match="expired"):
        refreshed(grants, again.refresh_token, now=NOW + 100)


@pytest.mark.parametrize("by_access_token", [False, True])
def test_revoking_any_token_ends_the_whole_grant(by_access_token: bool):
    """RFC 7009 section 2.1."""
    grants = families()
    family = started(grants)
    grants.issued(family, "jti-1")

    token, jti = ("a-jwt", "jti-1") if by_access_token else (family.refresh_token, None)
    revoked = grants.revoke(token, jti=jti, client_id="app")

    assert revoked is family
    assert grants.is_over("jti-1")
    with pytest.raises(GrantRefusedError, match="revoked"):
        refreshed(grants, family.refresh_token)


def test_nobody_revokes_the_tokens_of_others():
    """Nor learns that they exist."""
    grants = families()
    family = started(grants)

    assert grants.revoke(family.refresh_token, jti=None, client_id="other") is None
    assert grants.revoke("no-such-token", jti="no-such-jti", client_id="app") is None
    assert family.ended is None


def test_a_person_can_take_consents_back():
    """One of them, or all."""
    grants = families()
    first, second, third = started(grants), started(grants), started(grants)

    assert grants.end(second.name) == 1
    assert grants.end() == 2
    assert grants.end() == 0
    assert None not in {first.ended, second.ended, third.ended}


def test_no_value_is_printed():
    """Neither in a list nor in a repr."""
    grants = families()
    family = started(grants)

    assert "value-" not in f"{grants!r} {family!r} {grants.as_json()}"


@pytest.mark.parametrize(
    ("bound_to", "shown", "good"), [(None, "k", True), ("k", "k", True), ("k", "l", False), ("k", None, False)]
)
def test_a_code_may_be_bound_to_a_key(bound_to: str | None, shown: str | None, good: bool):
    """RFC 9449 section 10; a wrong key spends it."""
    grants = families()
    code = grants.issue_code(replace(APPROVED, dpop_jkt=bound_to), now=NOW)

    if good:
        assert grants.redeem(code, jkt=shown, **GOOD).ended is None
    else:
        for key in (shown, bound_to):
            with pytest.raises(GrantRefusedError):
                grants.redeem(code, jkt=key, **GOOD)


def test_a_bound_refresh_token_wants_its_key():
    """RFC 9449 section 5: for public clients; the family lives on."""
    grants = families()
    family = grants.redeem(grants.issue_code(APPROVED, now=NOW), jkt="k", bound=True, **GOOD)

    for other in ("l", None):
        with pytest.raises(GrantRefusedError, match="key"):
            refreshed(grants, family.refresh_token, jkt=other)
    assert refreshed(grants, family.refresh_token, jkt="k") is family


def test_a_refresh_token_that_is_not_bound_takes_any_key():
    """A client that proves who it is may get another key."""
    grants = families()
    family = grants.redeem(grants.issue_code(APPROVED, now=NOW), jkt="k", **GOOD)

    assert refreshed(grants, family.refresh_token, jkt="l") is family
