from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families

from broker.telemetry.token_series import EXPIRIES, PIECE, REFRESHES, SUCCESS, Refreshes, expiries

HOSTILE = 'a"b\\c\nd'


def read(pieces: Iterator[bytes]) -> dict[tuple[str, tuple[str, ...]], float]:
    """Read a page as Prometheus does."""
    (family,) = text_string_to_metric_families(b"".join(pieces).decode())
    return {
        (
            sample.name,
            tuple(sample.labels[name] for name in ("token", "outcome") if name in sample.labels),
        ): sample.value
        for sample in family.samples
    }


def test_a_token_has_its_successes_from_the_start_and_a_failure_from_its_first():
    """Announcing it again, after a reload, counts nothing anew."""
    refreshes = Refreshes()
    refreshes.expect("directory")
    before = read(refreshes.pieces())
    refreshes.count("directory", SUCCESS)
    refreshes.count("directory", "timed_out")
    refreshes.count("directory", "timed_out")
    refreshes.expect("directory")

    assert before == {(REFRESHES, ("directory", "success")): 0}
    assert read(refreshes.pieces()) == {
        (REFRESHES, ("directory", "success")): 1,
        (REFRESHES, ("directory", "timed_out")): 2,
    }


def test_no_piece_has_more_than_a_few_tokens():
    """However many there are; together they are all."""
    refreshes = Refreshes()
    for number in range(2 * PIECE + 1):
        refreshes.expect(f"t{number}")

    head, *pieces = refreshes.pieces()

    assert b"# TYPE token_broker_refresh_total counter" in head
    assert [len(piece.splitlines()) for piece in pieces] == [PIECE, PIECE, 1]


def test_what_is_counted_while_the_page_is_written_does_no_harm():
    """A new token is on the next page, a new number on this one or the next."""
    refreshes = Refreshes()
    for number in range(2 * PIECE):
        refreshes.expect(f"t{number}")
    pieces = refreshes.pieces()
    written = [next(pieces), next(pieces)]
    refreshes.count("new", SUCCESS)
    refreshes.count(f"t{2 * PIECE - 1}", "timed_out")

    found = read(iter([*written, *pieces]))

    assert (REFRESHES, ("new", "success")) not in found
    assert found[REFRESHES, (f"t{2 * PIECE - 1}", "timed_out")] == 1


def test_expiries_are_exact_and_absent_where_there_is_no_token():
    """And asked for one by one, as they are written."""
    asked = []

    def source() -> Iterator[tuple[str, float | None]]:
        for number in range(2 * PIECE):
            asked.append(number)
            yield f"t{number}", 1_790_000_000.25 if number % 2 else None

    pieces = expiries(source())
    head, first = next(pieces), next(pieces)
    so_far = len(asked)
    found = read(iter([head, first, *pieces]))

    assert so_far == PIECE
    assert found == {(EXPIRIES, (f"t{number}",)): 1_790_000_000.25 for number in range(1, 2 * PIECE, 2)}


def test_a_name_cannot_break_a_line():
    """No configuration admits such a name; nothing depends on that."""
    refreshes = Refreshes()
    refreshes.expect(HOSTILE)

    assert read(refreshes.pieces()) == {(REFRESHES, (HOSTILE, "success")): 0}
    assert read(expiries([(HOSTILE, 1.0)])) == {(EXPIRIES, (HOSTILE,)): 1.0}
