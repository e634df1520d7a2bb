from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from broker.cli import main
from broker.cli.grants import STATES, as_table
from broker.cli.local_consents import ListedGrant
from broker.tokens.serving import TokenState
from tests.unit.cli.fake_daemon import fake_daemon

GRANTS = [
    {
        "id": "g2",
        "token": "ledger",
        "owner": "app",
        "state": "consent_required",
        "subject_verified": False,
        "scope": "openid",
        "created_at": 1_790_000_100,
        "reason": "invalid_grant",
    },
    {
        "id": "g1",
        "token": "ledger",
        "owner": "app",
        "state": "fresh",
        "subject": "alice",
        "subject_verified": True,
        "label": "my laptop",
        "scope": "openid accounts",
        "created_at": 1_790_000_000,
        "expires_in": 287,
        "consent_expires_in": 7_776_000,
    },
]


def listed(**change: Any) -> ListedGrant:
    members: dict[str, Any] = {
        "id": "g",
        "token": "ledger",
        "owner": "app",
        "state": "fresh",
        "subject": None,
        "subject_verified": False,
        "label": None,
        "scope": "",
        "created_at": None,
        "expires_in": None,
        "consent_expires_in": None,
        "retry_in": None,
        "reason": None,
        "hint": None,
    }
    return ListedGrant(**{**members, **change})


@pytest.mark.real_time
@pytest.mark.parametrize("subcommand", [[], ["list"]])
def test_grants_are_listed_by_token_and_age(tmp_path: Path, subcommand: list[str]):
    """With who gave them, and for how long they hold; the list is what comes without a subcommand."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["GET grants"] = (200, {"grants": GRANTS})

        result = subprocess.run(
            [sys.executable, "-m", "broker", "grants", *subcommand],
            env={**os.environ, "TOKEN_BROKER_SOCKET": f"unix://{tmp_path}/s"},
            capture_output=True,
            text=True,
            check=False,
        )

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "GRANT  TOKEN   STATE             PERSON  LABEL      OWNER  EXPIRES IN  CONSENT ENDS IN  REASON",
        "g1     ledger  fresh             alice   my laptop  app    4 min 47 s  90 d 0 h         -",
        "g2     ledger  consent_required  -       -          app    -           -                invalid_grant",
    ]


def test_grants_as_json_have_every_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What is not known is null; the filters choose."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["GET grants"] = (200, {"grants": GRANTS})

        code = main(["grants", "list", "--json", "--state", "fresh", "--token", "ledger", "--socket", str(fake.path)])

    shown = json.loads(capsys.readouterr().out)
    assert code == 0
    assert [(grant["id"], grant["retry_in"], grant["scope"]) for grant in shown["grants"]] == [
        ("g1", None, "openid accounts")
    ]
    assert fake.asked[0][1] == "/v1/grants?token=ledger&limit=100"


@pytest.mark.parametrize("before", [0, 1, 2])
def test_the_options_of_the_list_stand_before_or_behind_its_name(
    before: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Or without it: what a person types first."""
    options = ["--json", "--state=consent_required"]
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["GET grants"] = (200, {"grants": GRANTS})
        name = [] if before == 0 else ["list"]

        code = main(["grants", *options[:before], *name, *options[before:], "--socket", str(fake.path)])

    assert code == 0
    assert [grant["id"] for grant in json.loads(capsys.readouterr().out)["grants"]] == ["g2"]


def test_a_state_that_there_is_not_is_wrong_usage(capsys: pytest.CaptureFixture[str]):
    """A typing error would look like a list without grants; no grant is idle, the other states are the daemon's."""
    with pytest.raises(SystemExit) as raised:
        main(["grants", "--state", "bogus"])

    assert raised.value.code == 2
    assert "consent_required" in capsys.readouterr().err
    assert set(STATES) == set(TokenState) - {TokenState.IDLE}


def test_no_grant_is_said():
    """An empty table would look like a mistake."""
    assert as_table([], colors=True) == "no grant that you may see"


def test_an_unverified_person_is_marked_and_a_hint_is_shown():
    """What a server says without an ID token proves nothing; nothing of it steers a terminal."""
    shown = as_table(
        [listed(subject="al\x1b[31mice", state="unavailable", hint="look at the server")], colors=True, width=200
    )

    assert "al\ufffd[31mice?" in shown
    assert "\x1b[31munavailable\x1b[0m" in shown
    assert shown.splitlines()[-1] == "g: look at the server"


@pytest.mark.parametrize(
    ("revoked", "words"),
    [(True, "revoked at the server"), (False, "cannot revoke it"), ("pending", "goes on asking it")],
)
def test_what_became_of_a_revocation_is_told(
    tmp_path: Path, revoked: object, words: str, capsys: pytest.CaptureFixture[str]
):
    """It is served no more in any case."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["DELETE grants"] = (200, {"revoked": revoked})

        code = main(["grants", "revoke", "g 1", "--socket", str(fake.path)])

    captured = capsys.readouterr()
    assert (code, captured.out) == (0, "")
    assert "served no more" in captured.err
    assert words in captured.err
    assert fake.asked == [("DELETE", "/v1/grants/g%201", None)]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["retry", "g1"], ("POST", "/v1/grants/g1/retry", {})),
        (["reassign", "g1", "other"], ("POST", "/v1/grants/g1/reassign", {"owner": "other"})),
    ],
)
def test_an_operator_s_wish_reaches_the_daemon(
    tmp_path: Path, arguments: list[str], asked: object, capsys: pytest.CaptureFixture[str]
):
    """One request each."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["POST retry"] = fake.replies["POST reassign"] = (200, GRANTS[1])

        code = main(["grants", *arguments, "--socket", str(fake.path)])

    assert (code, fake.asked) == (0, [asked])
    assert capsys.readouterr().err != ""


def test_a_refusal_is_one_line_and_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """As for every command."""
    with fake_daemon(tmp_path / "s") as fake:
        fake.replies["POST retry"] = (404, {"error": "not_found", "error_description": "there is no such grant"})

        code = main(["grants", "retry", "g1", "--socket", str(fake.path)])

    assert (code, capsys.readouterr().err) == (1, "there is no such grant [not_found]\n")
