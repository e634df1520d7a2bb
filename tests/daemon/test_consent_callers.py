"""Whose grants are whose: two applications, each a user with a socket of its own, as the kernel has them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.daemon.harness import UID_A, UID_B, Answer, get, get_as
from tests.daemon.test_consent import Place, place, send

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as other users")


def asked(uid: int, path: Path, target: str) -> Answer:
    answer = get_as(uid, path, target)
    assert answer is not None
    return answer


def opened(at: Place, sockets: Path) -> None:
    """Let anybody open the sockets of the two applications, and only their users be them."""
    config = at.broker.config.read_text()
    for name, uid in (("a", UID_A), ("b", UID_B)):
        config = config.replace(
            f'path = "{name}.sock"\nmode = "0600"', f'path = "{sockets}/{name}.sock"\nmode = "0666"'
        )
        config = config.replace(f'listener = ["{name}"]\n', f'listener = ["{name}"]\nuid = [0, {uid}]\n')
    at.broker.config.write_text(config)
    at.broker.stop()
    at.broker.up()
    at.a, at.b = sockets / "a.sock", sockets / "b.sock"


def test_an_application_gets_its_own_grants_and_learns_of_no_others(tmp_path: Path):
    """By uid and socket; root may look, and has no token of anybody's by that."""
    sockets = Path(tempfile.mkdtemp(prefix="consent-", dir="/tmp"))
    sockets.chmod(0o755)
    try:
        with place(tmp_path) as at:
            opened(at, sockets)
            grant = at.consent(at.a, "people").json()["grant"]
            one = at.consent(at.a).json()["grant"]

            mine = [found["id"] for found in asked(UID_A, at.a, "/v1/grants").json()["grants"]]
            token = asked(UID_A, at.a, f"/v1/grants/{grant}/token")
            theirs = asked(UID_B, at.b, "/v1/grants").json()["grants"]
            foreign = asked(UID_B, at.b, f"/v1/grants/{grant}/token")
            unknown = asked(UID_B, at.b, "/v1/grants/unknown/token")
            by_name = asked(UID_B, at.b, "/v1/tokens/person")
            elsewhere = asked(UID_A, at.b, f"/v1/grants/{grant}/token")
            seen_by_root = [found["id"] for found in get(at.b, "/v1/grants").json()["grants"]]
            got_by_root = get(at.b, f"/v1/grants/{grant}/token")
            given_up_by_root = send(at.b, "DELETE", f"/v1/grants/{grant}")
            gone = asked(UID_A, at.a, f"/v1/grants/{grant}/token")
    finally:
        shutil.rmtree(sockets)

    assert mine == sorted([grant, one])
    assert token.status == 200
    assert theirs == []
    assert (foreign.status, foreign.body) == (404, unknown.body)
    assert (by_name.status, by_name.json()["error"]) == (403, "access_denied")
    assert elsewhere.status == 404
    assert seen_by_root == sorted([grant, one])
    assert got_by_root.status == 404
    assert given_up_by_root.json()["revoked"] is True
    assert gone.status == 404
