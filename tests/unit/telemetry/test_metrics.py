from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from broker import __version__, events
from broker.events import Event
from broker.oauth.reasons import Reason
from broker.telemetry.metrics import CONSENT_OUTCOMES, OTHER, REFRESH_OUTCOMES, REQUEST_OUTCOMES, Metrics
from tests.unit.telemetry.catalogue import KINDS, example

ROUTES = ("/v1/tokens", "/v1/tokens/{name}", "unrouted")


def expecting() -> Metrics:
    metrics = Metrics()
    metrics.expect(
        tokens=["directory", "other-token"],
        issuers=["idp"],
        clients=["app"],
        certificates=["transport"],
        keys=["signing"],
        routes=ROUTES,
    )
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    page, _ = metrics.render()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


def refreshed(**values: Any) -> Event:
    return example(events.TokenRefreshed, **({"token": "directory", "issuer": "idp"} | values))


def failed(**values: Any) -> Event:
    return example(events.TokenRefreshFailed, **({"token": "directory", "issuer": "idp"} | values))


def test_every_series_that_the_configuration_makes_possible_starts_at_zero():
    """So that an alert on an increase sees the first one."""
    found = samples(expecting())

    refreshes = {labels: count for (name, labels), count in found.items() if name == "token_broker_refresh_total"}
    assert refreshes == {
        frozenset({("token", token), ("outcome", "success")}): 0 for token in ("directory", "other-token")
    }
    for route in ROUTES:
        for outcome in REQUEST_OUTCOMES:
            assert found["token_broker_requests_total", frozenset({("route", route), ("outcome", outcome)})] == 0
        assert found["token_broker_request_duration_seconds_count", frozenset({("route", route)})] == 0
    assert found["token_broker_refresh_duration_seconds_count", frozenset({("issuer", "idp")})] == 0
    assert found["token_broker_client_suspended", frozenset({("client", "app")})] == 0
    assert found["token_broker_audit_gaps_total", frozenset()] == 0
    assert found["token_broker_log_lines_lost_total", frozenset()] == 0
    assert found["token_broker_unexpected_failures_total", frozenset()] == 0


def test_what_becomes_of_consents_is_counted():
    """From 0 for tokens that people consent to, and for no others."""
    metrics = Metrics()
    metrics.expect(tokens=("directory", "person"), consented=("person",))

    metrics.count(example(events.AuthorizationStarted, token="person"))
    metrics.count(example(events.AuthorizationFailed, token="person"))

    counted = {
        outcome: value(metrics, "token_broker_authorizations_total", token="person", outcome=outcome)
        for outcome in CONSENT_OUTCOMES.values()
    }
    assert counted == {"started": 1, "granted": 0, "failed": 1, "abandoned": 0, "expired": 0}
    assert value(metrics, "token_broker_authorizations_total", token="directory", outcome="started") is None


def test_every_reason_is_an_outcome_of_a_refresh():
    """The set is closed, and it is that of ``broker.oauth.reasons``."""
    assert {"success", *(reason.value for reason in Reason)} == REFRESH_OUTCOMES


def test_a_reason_for_which_a_refresh_failed_has_a_series_from_then_on():
    """Not all that there are, for each of thousands of tokens."""
    metrics = expecting()

    metrics.count(failed(reason=Reason.TIMED_OUT))

    assert value(metrics, "token_broker_refresh_total", token="directory", outcome="timed_out") == 1
    assert value(metrics, "token_broker_refresh_total", token="directory", outcome="server_refused") is None
    assert value(metrics, "token_broker_refresh_total", token="other-token", outcome="timed_out") is None


async def test_a_page_in_pieces_is_the_same_page_and_others_have_their_turn_meanwhile():
    """Whoever asks for a token does not wait until ten thousand lines are written."""
    metrics = Metrics()
    metrics.expect(tokens=[f"t{number}" for number in range(1_000)], routes=ROUTES)
    expiries = [(f"t{number}", 1_790_000_000.5 + number) for number in range(1_000)]
    metrics.watch_tokens(lambda: expiries)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    page, content_type = await metrics.page()
    other.cancel()

    lines = [line for line in page.splitlines() if b"process_" not in line]
    assert lines == [line for line in metrics.render()[0].splitlines() if b"process_" not in line]
    assert content_type == metrics.render()[1]
    assert turns > 10


def test_refreshes_are_counted_by_outcome():
    """With the time they took, whatever became of them."""
    metrics = expecting()

    metrics.count(refreshed(duration=0.2))
    metrics.count(failed(reason=Reason.TIMED_OUT, duration=10.0))
    metrics.count(failed(reason="timed_out", duration=10.0))

    assert value(metrics, "token_broker_refresh_total", token="directory", outcome="success") == 1
    assert value(metrics, "token_broker_refresh_total", token="directory", outcome="timed_out") == 2
    assert value(metrics, "token_broker_refresh_duration_seconds_count", issuer="idp") == 3
    assert value(metrics, "token_broker_refresh_duration_seconds_sum", issuer="idp") == pytest.approx(20.2)


def test_a_failure_is_never_counted_as_a_success():
    """Whatever its reason is called."""
    metrics = expecting()

    metrics.count(failed(reason="success"))

    assert value(metrics, "token_broker_refresh_total", token="directory", outcome="success") == 0
    assert value(metrics, "token_broker_refresh_total", token="directory", outcome=OTHER) == 1


def test_requests_are_counted_by_route_and_outcome():
    """With the time they took."""
    metrics = expecting()
    event = events.RequestAnswered(route="/v1/tokens/{name}", outcome="ok", duration=0.003)

    metrics.count(event)

    assert value(metrics, "token_broker_requests_total", route="/v1/tokens/{name}", outcome="ok") == 1
    assert value(metrics, "token_broker_request_duration_seconds_count", route="/v1/tokens/{name}") == 1
    assert value(metrics, "token_broker_request_duration_seconds_bucket", route="/v1/tokens/{name}", le="0.005") == 1


def test_expiry_is_asked_for_when_somebody_looks():
    """And there is no series while there is no token: 0 would be 1970."""
    metrics = expecting()
    expiries: dict[str, float | None] = {"directory": 1_790_000_300.0, "other-token": None}
    metrics.watch_tokens(expiries.items)

    assert value(metrics, "token_broker_token_expires_timestamp_seconds", token="directory") == 1_790_000_300
    assert value(metrics, "token_broker_token_expires_timestamp_seconds", token="other-token") is None

    expiries["directory"] = None
    assert value(metrics, "token_broker_token_expires_timestamp_seconds", token="directory") is None


def test_a_dead_token_has_a_series_to_alert_on():
    """Unlike its expiry, which is gone with it."""
    metrics = expecting()
    metrics.watch_availability(lambda: [("directory", False), ("other-token", True)])

    assert value(metrics, "token_broker_token_available", token="directory") == 0
    assert value(metrics, "token_broker_token_available", token="other-token") == 1


def test_certificates_and_keys_show_when_they_end():
    """A key without a certificate has no end and no series."""
    metrics = expecting()

    metrics.count(example(events.CertificateLoaded, certificate="transport", not_after=1_800_000_000.0))
    metrics.count(example(events.SigningKeyLoaded, key="signing", not_after=None))

    assert value(metrics, "token_broker_certificate_not_after_timestamp_seconds", certificate="transport") == 1.8e9
    assert value(metrics, "token_broker_key_not_after_timestamp_seconds", key="signing") is None

    metrics.count(example(events.SigningKeyLoaded, key="signing", not_after=1_900_000_000.0))
    assert value(metrics, "token_broker_key_not_after_timestamp_seconds", key="signing") == 1.9e9


def test_a_certificate_that_is_no_longer_configured_disappears():
    """Or an alert on its end would never stop."""
    metrics = expecting()
    metrics.count(example(events.CertificateLoaded, certificate="transport"))

    metrics.expect(certificates=["new"], keys=[])

    assert value(metrics, "token_broker_certificate_not_after_timestamp_seconds", certificate="transport") is None
    metrics.count(refreshed())
    assert value(metrics, "token_broker_refresh_total", token="directory", outcome="success") == 1


def test_a_refused_reload_is_shown_until_a_good_one():
    """So are changes that wait for a restart: what runs is not what the file says."""
    metrics = Metrics()
    names = ("token_broker_configuration_refused", "token_broker_configuration_restart_pending")
    metrics.count(example(events.ConfigurationLoaded, restart=""))
    at_first = [value(metrics, name) for name in names]
    metrics.count(example(events.ConfigurationRefused))
    refused = [value(metrics, name) for name in names]
    metrics.count(example(events.ConfigurationLoaded, restart="listener"))

    assert (at_first, refused) == ([0, 0], [1, 0])
    assert [value(metrics, name) for name in names] == [0, 1]


def test_clocks_that_were_set_and_machines_that_slept_are_counted():
    """What else went wrong at that time may have to do with it."""
    metrics = Metrics()

    metrics.count(events.ClockJumped(by=7_200.0))
    metrics.count(events.MachineResumed(asleep=60.0))

    assert value(metrics, "token_broker_clock_jumps_total") == 1
    assert value(metrics, "token_broker_machine_resumes_total") == 1


def test_suspended_clients_and_sandbox_issuers_are_shown():
    """As states, so that an alert lasts as long as they do."""
    metrics = expecting()

    metrics.count(example(events.ClientSuspended, client="app"))
    metrics.count(events.SandboxIssuerInUse(issuer="idp"))

    assert value(metrics, "token_broker_client_suspended", client="app") == 1
    assert value(metrics, "token_broker_sandbox_issuer", issuer="idp") == 1

    metrics.count(events.ClientResumed(client="app"))
    assert value(metrics, "token_broker_client_suspended", client="app") == 0


def test_a_store_that_cannot_be_written_is_shown_while_that_lasts():
    """0 from the start, so that an alert sees the change."""
    metrics = Metrics()
    before = value(metrics, "token_broker_store_degraded")

    metrics.count(events.StoreDegraded(reason="full"))
    during = value(metrics, "token_broker_store_degraded")
    metrics.count(events.StoreRecovered())

    assert (before, during, value(metrics, "token_broker_store_degraded")) == (0, 1, 0)


def test_grants_that_wait_for_the_disk_are_shown_until_all_is_written():
    """The store may take the next write, and what failed before is still in memory alone."""
    metrics = Metrics()
    seen = []
    for event in (
        events.StoreDegraded(reason="full"),
        events.GrantsUnsaved(grants=1, reason="store_unavailable", hint=None),
        events.StoreRecovered(),
        events.GrantsSaved(),
    ):
        metrics.count(event)
        seen.append(value(metrics, "token_broker_store_degraded"))

    assert seen == [1, 1, 1, 0]


def test_a_suspect_client_is_shown_while_it_is_one():
    """No grant is given up meanwhile, and none is refreshed."""
    metrics = expecting()
    metrics.count(events.ClientSuspected(client="app", grants=3, probe_in=300.0))
    during = value(metrics, "token_broker_client_suspect", client="app")
    metrics.count(events.ClientTrusted(client="app"))

    assert (during, value(metrics, "token_broker_client_suspect", client="app")) == (1, 0)


def test_a_token_of_people_ends_with_the_first_of_their_tokens():
    """Beside those that nobody consents to."""
    metrics = expecting()
    metrics.watch_tokens(lambda: [("directory", 5.0)])
    metrics.watch_grants(lambda: [("people", "fresh", 9.0, None), ("people", "stale", 7.0, 11.0)])

    assert value(metrics, "token_broker_token_expires_timestamp_seconds", token="directory") == 5
    assert value(metrics, "token_broker_token_expires_timestamp_seconds", token="people") == 7


def test_an_audit_gap_is_counted_once_and_shown_while_it_lasts():
    """Also if the log is opened in a gap; without an audit log there is no state to show."""
    metrics = expecting()
    assert value(metrics, "token_broker_audit_healthy") is None

    metrics.count(events.AuditOpened(path="p", seq=1, authenticated=True))
    assert value(metrics, "token_broker_audit_healthy") == 1

    metrics.count(events.AuditGap(lost=1, closed=False, reason="enospc"))
    metrics.count(events.AuditOpened(path="p", seq=1, authenticated=True))
    assert value(metrics, "token_broker_audit_healthy") == 0

    metrics.count(events.AuditGap(lost=9, closed=True, reason="enospc"))
    assert value(metrics, "token_broker_audit_healthy") == 1
    assert value(metrics, "token_broker_audit_gaps_total") == 1


def test_failures_and_lost_lines_are_counted():
    """A folded failure counts for all that it stands for."""
    metrics = expecting()
    metrics.watch_log(lambda: 3)

    metrics.count(example(events.UnexpectedFailure, count=500))

    assert value(metrics, "token_broker_unexpected_failures_total") == 500
    assert value(metrics, "token_broker_log_lines_lost_total") == 3


def test_the_version_and_the_process_are_shown():
    """In the same registry, without the collectors of the library's own."""
    found = samples(expecting())

    assert found["token_broker_build_info", frozenset({("version", __version__)})] == 1
    assert found["process_open_fds", frozenset()] > 0
    assert not [name for name, _ in found if name.startswith("python_")]


def test_the_page_has_no_times_of_creation():
    """They double it."""
    page, content_type = expecting().render()

    assert b"_created" not in page
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"


KNOWN = frozenset({"directory", "other-token", "idp", "app", "transport", "signing", *ROUTES, OTHER, __version__})


@given(st.sampled_from(KINDS), st.text(max_size=40))
def test_no_label_comes_from_anywhere_but_the_configuration_and_closed_sets(kind: type[Event], text: str):
    """Whatever an event holds, the number of series does not grow with it."""
    metrics = expecting()

    metrics.count(example(kind, text=text))

    for name, labels in samples(metrics):
        for label, given_value in labels:
            allowed = KNOWN | REFRESH_OUTCOMES | REQUEST_OUTCOMES | {*CONSENT_OUTCOMES.values()}
            assert given_value in allowed or label == "le", (name, label, given_value)


def test_before_anything_is_announced_everything_is_other():
    """The guard does not depend on being told what to guard."""
    metrics = Metrics()

    metrics.count(refreshed())

    assert value(metrics, "token_broker_refresh_total", token=OTHER, outcome="success") == 1


def test_two_daemons_in_one_process_do_not_share_a_registry():
    """Tests start several."""
    first, second = expecting(), expecting()

    first.count(refreshed())

    assert value(second, "token_broker_refresh_total", token="directory", outcome="success") == 0
