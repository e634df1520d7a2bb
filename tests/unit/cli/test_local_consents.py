from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.cli import local_consents as consents
from broker.cli.local_client import DaemonError
from broker.errors import LocalError
from tests.unit.cli.fake_daemon import BEGUN, FakeDaemon, fake_daemon

GRANT = {
    "id": "g1",
    "token": "ledger",
    "owner": "app",
    "state": "fresh",
    "subject_verified": False,
    "scope": "openid",
    "created_at": 1_790_000_000,
}


def begun(fake: FakeDaemon) -> consents.Begun:
    return consents.begin(fake.path, consents.Wish(token="ledger"))


def test_what_opens_an_authorization_does_not_print_itself(tmp_path: Path):
    """Neither its binding nor its URL, also not in a traceback."""
    with fake_daemon(tmp_path / "s") as fake:
        printed = repr(begun(fake))

    assert printed == "Begun(expires_in=60.0)"


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"expires_in": "soon"},
        {"expires_in": float("inf")},
        {"expires_in": float("nan")},
        {"authorization_url": "javascript:alert(1)"},
        {"authorization_url": "https://as.example/\r\nSet-Cookie: a=b"},
        {"authorization_url": "https:///nowhere"},
        {"authorization_url": "http://[::1/"},
    ],
)
def test_an_answer_that_is_none_is_not_followed(tmp_path: Path, change: dict[str, Any]):
    """Above all no URL that a browser should not be sent to."""
    with fake_daemon(tmp_path / "s") as fake:
        body = {name: value for name, value in {**BEGUN, **change}.items() if value is not None}
        fake.replies["POST authorizations"] = (201, body)

        with pytest.raises(LocalError) as caught:
            begun(fake)

    assert caught.value.code == "not_a_broker"


def test_half_an_answer_is_told(tmp_path: Path):
    """As for a program that is no broker."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["POST callback"] = fake.replies["GET authorizations"] = (200, {})
        opened = begun(fake)

        with pytest.raises(LocalError, match="does not understand"):
            consents.finish(fake.path, opened, callback_url="https://app.example/?code=c")
        with pytest.raises(LocalError, match="does not understand"):
            consents.seconds_left(fake.path, opened)


def test_the_check_that_failed_is_known(tmp_path: Path):
    """Beside the code and the words."""
    body = {"error": "invalid_request", "error_description": "no", "check": "state"}
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["POST callback"] = (400, body)

        with pytest.raises(DaemonError) as caught:
            consents.finish(fake.path, begun(fake), callback_url="https://app.example/?code=c")

    assert (caught.value.code, caught.value.message, caught.value.check) == ("invalid_request", "no", "state")


def test_all_pages_of_grants_are_asked_for(tmp_path: Path):
    """One after the other, by the cursor of the one before."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["GET grants"] = (200, {"grants": [GRANT], "cursor": "g1"})
        listing = consents.grants_of(fake.path, token="ledger", subject="alice & co")
        first = next(listing)
        fake.replies["GET grants"] = (200, {"grants": [{**GRANT, "id": "g2", "subject": "alice"}], "cursor": None})
        rest = list(listing)

    assert (first.id, first.subject, first.created_at, first.expires_in) == ("g1", None, 1_790_000_000, None)
    assert [grant.id for grant in rest] == ["g2"]
    assert [target for _, target, _ in fake.asked] == [
        "/v1/grants?token=ledger&subject=alice+%26+co&limit=100",
        "/v1/grants?token=ledger&subject=alice+%26+co&cursor=g1&limit=100",
    ]


@pytest.mark.parametrize("grant", [{}, {**GRANT, "created_at": float("inf")}], ids=["empty", "endless"])
def test_a_list_that_is_none_is_told(tmp_path: Path, grant: dict[str, Any]):
    """A grant without an id is no grant, nor is one of no time."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["GET grants"] = (200, {"grants": [grant]})

        with pytest.raises(LocalError) as caught:
            list(consents.grants_of(fake.path))

    assert caught.value.code == "not_a_broker"
