"""
Metrics of requests to the broker: kept as plain numbers, because every token that is handed out counts in them.

A counter of the library takes a lock, and a histogram two: a microsecond in all, of the five that a token may cost.
What is written for a scrape is the library's own families.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 10.0, 60.0)
"""Seconds: a cached token takes less than a millisecond, a first fetch up to 10 s, a long poll up to 60 s."""

BOUNDS = (*map(floatToGoString, (*BUCKETS, float("inf"))),)
"""The label ``le`` of each bucket."""


class _Route:
    """The numbers of one route: by outcome, by bucket of the durations (the last one has no end), and their sum."""

    __slots__ = ("buckets", "outcomes", "seconds")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.buckets = [0] * len(BOUNDS)
        self.seconds = 0.0


class Requests(Collector):
    """Counts requests by route and outcome; whoever counts makes sure that both are from a closed set."""

    def __init__(self) -> None:
        self._routes: dict[str, _Route] = {}

    def expect(self, route: str, outcomes: Iterable[str]) -> None:
        """Start the series of *route* at 0, unless they have been."""
        series = self._of(route)
        for outcome in outcomes:
            series.outcomes.setdefault(outcome, 0)

    def count(self, route: str, outcome: str, seconds: float, requests: int = 1) -> None:
        """Count *requests* that took so many *seconds* each."""
        series = self._routes.get(route) or self._of(route)
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + requests
        series.buckets[bisect_left(BUCKETS, seconds)] += requests
        series.seconds += seconds * requests

    def _of(self, route: str) -> _Route:
        return self._routes.setdefault(route, _Route())

    def describe(self) -> Iterable[Metric]:
        """Name the families."""
        return (_counter(), _histogram())

    def collect(self) -> Iterator[Metric]:
        """Write the families down."""
        answered, took = _counter(), _histogram()
        for route, series in self._routes.items():
            for outcome, count in series.outcomes.items():
                answered.add_metric((route, outcome), count)
            below, buckets = 0, []
            for bound, count in zip(BOUNDS, series.buckets, strict=True):
                below += count
                buckets.append((bound, float(below)))
            took.add_metric((route,), buckets, series.seconds)
        yield answered
        yield took


def _counter() -> CounterMetricFamily:
    return CounterMetricFamily(
        "token_broker_requests",
        "Requests to the broker, by outcome: ok, not_modified or the error code of the answer.",
        labels=("route", "outcome"),
    )


def _histogram() -> HistogramMetricFamily:
    return HistogramMetricFamily(
        "token_broker_request_duration_seconds", "Seconds from a request's arrival to its answer.", labels=("route",)
    )
