from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.events import Event, TokenServed
from broker.telemetry.audit_format import (
    ALLOWED,
    ENDLESS,
    MAX_LINE,
    ORDER,
    AuditKeys,
    encode,
    encode_checkpoint,
    is_authentic,
    lines_of,
    members_of,
    parse,
    timestamp,
)
from tests.unit.telemetry.catalogue import KINDS, example, served

KEYS = AuditKeys.derive(b"k" * 32)
OTHER_KEYS = AuditKeys.derive(b"o" * 32)

AUDITED = tuple(kind for kind in KINDS if kind.audited)


def name_of(kind: type[Event]) -> str:
    return kind.name


NOT_RECORDED = {
    "configuration_loaded": {"restart"},
    "configuration_refused": {"problems", "found"},  # the latter is recorded as ``count``
    "token_refreshed": {"expires_in", "duration"},
    "token_refresh_failed": {"hint", "duration"},
    "client_suspended": {"hint"},
    "authorization_failed": {"hint"},
    "client_trial_failed": {"hint"},
    "rotation_refused": {"problem"},
    "request_refused": {"error"},  # recorded as ``outcome``
}
"""Fields of audited events that have been looked at and left out."""


def test_every_audited_event_has_a_record_and_no_other_has():
    """An event that says ``audited`` without an entry in the allow list would be recorded by its name alone."""
    audited = {kind for kind in KINDS if kind.audited}

    assert set(ALLOWED) == audited


@pytest.mark.parametrize("kind", AUDITED, ids=name_of)
def test_each_field_of_an_audited_event_was_decided_on(kind: type[Event]):
    """A new field is in the allow list or in the list of those left out: nobody adds one without a thought."""
    members = {member for member, _ in ALLOWED[kind]}
    names = {field.name for field in fields(kind)}

    assert names - members == NOT_RECORDED.get(kind.name, set())


def test_a_field_that_is_not_allowed_is_not_recorded():
    """A field added to an event does not get out through the audit log by itself."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Wordy(TokenServed):
        access_token: str

    event = Wordy(**{field.name: getattr(served(), field.name) for field in fields(TokenServed)}, access_token="s3cret")

    assert members_of(event) == {}


def test_an_event_that_is_not_known_is_recorded_by_its_name():
    """That it happened is not lost, and none of its fields is written."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Unheard(Event):
        name: ClassVar[str] = "unheard"
        secret: str

    event = Unheard(secret="s3cret")
    line = encode(1, 0.0, event.name, members_of(event))

    assert json.loads(line) == {"seq": 1, "time": "1970-01-01T00:00:00.000000Z", "event": "unheard"}


@pytest.mark.parametrize("value", [b"bytes", object, ["list"], {"a": 1}, float("nan"), float("inf")], ids=repr)
def test_a_value_that_is_not_a_primitive_is_not_recorded(value: Any):
    """Nobody knows what its text would be."""
    members = members_of(served(fingerprint=value))

    assert "fingerprint" not in members
    assert members["token"] == "text"


def test_members_stand_in_a_fixed_order():
    """Reading a log with one's eyes is possible, and the bytes of a record depend on nothing else."""
    for kind in ALLOWED:
        line = encode(1, 0.0, kind.name, members_of(example(kind)))
        names = list(json.loads(line))

        assert names[:3] == ["seq", "time", "event"]
        assert names[3:] == sorted(names[3:], key=ORDER.index)


def test_no_field_of_an_event_takes_the_name_of_a_member_of_the_log_itself():
    """Nothing that an event holds can pass for a number, a time or a checkpoint."""
    assert not {"seq", "time", "event", "head", "hmac"} & set(ORDER)


def test_a_token_served_is_recorded_like_this():
    """The bytes of the most frequent record, as they stand in the documentation."""
    event = TokenServed(
        listener="app",
        uid=1000,
        gid=1000,
        pid=None,
        workload="app",
        token="directory",
        fingerprint="0123456789abcdef",
        generation=3,
        stale=False,
    )

    line = encode(42, 1_790_000_000.25, event.name, members_of(event))

    assert line == (
        b'{"seq":42,"time":"2026-09-21T14:13:20.250000Z","event":"token_served","listener":"app","uid":1000,'
        b'"gid":1000,"pid":null,"workload":"app","token":"directory","grant":null,"generation":3,'
        b'"fingerprint":"0123456789abcdef","stale":false,"outcome":"ok"}\n'
    )


@given(st.text(max_size=3_000))
def test_no_string_breaks_a_line_or_makes_it_longer_than_the_limit(text: str):
    """Whatever is in a field, a record is one line of ASCII that is read back."""
    line = encode(1, 0.0, "token_served", members_of(served(**dict.fromkeys(("listener", "workload", "token"), text))))

    assert len(line) <= MAX_LINE
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert not any(byte < 0x20 or byte == 0x7F for byte in line[:-1])
    assert parse(line) is not None


@pytest.mark.parametrize("kind", AUDITED, ids=name_of)
def test_a_record_of_nothing_but_escapes_fits(kind: type[Event]):
    """The longest escape is twelve bytes for one character, in all fields at once."""
    line = encode(2**53, 0.0, kind.name, members_of(example(kind, text="\N{PILE OF POO}" * 10_000)))

    assert len(line) <= MAX_LINE


def test_a_string_that_was_cut_says_so():
    """A name that fills its field to the last character is not taken for a whole one."""
    members = json.loads(encode(1, 0.0, "token_served", members_of(served(token="a" * 300))))

    assert members["token"] == "a" * 255 + "…"


def test_times_are_in_utc_with_microseconds():
    """RFC 3339, with all its digits even where they are zeros."""
    assert timestamp(0.0) == "1970-01-01T00:00:00.000000Z"
    assert timestamp(1_790_000_000.123456) == "2026-09-21T14:13:20.123456Z"
    assert timestamp(1_790_000_000.123456, "milliseconds") == "2026-09-21T14:13:20.123Z"


def test_a_checkpoint_is_authentic_under_its_key_only():
    """Another key, or none, does not make it."""
    line = encode_checkpoint(9, 0.0, count=8, head=bytes(32), keys=KEYS)
    bare = encode_checkpoint(9, 0.0, count=8, head=bytes(32), keys=None)

    assert is_authentic(line, KEYS)
    assert not is_authentic(line, OTHER_KEYS)
    assert not is_authentic(bare, KEYS)
    assert set(json.loads(line)) - set(json.loads(bare)) == {"key", "hmac"}


def test_every_byte_of_a_checkpoint_is_covered_by_its_hmac():
    """Its time, its numbers, its head, the HMAC itself, and what stands around it."""
    line = encode_checkpoint(9, 0.0, count=8, head=bytes(range(32)), keys=KEYS)

    for index in range(len(line)):
        for bit in (0x01, 0x20):
            edited = line[:index] + bytes([line[index] ^ bit]) + line[index + 1 :]
            assert not is_authentic(edited, KEYS), edited


def test_the_keys_for_different_purposes_differ():
    """A fingerprint can never be passed off as the HMAC of a checkpoint, and the identifier reveals no key."""
    assert len({KEYS.checkpoint, KEYS.fingerprint, b"k" * 32}) == 3
    assert KEYS.identifier not in KEYS.checkpoint.hex()
    assert "checkpoint=" not in repr(KEYS)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[]\n",
        b'{"seq":1,"event":"x"}',
        b'{"seq":0,"event":"x"}\n',
        b'{"seq":true,"event":"x"}\n',
        b'{"seq":1.0,"event":"x"}\n',
        b'{"seq":1,"event":7}\n',
        b'{"seq":1,"event":"\xff"}\n',
        b'{"seq":' + b"9" * 4_000 + b"}\n",
        b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}\n",
        b'{"seq":1,"event":"x","pad":"' + b"x" * MAX_LINE + b'"}\n',
    ],
    ids=lambda line: line[:24],
)
def test_what_is_not_a_record_is_not_read_as_one(line: bytes):
    """Neither by mistake nor with an exception."""
    assert parse(line) is None


@given(st.binary(max_size=300))
def test_reading_is_total(line: bytes):
    """Any bytes are a record or are not."""
    parse(b'{"seq":1,"event":"x",' + line + b"}\n")


def test_members_are_read_with_their_types():
    """A number that is a string, or the other way round, is no member at all."""
    record = parse(b'{"seq":1,"event":"x","n":3,"m":-3,"b":true,"t":"text","d":"' + b"ab" * 32 + b'","e":"AB"}\n')
    assert record is not None

    assert [record.number(name) for name in ("n", "m", "b", "t", "none")] == [3, None, None, None, None]
    assert [record.text(name) for name in ("t", "n", "none")] == ["text", None, None]
    assert [record.digest(name) for name in ("d", "e", "n")] == [bytes.fromhex("ab" * 32), None, None]


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=30))
def test_lines_are_cut_in_the_same_places_whatever_the_chunks(text: bytes, sizes: list[int]):
    """Reading in pieces gives what reading at once gives."""
    chunks = []
    rest = text
    for size in sizes:
        chunks.append(rest[:size])
        rest = rest[size:]

    assert list(lines_of([*chunks, rest])) == [line for line in re.split(rb"(?<=\n)", text) if line]


def test_a_line_without_end_is_given_in_pieces():
    """A damaged file does not fill the memory."""
    pieces = list(lines_of(b"x" * MAX_LINE for _ in range(100)))

    assert max(map(len, pieces)) <= ENDLESS + MAX_LINE
    assert b"".join(pieces) == b"x" * MAX_LINE * 100
