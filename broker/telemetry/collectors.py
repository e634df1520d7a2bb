"""Ways of ``prometheus_client`` bent to ours: no noise, one family at a time, and values that are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Registry(CollectorRegistry):
    """Without the gauge beside each counter that says when it was made: it doubles the page and serves nobody here."""

    def collect(self) -> Iterator[Metric]:
        """Collect all but those."""
        for family in super().collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


class One(CollectorRegistry):
    """A single family, so that it is written by itself."""

    def __init__(self, family: Metric) -> None:
        super().__init__()
        self._family = family

    def collect(self) -> Iterator[Metric]:
        """Give it."""
        yield self._family


class Watched(Collector):
    """What is asked for when somebody looks, because it changes without an event."""

    def __init__(self) -> None:
        self.log_lines_lost: Callable[[], int] = int
        self.audit_healthy: bool | None = None

    def describe(self) -> Iterable[Metric]:
        """Name the families without asking anybody."""
        return (_lost(0), _healthy(None))

    def collect(self) -> Iterator[Metric]:
        """Ask now."""
        yield _lost(self.log_lines_lost())
        yield _healthy(self.audit_healthy)


def _healthy(state: bool | None) -> Metric:
    family = GaugeMetricFamily(
        "token_broker_audit_healthy", "1 while audit records can be written, 0 in a gap; absent without an audit log."
    )
    if state is not None:
        family.add_metric((), float(state))
    return family


def _lost(lines: int) -> Metric:
    return CounterMetricFamily(
        "token_broker_log_lines_lost_total", "Log lines that could not be written at once.", value=lines
    )
