"""
The kinds of fault that are about HTTP itself: what comes before an answer, how it is framed, when it comes.

A part of the catalogue in ``faults``, which says what the members mean; ``wire_misbehaving`` carries them out.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.sandbox.fault_kinds import MAX_DELAY, RESOURCES, Kind, Parameter, Where, integer, is_seconds, one_of

MAX_INTERIM = 1_000
"""Interim answers: more than any client should put up with."""

WIRE_KINDS: Mapping[str, Kind] = {
    "interim": Kind(
        summary="So many interim answers (1xx) come first; then processed.",
        parameters={"status": one_of(103, 100, 102, 103), "count": integer(1, 1, MAX_INTERIM)},
    ),
    "slow_head": Kind(
        summary="Processed; the head of the answer comes byte by byte.",
        parameters={"seconds_per_byte": Parameter(0.1, f"seconds up to {MAX_DELAY:.0f}", is_seconds)},
    ),
    "wrong_length": Kind(
        summary="Processed; Content-Length differs from the body by so much, and the connection stays open.",
        parameters={"difference": integer(-1, -1_000, 1_000)},
    ),
    "bad_chunk": Kind(summary="Processed; the body is chunked, and the size of its second chunk is no number."),
    "gzip": Kind(summary="Processed; the body is compressed, whatever the client accepts, and says so."),
    "early_answer": Kind(
        summary="An answer before the body of the request was read, and the connection ends at once; not processed.",
        parameters={"status": integer(413, 200, 599)},
    ),
    "invalid_token": Kind(
        summary="401 invalid_token, by the scheme of the request, though the token may be good; not processed.",
        where=RESOURCES,
    ),
    "use_dpop_nonce": Kind(
        summary="A nonce is asked for, and given, though the proof may have a good one; not processed.",
        where=RESOURCES | {Where.TOKEN, Where.PAR},
    ),
}
"""Every such kind by name."""
