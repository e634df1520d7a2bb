from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broker.errors import LocalError
from broker.oauth.secret import AccessToken, RefreshToken
from broker.tokens.grant import Grant, Phase, Rotation, SealedAccess, sealed_access_token

GRANT = Grant(
    id="g-1",
    token="directory",
    owner="app",
    issuer="https://as.example",
    client_id="client-1",
    created_at=1_800_000_000.5,
    scope=("openid", "directory:website"),
    asked_scope=("openid", "directory:website", "profile"),
    auth_time=1_799_999_990.0,
    authorization_details=({"type": "payment", "amount": {"value": "1.00"}},),
    subject="alice",
    subject_verified=True,
    label="första",
    consent_expires_at=1_900_000_000.0,
    idle_lifetime=1800.0,
    refresh_token=RefreshToken("rt-2"),
    previous_refresh_token=RefreshToken("rt-1"),
    rotation=Rotation.ROTATES,
    access=SealedAccess(
        access_token=AccessToken("at-2"),
        token_type="Bearer",
        scope=("openid",),
        obtained_at=1_800_000_000.0,
        expires_at=1_800_000_300.0,
        binding="certificate",
        certificate_thumbprint="tp",
        certificate_not_after=1_850_000_000.0,
    ),
    phase=Phase.OPEN,
    reason="timed_out",
    since=1_800_000_200.0,
    thumbprint="tp",
    key_id="kid-1",
    generation=7,
    authorization="authorization-1",
)


@pytest.mark.parametrize("grant", [GRANT, Grant(id="g", token="t", owner="", issuer="i", client_id="c", created_at=1)])
def test_what_is_written_is_what_is_read(grant: Grant):
    """Every member survives, also those that are absent."""
    assert Grant.from_bytes(grant.to_bytes()) == grant


def test_no_printed_form_holds_a_token():
    """A grant may turn up in a traceback or an assertion; its tokens may not."""
    assert not any(secret in repr(GRANT) for secret in ("rt-1", "rt-2", "at-2"))


def test_a_record_of_before_authorizations_were_named_is_read():
    """It was written by an earlier version, and lacks nothing that a grant needs."""
    members = json.loads(GRANT.to_bytes())
    del members["authorization"]

    assert Grant.from_bytes(json.dumps(members).encode()) == replace(GRANT, authorization=None)


@pytest.mark.parametrize("member", sorted(json.loads(GRANT.to_bytes()).keys() - {"authorization", "jkt"}))
def test_a_record_that_lacks_a_member_is_no_grant(member: str):
    """A grant with holes would be refreshed with nothing, or served to nobody."""
    members = json.loads(GRANT.to_bytes())
    del members[member]

    with pytest.raises(LocalError, match="stored grant") as raised:
        Grant.from_bytes(json.dumps(members).encode())

    assert raised.value.code == "grant_unreadable"
    assert "rt-2" not in repr(raised.value) + str(raised.value.__cause__)


def test_a_record_of_a_version_that_knew_no_dpop_is_a_grant():
    """Neither the grant nor its access token is bound to a key."""
    members = json.loads(GRANT.to_bytes())
    del members["jkt"], members["access"]["jkt"]

    grant = Grant.from_bytes(json.dumps(members).encode())

    assert grant.access is not None
    assert grant.jkt is None
    assert grant.access.jkt is None
    assert grant.access.access_token == GRANT.access.access_token  # type: ignore[union-attr]


@pytest.mark.parametrize("member", sorted(json.loads(GRANT.to_bytes())))
@pytest.mark.parametrize("value", [{"a": 1}, True, -1.5, "x"])
def test_a_member_of_another_kind_is_refused_or_its_own(member: str, value: object):
    """Each member has one type; a value of another one is never taken for it."""
    members = json.loads(GRANT.to_bytes()) | {member: value}
    serial = json.dumps(members).encode()

    try:
        read = json.loads(Grant.from_bytes(serial).to_bytes())
    except LocalError:
        read = None

    assert read in (None, members)


@pytest.mark.parametrize("serial", [b"", b"null", b"[]", b'{"v":1', b"\xff", b'{"v":2}', b'{"v":1,"v":1}'])
def test_what_is_no_record_is_told_and_not_guessed(serial: bytes):
    """Another version, half a record, another kind of value."""
    with pytest.raises(LocalError):
        Grant.from_bytes(serial)


def test_the_refresh_token_that_was_used_is_kept_until_its_successor_has_worked():
    """R2.4: the answer that brought the newest one may be all that the server knows it by."""
    rotated = GRANT.with_refresh_token(RefreshToken("rt-3"))

    assert rotated.refresh_token == RefreshToken("rt-3")
    assert rotated.previous_refresh_token == RefreshToken("rt-2")
    assert rotated.rotation is Rotation.ROTATES


@pytest.mark.parametrize("answered", [None, RefreshToken("rt-2")])
def test_a_server_that_keeps_the_refresh_token_is_known_by_it(answered: RefreshToken | None):
    """No refresh token in the answer means that the old one goes on (RFC 6749 section 6)."""
    kept = replace(GRANT, rotation=Rotation.UNKNOWN).with_refresh_token(answered)

    assert kept.refresh_token == RefreshToken("rt-2")
    assert kept.previous_refresh_token is None
    assert kept.rotation is Rotation.KEEPS


def test_the_sealed_access_token_is_given_whether_it_has_ended_or_not():
    """A server that wants it knows best; clocks may be wrong."""
    assert sealed_access_token(GRANT) == AccessToken("at-2")
    assert sealed_access_token(replace(GRANT, access=None)) is None
