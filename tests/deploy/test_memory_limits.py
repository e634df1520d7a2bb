"""The limits on memory of unit, sidecar and container: one figure, which the page on sizing explains."""

from __future__ import annotations

import re

from tests.deploy.manifests import BROKER, NATIVE, ORDINARY, ROOT, container, pod, rendered

SIZING = (ROOT / "docs" / "explanation" / "sizing.md").read_text()


def found(pattern: str, text: str) -> int:
    """Give the number that a pattern finds in its only place."""
    (number,) = re.findall(pattern, text, re.MULTILINE)
    return int(number)


LIMIT = found(r"have a limit of (\d+) MiB", SIZING)
REQUEST = found(r"requests (\d+) MiB", SIZING)


def test_the_sidecar_has_the_figures_of_the_page() -> None:
    """In both forms and in every overlay."""
    for name in (*NATIVE, *ORDINARY):
        resources = container(pod(rendered(name)), BROKER)["resources"]

        assert (resources["requests"]["memory"], resources["limits"]["memory"]) == (f"{REQUEST}Mi", f"{LIMIT}Mi")


def test_the_unit_has_the_figures_of_the_page() -> None:
    """It is slowed down before it is killed, and has more than the sidecar requests by then."""
    unit = (ROOT / "deploy" / "systemd" / "token-broker.service").read_text()

    assert found(r"^MemoryMax=(\d+)M$", unit) == LIMIT
    assert REQUEST < found(r"^MemoryHigh=(\d+)M$", unit) < LIMIT


def test_the_container_has_the_figure_of_the_page() -> None:
    """In the command that people type."""
    assert found(r"--memory=(\d+)m", (ROOT / "docs" / "howto" / "container.md").read_text()) == LIMIT


def test_the_limit_is_what_the_rule_of_the_page_gives() -> None:
    """One and a half times what the most tokens take, and no more than a quarter above that."""
    most = found(r"^\| 10,000 tokens, [^|]*\| (\d+) MB", SIZING) * 1.5

    assert most <= LIMIT * 1.048576 <= most * 1.25


def test_the_request_is_more_than_a_broker_with_a_few_tokens_takes() -> None:
    """Or the node would count on less than there is."""
    assert found(r"^\| a broker with a few tokens \| \d+ to (\d+) MB", SIZING) < REQUEST * 1.048576
