"""What callers are told when an authorization cannot be begun, finished or found."""

from __future__ import annotations

from broker.consent.pending import Failed, Granted, Phase, state_of
from broker.errors import BrokerError


class NotConsentedToError(BrokerError):
    """The token is not one that a person consents to."""

    def __init__(self) -> None:
        super().__init__("not_consented_to", "the token is not one that a person consents to")


class NoSuchAuthorizationError(BrokerError):
    """There is none, it is somebody else's, or the binding is wrong: no caller learns which (rules.md R4)."""

    def __init__(self) -> None:
        super().__init__("not_found", "there is no such authorization")


class WrongBindingError(NoSuchAuthorizationError):
    """To the caller the same; to the audit log a person who came back to what another one had started."""


class NoSuchGrantError(BrokerError):
    """The grant to be renewed does not exist, or is of another token."""

    def __init__(self) -> None:
        super().__init__("not_found", "there is no such grant")


class FinishedError(BrokerError):
    """The authorization is finished, or being finished: *phase* says how."""

    def __init__(self, phase: Phase) -> None:
        super().__init__("finished", "the authorization is finished")
        self.state = state_of(phase)
        self.grant = phase.grant if isinstance(phase, Granted) else None
        self.reason = phase.reason if isinstance(phase, Failed) else None
        self.check = phase.check if isinstance(phase, Failed) else None


class TooManyPendingError(BrokerError):
    """So many authorizations are open, of one workload or in all, that no other is begun."""

    def __init__(self) -> None:
        super().__init__("too_many_pending", "too many authorizations wait for a person")


class SubjectMismatchError(BrokerError):
    """Another person consented than the one whose grant was to be renewed."""

    def __init__(self) -> None:
        super().__init__(
            "subject_mismatch",
            "another person consented than the one whose grant this is",
            hint="log in as the same person, or give the grant up first",
        )


class NotRunningError(BrokerError):
    """The broker is starting or stopping: nothing is redeemed that might not be finished."""

    def __init__(self) -> None:
        super().__init__("draining", "the broker is stopping")


class NotAcceptedError(BrokerError):
    """Nothing was sent, for a reason that may pass, *error*: the authorization is as it was, and may be tried again."""

    def __init__(self, error: BrokerError) -> None:
        super().__init__(error.code, error.message, hint=error.hint)
        self.error = error
