"""Tests of ``broker/cli/rotate.py``: what came of it, for people and for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from broker.cli import main
from tests.unit.cli.fake_daemon import fake_daemon

NOTHING: dict[str, Any] = {"rotated": [], "refused": [], "dropped": []}
REFUSED = {"item": "key.k", "reason": "key_unreadable", "problem": "k.pem: cannot \x1b[31m be read"}


def asked(tmp_path: Path, answer: Any, *arguments: str) -> tuple[int, list[Any]]:
    with fake_daemon(tmp_path / "s") as daemon:
        daemon.replies["POST rotate"] = (200, answer)
        code = main(["rotate", "--socket", str(tmp_path / "s"), *arguments])
    return code, daemon.bodies("POST", "rotate")


@pytest.mark.parametrize(
    ("answer", "arguments", "code", "out"),
    [
        (NOTHING, (), 0, "nothing is new\n"),
        (NOTHING | {"rotated": ["certificate.t"]}, (), 0, "certificate.t: new, and in use\n"),
        (NOTHING | {"refused": [REFUSED]}, (), 1, ""),
        (
            NOTHING | {"rotated": ["key.k"], "dropped": ["key.k"]},
            ("--compromised", "k"),
            0,
            "key.k: new, and in use\nkey.k: nothing older is used any more\n",
        ),
        (
            NOTHING | {"dropped": ["key.k"]},
            ("--compromised", "k", "--compromised", "key.k"),
            0,
            "key.k: nothing older is used any more\n",
        ),
        (NOTHING | {"dropped": ["key.k"]}, ("--compromised", "k", "--compromised", "certificate.t"), 1, None),
        (NOTHING | {"dropped": ["key.k"]}, ("--compromised", "key.k", "--compromised", "certificate.k"), 1, None),
        (NOTHING | {"dropped": ["certificate.t"]}, ("--compromised", "t", "--compromised", "key.t"), 1, None),
        (NOTHING, ("--compromised", "k"), 1, "nothing is new\n"),
        (NOTHING | {"dropped": ["key.k"]}, ("--compromised", "k", "--compromised", "t"), 1, None),
    ],
)
def test_what_came_of_it_is_said(
    tmp_path: Path,
    answer: Any,
    arguments: tuple[str, ...],
    code: int,
    out: str | None,
    capsys: pytest.CaptureFixture[str],
):
    """Exit 1 where new files cannot be used, or where nothing older was in use of what is compromised."""
    done, bodies = asked(tmp_path, answer, *arguments)
    captured = capsys.readouterr()

    assert done == code
    assert out in {None, captured.out}
    assert bodies == [{"compromised": list(arguments[1::2])} if arguments else {}]


def test_each_section_of_which_nothing_older_was_in_use_is_named_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """By the names that were typed."""
    names = ["k", "t", "certificate.x", "t"]

    asked(tmp_path, NOTHING | {"dropped": ["key.k"]}, *(word for name in names for word in ("--compromised", name)))

    said = capsys.readouterr().err.splitlines()
    assert [line.partition(": nothing older was in use")[0] for line in said] == [
        "t",
        "certificate.x",
    ]


def test_a_problem_is_told_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """With its code, and nothing that could steer a terminal."""
    asked(tmp_path, NOTHING | {"refused": [REFUSED]})

    assert "key.k: k.pem: cannot \N{REPLACEMENT CHARACTER}[31m be read [key_unreadable]" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [{}, {"rotated": None}, NOTHING | {"refused": [{}]}, NOTHING | {"refused": 1}])
def test_an_answer_that_is_none_of_a_broker_is_an_error(
    tmp_path: Path, answer: Any, capsys: pytest.CaptureFixture[str]
):
    """Another version, or another program."""
    code, _ = asked(tmp_path, answer)

    assert code == 1
    assert "not_a_broker" in capsys.readouterr().err
