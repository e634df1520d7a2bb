"""Plain numbers, written as the library writes its own."""

from __future__ import annotations

from prometheus_client import Counter, Histogram, generate_latest

from broker.telemetry.collectors import Registry
from broker.telemetry.request_series import BUCKETS, Requests

SECONDS = (0.0, 1e-5, 0.0005, 0.0006, 0.001, 0.3, 60.0, 61.0, 0.1, 0.2)


def by_the_library() -> bytes:
    registry = Registry()
    counter = Counter(
        "token_broker_requests_total",
        "Requests to the broker, by outcome: ok, not_modified or the error code of the answer.",
        ("route", "outcome"),
        registry=registry,
    )
    histogram = Histogram(
        "token_broker_request_duration_seconds",
        "Seconds from a request's arrival to its answer.",
        ("route",),
        registry=registry,
        buckets=BUCKETS,
    )
    for route in ("/a", "/b"):
        for outcome in ("ok", "not_found"):
            counter.labels(route, outcome)
        histogram.labels(route)
    for seconds in SECONDS:
        counter.labels("/a", "ok").inc()
        histogram.labels("/a").observe(seconds)
    counter.labels("other", "other").inc()
    histogram.labels("other").observe(0.25)
    return generate_latest(registry)


def test_the_page_is_the_one_that_the_library_would_write():
    """Byte for byte: names, help, order, buckets, sums."""
    registry, requests = Registry(), Requests()
    registry.register(requests)
    for route in ("/a", "/b"):
        requests.expect(route, ("ok", "not_found"))
    for seconds in SECONDS:
        requests.count("/a", "ok", seconds)
    requests.count("other", "other", 0.25)

    assert generate_latest(registry) == by_the_library()


def test_what_is_announced_again_goes_on():
    """A reload starts nothing anew."""
    registry, requests = Registry(), Requests()
    registry.register(requests)
    requests.expect("/a", ("ok",))
    requests.count("/a", "ok", 0.1)
    requests.expect("/a", ("ok", "more"))

    page = generate_latest(registry).decode()
    assert 'token_broker_requests_total{outcome="ok",route="/a"} 1.0' in page
    assert 'token_broker_requests_total{outcome="more",route="/a"} 0.0' in page


def test_several_that_are_alike_are_counted_at_once():
    """As if each had been counted alone."""
    pages = []
    for several in (True, False):
        registry, requests = Registry(), Requests()
        registry.register(requests)
        for number in (3,) if several else (1, 1, 1):
            requests.count("/a", "ok", 0.25, number)
        pages.append(generate_latest(registry))

    assert pages[0] == pages[1]
