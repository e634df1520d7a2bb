"""A pending authorization as a value and as bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from broker.consent.pending import (
    Abandoned,
    Binding,
    Expired,
    Failed,
    Granted,
    Pending,
    Phase,
    Redeeming,
    Waiting,
    digest_of,
    state_of,
)
from broker.errors import LocalError
from broker.oauth.authorization_request import Asked, Transaction
from broker.oauth.client import ResponseMode
from broker.oauth.secret import CodeVerifier

PENDING = Pending(
    id="an-id",
    digest=digest_of("a-binding"),
    owner="app",
    token="person",
    renews=None,
    issuer="https://as.example",
    client_id="app-1",
    label="Käthe's laptop",
    asked=Asked(
        scope=("openid", "accounts"),
        resource=("https://api.example",),
        audience=("api",),
        authorization_details=({"type": "payment", "amount": "1"},),
        claims={"userinfo": {"name": None}},
        acr_values=("high",),
        prompt=("consent",),
        login_hint="kaethe",
        max_age=60,
        parameters=(("ui_locales", "de"),),
    ),
    transaction=Transaction(
        state="the-state",
        nonce="the-nonce",
        code_verifier=CodeVerifier("the-verifier"),
        redirect_uri="https://a/cb",
        dpop_jkt="a-thumbprint",
    ),
    response_mode=ResponseMode.JWT,
    iss_required=True,
    created_at=1_790_000_000.5,
    expires_at=1_790_000_600.5,
    phase=Waiting(),
)
PHASES: tuple[Phase, ...] = (
    Waiting(),
    Redeeming(),
    Granted(grant="a-grant"),
    Failed(reason="id_token_invalid", check="nonce"),
    Failed(reason="interrupted"),
    Abandoned(),
    Expired(),
)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: type(phase).__name__)
def test_what_is_written_down_is_read_back(phase: Phase):
    """In every phase, with all that was asked."""
    pending = replace(PENDING, phase=phase)

    assert Pending.from_bytes(pending.to_bytes()) == pending


def test_what_was_not_asked_is_not_there_after_reading():
    """Every optional member."""
    plain = Transaction(state="s", nonce=None, code_verifier=CodeVerifier("v"), redirect_uri="https://a/cb")
    pending = replace(PENDING, asked=Asked(), transaction=plain, label=None, renews="a-grant")

    assert Pending.from_bytes(pending.to_bytes()) == pending


def test_nothing_secret_is_printed():
    """Neither what ties the callback nor what redeems the code; a login hint is somebody's name."""
    shown = repr(PENDING) + str(Binding("a-binding"))

    for secret in ("the-state", "the-nonce", "the-verifier", "a-binding", "kaethe", "laptop"):
        assert secret not in shown


def test_the_binding_is_known_again_and_not_kept():
    """Any other string is another binding, whatever it is made of."""
    assert PENDING.is_bound_to("a-binding")
    assert not PENDING.is_bound_to("a-bindinG")
    assert not PENDING.is_bound_to("")
    assert not PENDING.is_bound_to("\ud800")
    assert b"a-binding" not in PENDING.to_bytes()


TEXTS = ("id", "digest", "owner", "token", "issuer", "client_id", "state", "code_verifier", "redirect_uri")
OPTIONAL = ("renews", "label", "nonce", "dpop_jkt")
LATER = ("dpop_jkt",)
"""Members that older versions did not write."""
MAY_BE = [
    *((name, "no such thing") for name in (*TEXTS, *OPTIONAL)),
    *((name, None) for name in OPTIONAL),
    ("created_at", 7),
    ("expires_at", 7),
]
"""What a record may hold as well."""


@pytest.mark.parametrize("member", sorted(json.loads(PENDING.to_bytes())))
@pytest.mark.parametrize("instead", [..., 7, None, [], {}, "no such thing"], ids=repr)
def test_a_record_with_a_hole_is_no_authorization(member: str, instead: Any):
    """Whatever is missing or of another type is an error, without a word of the record in it."""
    members = json.loads(PENDING.to_bytes())
    if instead is ...:
        del members[member]
    else:
        members[member] = instead
    serial = json.dumps(members).encode()
    if (member, instead) in MAY_BE or (member in LATER and instead is ...):
        known = None if instead is ... else instead
        assert json.loads(Pending.from_bytes(serial).to_bytes())[member] == known
        return

    with pytest.raises(LocalError) as refused:
        Pending.from_bytes(serial)

    assert refused.value.code == "pending_unreadable"
    assert "the-verifier" not in f"{refused.value.message} {refused.value.__cause__}"


@pytest.mark.parametrize(
    "change",
    [
        {"asked": {}},
        {"iss_required": 1},
        {"created_at": True},
        {"phase": {"name": "unheard_of"}},
        {"phase": {"name": "granted"}},
        {"response_mode": "fragment"},
    ],
    ids=str,
)
def test_a_record_that_says_something_else_is_refused(change: dict[str, Any]):
    """Members inside of members, too."""
    members = json.loads(PENDING.to_bytes()) | change

    with pytest.raises(LocalError) as refused:
        Pending.from_bytes(json.dumps(members).encode())

    assert refused.value.code == "pending_unreadable"


@pytest.mark.parametrize("serial", [b"", b"{}", b"[]", b"{", b"\xff"])
def test_what_is_no_record_is_refused(serial: bytes):
    """Whatever is in the store."""
    with pytest.raises(LocalError, match="cannot be understood"):
        Pending.from_bytes(serial)


def test_a_record_of_another_version_is_refused():
    """So that a downgrade spoils nothing."""
    members = json.loads(PENDING.to_bytes()) | {"v": 2}

    with pytest.raises(LocalError, match="another version"):
        Pending.from_bytes(json.dumps(members).encode())


def test_phases_have_names():
    """As callers see them."""
    assert [state_of(phase) for phase in PHASES] == [
        "waiting",
        "redeeming",
        "granted",
        "failed",
        "failed",
        "abandoned",
        "expired",
    ]
    assert [replace(PENDING, phase=phase).is_open for phase in PHASES] == [True, True, *[False] * 5]
