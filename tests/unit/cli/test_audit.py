"""Tests of ``broker/cli/audit.py``: what is found is said with its place, and the exit code tells it to scripts."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from broker.cli import main
from broker.cli.audit import MEANINGS
from broker.telemetry.audit_chain import Damage
from broker.telemetry.audit_format import ZERO_HEAD, AuditKeys, advance, encode, encode_checkpoint

KEY = bytes(range(32))
WALL = 1_790_000_000.0


def write_log(file: Path, *, key: bytes | None = KEY, tail: int = 0, records: int = 3) -> list[bytes]:
    """Write a log with one checkpoint after *records* records, and *tail* more; give its lines."""
    opened: dict[str, str | int | float | None] = {"format": 1, "log": "ab" * 8, "previous": ZERO_HEAD.hex()}
    lines = [encode(1, WALL, "opened", opened)]
    lines += [encode(seq, WALL, "token_served", {"token": "a"}) for seq in range(2, records + 1)]
    head = ZERO_HEAD
    for line in lines:
        head = advance(head, line)
    keys = None if key is None else AuditKeys.derive(key)
    lines.append(encode_checkpoint(records + 1, WALL, count=records, head=head, keys=keys))
    lines += [encode(records + 2 + n, WALL, "token_served", {"token": "a"}) for n in range(tail)]
    file.write_bytes(b"".join(lines))
    return lines


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "audit.key"
    file.write_bytes(KEY)
    file.chmod(0o600)
    return file


def test_every_kind_of_damage_has_words():
    """A new kind must not end in a KeyError."""
    assert set(MEANINGS) == set(Damage)


def test_a_good_log_is_authentic_and_exits_0(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]):
    """With the key of the log."""
    write_log(tmp_path / "log")

    code = main(["audit", "verify", "--key", str(key_file), str(tmp_path / "log")])

    captured = capsys.readouterr()
    assert (code, captured.err) == (0, "")
    assert captured.out.splitlines() == ["4 record(s), 1 checkpoint(s), last number 4", "authentic up to number 4"]


def test_the_unprotected_tail_is_named(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]):
    """It is no damage, and it is no proof."""
    lines = write_log(tmp_path / "log", tail=2)

    code = main(["audit", "verify", "--key", str(key_file), str(tmp_path / "log")])

    size = sum(map(len, lines[-2:]))
    assert code == 0
    assert f"unprotected tail: 2 record(s), {size} byte(s), after number 4, up to number 6\n" in capsys.readouterr().out


def test_without_a_key_a_log_is_consistent_and_not_authenticated(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whoever could write it could have made it so."""
    write_log(tmp_path / "log")

    code = main(["audit", "verify", str(tmp_path / "log")])

    assert code == 0
    assert "consistent, not authenticated" in capsys.readouterr().out


def test_damage_is_named_with_file_and_line_and_exits_1(
    tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
):
    """A removed record: the line after the hole is where one looks."""
    lines = write_log(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"".join(lines[:1] + lines[2:]))

    code = main(["audit", "verify", "--key", str(key_file), str(tmp_path / "log")])

    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith(f"{tmp_path}/log:2: removed")
    assert "DAMAGED" in captured.out
    assert "authentic up to" not in captured.out


def test_a_log_without_a_checkpoint_of_the_key_is_not_proven(
    tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]
):
    """Anybody can make a log without checkpoints; with a key that must not pass for a good one."""
    lines = write_log(tmp_path / "log")
    (tmp_path / "log").write_bytes(b"".join(lines[:-1]))

    code = main(["audit", "verify", "--key", str(key_file), str(tmp_path / "log")])

    assert code == 1
    assert "NOT PROVEN" in capsys.readouterr().out


def test_a_log_of_another_key_is_not_authentic(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]):
    """Its checkpoints are consistent and prove nothing under this key."""
    write_log(tmp_path / "log", key=bytes(32))

    code = main(["audit", "verify", "--key", str(key_file), str(tmp_path / "log")])

    told = capsys.readouterr().out
    assert code == 1
    assert "authentic up to" not in told
    assert "another key" in told
    assert "DAMAGED" not in told


def test_a_cut_at_a_checkpoint_is_found_by_the_expected_number(tmp_path: Path, key_file: Path):
    """The log by itself looks whole."""
    write_log(tmp_path / "log")
    command = ["audit", "verify", "--key", str(key_file), str(tmp_path / "log"), "--expect-seq"]

    assert [main([*command, "4"]), main([*command, "5"])] == [0, 1]


def test_what_cannot_be_read_exits_2(tmp_path: Path, key_file: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing is known of the log then: that is neither good nor damaged."""
    write_log(tmp_path / "log")
    key_file.chmod(0o644)

    codes = [
        main(["audit", "verify", str(tmp_path / "missing")]),
        main(["audit", "verify", str(tmp_path)]),
        main(["audit", "verify", "--key", str(key_file), str(tmp_path / "log")]),
    ]

    assert codes == [2, 2, 2]
    assert "audit_file_unreadable" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "-1", "x", "9" * 19, "\N{SUPERSCRIPT TWO}"])
def test_a_number_that_no_record_has_is_wrong_usage(tmp_path: Path, number: str):
    """argparse says so, and exits 2."""
    with pytest.raises(SystemExit) as exit_info:
        main(["audit", "verify", str(tmp_path / "log"), f"--expect-seq={number}"])

    assert exit_info.value.code == 2


def test_memory_does_not_grow_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Twenty thousand records, two megabytes: a small part of that is held at once."""
    write_log(tmp_path / "log", key=None, records=20_000)
    main(["audit", "verify", str(tmp_path / "log")])  # what is imported on first use is not meant
    size = (tmp_path / "log").stat().st_size

    tracemalloc.start()
    code = main(["audit", "verify", str(tmp_path / "log")])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert code == 0
    assert peak < size / 2
