from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from broker.telemetry.grant_series import CONSENTS, GRANTS, PIECE, STATES, Survey
from broker.tokens.serving import TokenState


def read(survey: Survey) -> dict[tuple[str, ...], float]:
    """Read the series as Prometheus does."""
    page = b"".join(survey.pieces()).decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_every_state_of_a_token_is_there_from_the_start():
    """An alert on grants that a person has to mend sees the first one."""
    found = read(Survey(["people"]))

    assert found == {(GRANTS, state, "people"): 0 for state in STATES}


def test_the_states_are_those_that_callers_see():
    """A grant is never idle: it is refreshed to be kept alive."""
    assert set(STATES) == {state.value for state in TokenState} - {"idle"}


def test_grants_are_counted_and_their_first_end_is_kept():
    """Of access tokens and of consents; that of a grant which has ended is over already."""
    survey = Survey(["people"])
    list(
        survey.take(
            [
                ("people", "fresh", 20.0, 300.0),
                ("people", "fresh", 10.0, 200.0),
                ("people", "consent_required", None, 100.0),
                ("people", "pending", None, None),
            ]
        )
    )

    found = read(survey)

    assert survey.ends == {"people": 10.0}
    assert found[GRANTS, "fresh", "people"] == 2
    assert found[GRANTS, "consent_required", "people"] == 1
    assert found[CONSENTS, "people"] == 200


def test_others_have_their_turn_while_many_grants_are_looked_at():
    """The loop answers callers in between."""
    turns = list(Survey([]).take(("people", "fresh", None, None) for _ in range(10 * PIECE + 1)))

    assert turns == [b""] * 10
