"""Every kind of event, and an example of each made from its annotations, so that a new event is tested unasked."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from prometheus_client.parser import text_string_to_metric_families

from broker import events
from broker.events import Event
from broker.telemetry.metrics import Metrics

KINDS: tuple[type[Event], ...] = tuple(
    kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, Event) and kind is not Event
)


def _types(kind: type[Event]) -> dict[str, type]:
    """Give the type of each field; the first of several, which is the one beside None."""
    hints = get_type_hints(kind)
    return {field.name: (get_args(hints[field.name]) or (hints[field.name],))[0] for field in fields(kind)}


TYPES = {kind: _types(kind) for kind in KINDS}


def example(kind: type[Event], text: str = "text", **values: Any) -> Event:
    """Make an event, of one and no more, with *text* in each string and a number in each number, but for *values*."""
    samples: dict[type, Any] = {str: text, int: 7, float: 7.5, bool: True}
    made = {name: 1 if name == "count" else samples[wanted] for name, wanted in TYPES[kind].items()}
    return kind(**(made | values))


def served(**values: Any) -> events.TokenServed:
    """Make the event that matters most."""
    event = example(events.TokenServed, **values)
    assert isinstance(event, events.TokenServed)
    return event


def refused(**values: Any) -> events.RequestRefused:
    """Make a refusal of one request."""
    event = example(events.RequestRefused, **values)
    assert isinstance(event, events.RequestRefused)
    return event


def exposed() -> dict[str, tuple[str, set[str]]]:
    """Give the type and the labels of every metric of a registry that has seen everything, by its name."""
    names = ("text",)
    metrics = Metrics()
    metrics.expect(**dict.fromkeys(inspect.signature(metrics.expect).parameters, names))
    metrics.watch_tokens(lambda: [("text", 1.0)])
    metrics.watch_availability(lambda: [("text", True)])
    metrics.watch_grants(lambda: [("text", "fresh", 2.0, 3.0)])
    for kind in KINDS:
        metrics.count(example(kind))
    found = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[family.name + ("_total" if family.type == "counter" else "")] = (family.type, labels)
    return found
