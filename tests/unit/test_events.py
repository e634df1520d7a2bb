"""The catalogue of events keeps its promises: primitives only, frozen, documented, one stable name each."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import logging
import re
import types
import typing
from pathlib import Path

import pytest

from broker import events
from broker.errors import LocalError
from broker.events import AuditUnavailableError, Event, Severity, TokenServed

PRIMITIVES = {str, int, float, bool, types.NoneType}

CATALOGUE = tuple(
    kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
)


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
def test_an_event_holds_primitives_only(kind: type[Event]) -> None:
    """What cannot hold an object cannot hold a token, an exception or a request."""
    hints = typing.get_type_hints(kind)

    held = {
        part
        for field in dataclasses.fields(kind)
        for part in typing.get_args(hints[field.name]) or (hints[field.name],)
    }

    assert held <= PRIMITIVES


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
def test_an_event_is_a_frozen_value(kind: type[Event]) -> None:
    """It is the same for the log, the metric and the audit record, and has no room for more."""
    parameters = kind.__dataclass_params__  # type: ignore[attr-defined] # typeshed keeps it private

    assert parameters.frozen
    assert "__slots__" in vars(kind)
    assert "__dict__" not in dir(kind)
    assert all(field.kw_only for field in dataclasses.fields(kind))


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
def test_an_event_is_called_as_its_class_is(kind: type[Event]) -> None:
    """The name in the logs leads to the class that documents it."""
    assert kind.name == re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
def test_an_event_says_what_happened(kind: type[Event]) -> None:
    """The documentation is where the name is: no docstring made up by the dataclass."""
    assert kind.__doc__ is not None
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
def test_class_level_facts_are_not_fields(kind: type[Event]) -> None:
    """Name, severity and audit belong to the kind: nobody sets them for one event."""
    assert not {field.name for field in dataclasses.fields(kind)} & {"name", "severity", "audited"}
    assert isinstance(kind.severity, Severity)
    assert isinstance(kind.audited, bool)


def test_names_are_unique() -> None:
    """Two kinds of one name could not be told apart in the logs."""
    names = [kind.name for kind in CATALOGUE]

    assert len(names) == len(set(names)) > 10


def test_severities_are_those_of_logging() -> None:
    """A level in the configuration means what it means everywhere."""
    assert {severity.name: severity.value for severity in Severity} == {
        "DEBUG": logging.DEBUG,
        "INFO": logging.INFO,
        "WARNING": logging.WARNING,
        "ERROR": logging.ERROR,
    }


def test_serving_and_refusing_are_audited() -> None:
    """Whoever got a token, and whoever did not, is on record (rules.md R9)."""
    audited = {kind.name for kind in CATALOGUE if kind.audited}

    assert {"token_served", "request_refused", "token_refreshed", "token_refresh_failed"} <= audited
    assert "request_answered" not in audited


def test_an_event_shows_its_fields() -> None:
    """It may be printed whole: it holds a fingerprint where others would hold a token."""
    event = TokenServed(
        listener="app",
        uid=1_000,
        gid=1_000,
        pid=None,
        workload="app",
        token="directory",
        fingerprint="0f3a",
        generation=3,
        stale=False,
    )

    assert "fingerprint='0f3a'" in repr(event)
    with pytest.raises(TypeError):
        TokenServed(access_token="x")  # type: ignore[call-arg]


def test_the_audit_being_unavailable_is_our_own_fault() -> None:
    """It is answered with this code (local-api.md)."""
    error = AuditUnavailableError()

    assert isinstance(error, LocalError)
    assert error.code == "audit_unavailable"


def test_the_catalogue_knows_nothing_of_the_broker_but_errors() -> None:
    """Everybody imports it; what it imported would be everywhere."""
    sources = [path.read_text() for path in Path(inspect.getfile(events)).parent.glob("*.py")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]

    imported = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    others = {module for module in imported if module.startswith("broker") and not module.startswith("broker.events.")}

    assert others == {"broker.errors"}
    assert not any(isinstance(node, ast.Import) for node in nodes)
