"""The reference pages of events, metrics and the audit log say what the code does: names are compared both ways."""

from __future__ import annotations

import hmac
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from broker.events import TokenServed
from broker.telemetry.audit_format import ALLOWED, CHECKPOINT_EVERY, FORMAT, SUCCESS, AuditKeys, encode, members_of
from broker.telemetry.folding import RULES
from broker.telemetry.logs import MAX_FIELD, MAX_FRAMES, MAX_LINE
from tests.unit.telemetry.audit_logs import KEY, kill, open_log, sample, write_served
from tests.unit.telemetry.catalogue import KINDS, TYPES, exposed

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"
EVENTS, METRICS, AUDIT = ((REFERENCE / f"{name}.md").read_text() for name in ("events", "metrics", "audit"))


def rows(page: str, header: str) -> list[list[str]]:
    """Give the cells of all tables of *page* with this header line."""
    found, reading = [], False
    for line in page.splitlines():
        if line == header:
            reading = True
        elif not line.startswith("|"):
            reading = False
        elif reading and not line.startswith("| ---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_event_is_in_the_catalog_as_it_is_in_the_code():
    """Name, level, whether it is audited, and all fields in their order."""
    documented = [
        (words(name)[0], level, audited, words(fields))
        for name, level, audited, fields, _ in rows(EVENTS, "| event | level | audited | fields | meaning |")
    ]
    coded = [
        (kind.name, kind.severity.name.lower(), "yes" if kind.audited else "no", list(TYPES[kind])) for kind in KINDS
    ]

    assert sorted(documented) == sorted(coded)


def test_every_field_is_explained():
    """Once, in the order of the alphabet."""
    documented = [words(field)[0] for field, _ in rows(EVENTS, "| field | meaning |")]

    assert documented == sorted({field for kind in KINDS for field in TYPES[kind]})


def test_the_limits_of_the_log_are_those_of_the_code():
    """Numbers in prose get old first."""
    for number in (MAX_FIELD, MAX_FRAMES, MAX_LINE):
        assert f"{number:,}" in EVENTS
    refusals = next(rule for kind, rule in RULES.items() if kind.name == "request_refused")
    assert f"first {refusals.limit} within a minute" in EVENTS
    assert f"one in {refusals.every:.0f} s" in EVENTS


def test_every_metric_is_on_the_page_with_its_type_and_labels():
    """And none is there that does not exist."""
    documented = {
        words(name)[0]: (kind, words(labels))
        for name, kind, labels, _ in rows(METRICS, "| metric | type | labels | meaning |")
    }
    coded = {name: found for name, found in exposed().items() if name.startswith("token_broker_")}

    assert {name: (kind, set(labels)) for name, (kind, labels) in documented.items()} == coded


def test_every_record_is_on_the_page_with_its_members():
    """In the order in which they are written."""
    documented = {words(name)[0]: words(members) for name, members in rows(AUDIT, "| event | members |")}
    coded = {kind.name: [member for member, _ in layout] for kind, layout in ALLOWED.items()}
    for kind in SUCCESS:
        coded[kind.name].append("outcome")

    assert documented == coded


def test_the_records_of_the_log_about_itself_are_on_the_page(tmp_path: Path):
    """As a real log has them: one that was torn, had a gap and was sealed."""
    path = tmp_path / "audit.log"
    sample(path)
    log = open_log(path)
    log._put("gap", {"lost": 1, "refused": 0, "reason": "enospc"})
    log.close()
    written: dict[str, list[str]] = {}
    for record in map(json.loads, path.read_bytes().splitlines()):
        if record["event"] not in {kind.name for kind in KINDS}:
            written[record["event"]] = list(record)[3:]

    documented = {words(name)[0]: words(members) for name, members, _ in rows(AUDIT, "| event | members | meaning |")}

    assert documented == written
    assert f"`format` is {FORMAT}" in AUDIT
    assert f"after {CHECKPOINT_EVERY:,} records" in AUDIT


def test_the_example_is_a_record():
    """Byte for byte what the code writes."""
    example = re.search(r'^\{"seq":42,.*\}$', AUDIT, re.MULTILINE)
    assert example is not None
    fields = json.loads(example[0])

    event = TokenServed(**{name: fields[name] for name in TYPES[TokenServed]})

    assert encode(42, 1_790_000_000.25, event.name, members_of(event)) == example[0].encode() + b"\n"


def test_the_labels_of_the_keys_are_on_the_page():
    """Whoever checks a log by hand needs them to the letter."""
    labels = re.findall(r'"(token-broker audit v1 [a-z ]+)"', AUDIT)

    assert set(labels) == {
        f"token-broker audit v1 {purpose}" for purpose in ("checkpoint", "fingerprint", "key identifier")
    }
    assert (
        hmac.digest(KEY, b"token-broker audit v1 key identifier", "sha256").hex()[:16]
        == AuditKeys.derive(KEY).identifier
    )


def check_by_hand(directory: Path, *files: Path, key: bytes | None = KEY) -> subprocess.CompletedProcess[str]:
    """Run the program of the page."""
    program = re.search(r"```python\n(.*?)```", AUDIT, re.DOTALL)
    assert program is not None
    environment = {name: value for name, value in os.environ.items() if name != "KEY_FILE"}
    if key is not None:
        (directory / "key").write_bytes(key)
        environment["KEY_FILE"] = str(directory / "key")
    return subprocess.run(
        [sys.executable, "-I", "-c", program[1], *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def test_a_log_can_be_checked_by_hand(tmp_path: Path):
    """With the program of the page: two files, a torn line, a tail."""
    path = tmp_path / "audit.log"
    log = open_log(path)
    write_served(log, 3)
    kill(log)
    with path.open("ab") as file:
        file.write(b'{"seq":5,"ti')
    log = open_log(path)
    write_served(log, 2)
    path.rename(tmp_path / "audit.log.1")
    log.reopen()
    write_served(log, 2)
    kill(log)

    done = check_by_hand(tmp_path, tmp_path / "audit.log.1", path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "good up to 10, 2 records after that are not protected"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b'"generation":1', b'"generation":2', "something before 5 was changed"),
        (b'"count":4', b'"count":5', "5 is forged"),
        (b'{"seq":3,', b'{"seq":4,', "records are missing before 4"),
    ],
)
def test_damage_is_found_by_hand(tmp_path: Path, before: bytes, after: bytes, said: str):
    """The program of the page can fail."""
    path = tmp_path / "audit.log"
    path.write_bytes(sample(path).replace(before, after, 1))

    done = check_by_hand(tmp_path, path)

    assert done.returncode != 0
    assert said in done.stderr
