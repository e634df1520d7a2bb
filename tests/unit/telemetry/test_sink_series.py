"""Metrics of token files."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from broker import events
from broker.telemetry.sink_series import HOOKS, WRITES, SinkSeries
from tests.unit.telemetry.catalogue import example
from tests.unit.telemetry.test_file_series import values


def series() -> tuple[SinkSeries, CollectorRegistry]:
    registry = CollectorRegistry()
    made = SinkSeries(registry)
    made.expect(["app"])
    return made, registry


def take(made: SinkSeries, *seen: events.Event) -> None:
    for event in seen:
        made.handlers()[type(event)](event)


def test_every_series_is_there_from_the_start() -> None:
    """So that an alert sees the first failure. Of a file that is not there yet, nothing is known."""
    _, registry = series()

    totals = {name for name in values(registry) if "created" not in name}
    assert totals == {f"sink_writes_total app {outcome}" for outcome in WRITES} | {
        f"sink_hooks_total app {outcome}" for outcome in HOOKS
    }


def test_what_happens_is_counted_by_outcome() -> None:
    """And the file has the end of its token while it is there."""
    made, registry = series()

    take(
        made,
        example(events.SinkWritten, "app", expires_at=9.0),
        example(events.SinkWriteFailed, "app"),
        example(events.SinkHookEnded, "app"),
        example(events.SinkHookFailed, "app", reason="timeout"),
    )
    there = values(registry)
    take(made, example(events.SinkFileRemoved, "app"))
    gone = values(registry)

    assert there["sink_token_expires_timestamp_seconds app"] == 9.0
    assert "sink_token_expires_timestamp_seconds app" not in gone
    assert [gone[f"sink_writes_total app {outcome}"] for outcome in WRITES] == [1.0, 1.0, 1.0]
    assert gone["sink_hooks_total app ok"] == gone["sink_hooks_total app timeout"] == 1.0


def test_what_is_not_configured_has_no_series() -> None:
    """A sink that a reload has removed says its last word to nobody, and no word makes a label."""
    made, registry = series()
    take(made, example(events.SinkWritten, "app", expires_at=9.0))
    before = set(values(registry))

    made.expect([])
    take(
        made,
        example(events.SinkWritten, "app"),
        example(events.SinkFileRemoved, "app"),
        example(events.SinkHookFailed, "app", reason="whatever"),
        example(events.SinkHookFailed, "other"),
    )

    assert set(values(registry)) == before - {"sink_token_expires_timestamp_seconds app"}
    assert values(registry)["sink_writes_total app written"] == 1.0
