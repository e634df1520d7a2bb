from __future__ import annotations

from broker.telemetry.audit_chain import Damage, Position, begin, is_fragment, step
from broker.telemetry.audit_format import ZERO_HEAD, AuditKeys, advance, encode, encode_checkpoint

KEYS = AuditKeys.derive(b"k" * 32)

OPENED = encode(1, 0.0, "opened", {"format": 1, "log": "a", "previous": ZERO_HEAD.hex()})
SECOND = encode(2, 0.0, "token_served", {"token": "t"})
HEAD = advance(advance(ZERO_HEAD, OPENED), SECOND)
AT_SECOND = Position(seq=2, head=HEAD, count=2, log="a")


def test_records_follow_one_another():
    """Number, head and count go on with each."""
    first, damage_of_first = step(Position(), OPENED, SECOND, KEYS)
    second, damage_of_second = step(first, SECOND, None, KEYS)

    assert (damage_of_first, damage_of_second) == ((), ())
    assert second == AT_SECOND


def test_a_good_checkpoint_covers_what_came_before_it():
    """With the key that is given, or with none when none is given."""
    for keys in (KEYS, None):
        line = encode_checkpoint(3, 0.0, count=2, head=HEAD, keys=keys)
        after, damage = step(AT_SECOND, line, None, keys)

        assert damage == ()
        assert (after.covered, after.count, after.head) == (3, 3, advance(HEAD, line))


def test_a_checkpoint_of_no_key_covers_nothing_where_a_key_is_given():
    """It continues the chain and protects nothing."""
    line = encode_checkpoint(3, 0.0, count=2, head=HEAD, keys=None)

    after, damage = step(AT_SECOND, line, None, KEYS)

    assert damage == ()
    assert after.covered is None


def test_a_checkpoint_with_another_head_or_count_is_an_edit():
    """Going on from what it says, so that the next one is compared anew."""
    other_head = encode_checkpoint(3, 0.0, count=2, head=ZERO_HEAD, keys=KEYS)
    other_count = encode_checkpoint(3, 0.0, count=5, head=HEAD, keys=KEYS)

    after, damage = step(AT_SECOND, other_head, None, KEYS)

    assert damage == (Damage.EDITED,)
    assert after.head == advance(ZERO_HEAD, other_head)
    assert step(AT_SECOND, other_count, None, KEYS)[1] == (Damage.EDITED,)


def test_a_forged_checkpoint_covers_nothing():
    """Though its head is right."""
    line = encode_checkpoint(3, 0.0, count=2, head=HEAD, keys=KEYS).replace(b"1970", b"1971")

    after, damage = step(AT_SECOND, line, None, KEYS)

    assert damage == (Damage.FORGED,)
    assert after.covered is None


def test_a_checkpoint_that_was_renamed_is_seen():
    """``head`` is a member of checkpoints alone."""
    line = encode_checkpoint(3, 0.0, count=2, head=HEAD, keys=KEYS).replace(b'"checkpoint"', b'"chockpoint"')

    assert step(AT_SECOND, line, None, KEYS)[1] == (Damage.EDITED,)


def test_a_number_that_is_missing_or_comes_again_is_told_apart():
    """The one means removal, the other a repetition or another order."""
    assert step(AT_SECOND, encode(4, 0.0, "x", {}), None, None)[1] == (Damage.REMOVED,)
    assert step(AT_SECOND, encode(2, 0.0, "x", {}), None, None)[1] == (Damage.REORDERED,)
    assert step(AT_SECOND, encode(2, 0.0, "x", {}), None, None)[0].seq == 2


def test_a_file_goes_on_with_the_head_of_the_one_before():
    """Any other head means that the end of that file is missing, another log, that it is not of this one."""
    good = encode(3, 0.0, "opened", {"format": 1, "log": "a", "previous": HEAD.hex()})
    cut = encode(3, 0.0, "opened", {"format": 1, "log": "a", "previous": ZERO_HEAD.hex()})
    other = encode(3, 0.0, "opened", {"format": 1, "log": "b", "previous": HEAD.hex()})
    at = begin(AT_SECOND)

    assert step(at, good, None, None) == (Position(seq=3, head=advance(HEAD, good), count=1, log="a"), ())
    assert step(at, cut, None, None)[1] == (Damage.CUT,)
    assert step(at, other, None, None)[1] == (Damage.RESTARTED,)
    assert step(AT_SECOND, good, None, None)[1] == (Damage.RESTARTED,)


def test_a_first_file_begins_with_number_one():
    """A head of zeros claims that nothing came before."""
    line = encode(7, 0.0, "opened", {"format": 1, "log": "a", "previous": ZERO_HEAD.hex()})
    middle = encode(7, 0.0, "opened", {"format": 1, "log": "a", "previous": HEAD.hex()})

    assert step(Position(), line, None, None)[1] == (Damage.REMOVED,)
    assert step(Position(), middle, None, None)[1] == ()


def test_a_file_that_begins_with_anything_else_has_lost_its_beginning():
    """Its head is not known until the next checkpoint."""
    after, damage = step(Position(), SECOND, None, None)

    assert damage == (Damage.REMOVED,)
    assert after.head is None
    assert step(after, encode(3, 0.0, "x", {}), None, None)[0].head is None


def test_an_incomplete_opened_record_is_an_edit():
    """Without a previous head there is nothing to go on from."""
    after, damage = step(Position(), encode(1, 0.0, "opened", {"format": 1, "log": "a"}), None, None)

    assert damage == (Damage.EDITED,)
    assert after.head is None


def test_a_torn_line_is_part_of_the_hash_and_has_no_number():
    """If the record after it gives its length."""
    torn = b'{"seq":3,"ti\n'
    recovered = encode(3, 0.0, "recovered", {"torn_bytes": 12, "unprotected": 0, "chain": "continued"})

    after, damage = step(AT_SECOND, torn, recovered, None)

    assert is_fragment(torn, recovered)
    assert damage == ()
    assert (after.seq, after.count, after.head) == (2, 2, advance(HEAD, torn))
    assert step(after, recovered, None, None)[1] == ()
    assert step(AT_SECOND, torn, SECOND, None)[1] == (Damage.EDITED,)
    assert step(AT_SECOND, torn, None, None)[1] == (Damage.EDITED,)


def test_a_chain_that_begins_anew_goes_on_from_nothing():
    """And is always reported."""
    line = encode(3, 0.0, "recovered", {"torn_bytes": 0, "unprotected": 0, "chain": "restarted"})

    after, damage = step(AT_SECOND, line, None, None)

    assert damage == (Damage.RESTARTED,)
    assert (after.seq, after.count, after.head) == (3, 1, advance(ZERO_HEAD, line))
