"""Who Iridium knows: applications, and the people who log in at a provider or at Iridium itself."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

DEFAULT_REDIRECT_URI = "http://127.0.0.1:8765/callback"
"""Where people come back to: one address with its port, since Iridium compares it letter by letter."""

PEOPLE = ("ada", "bob", "carol")
"""Who can log in, at the providers and at Iridium."""

LOCAL = "iridium"
"""The provider of people who log in at Iridium itself."""

SINGLE_PAGE = "sandbox-single-page"
NATIVE = "sandbox-native"
CONFIDENTIAL = "sandbox-confidential"
FOREIGN = "sandbox-foreign"
"""A single page application of another tenant."""


class ApplicationType(StrEnum):
    """What an application is registered as."""

    SINGLE_PAGE = "single_page"
    NATIVE = "native"
    CONFIDENTIAL = "confidential"
    """It alone has a secret."""


def bcrypt_like() -> str:
    """Make up what looks like a BCrypt hash: that is what Iridium's tokens and stored secrets look like."""
    return "$2a$10$" + "".join(secrets.choice(_OF_BCRYPT) for _ in range(53))


_OF_BCRYPT = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(slots=True, kw_only=True)
class Application:
    """A client. *secret_hash* is what Iridium stores in place of *secret*, which is empty for a public one."""

    client_id: str
    type: ApplicationType
    redirect_uri: str
    secret: str = field(default="", repr=False)
    tenant: str = "sandbox"
    secret_hash: str = field(default_factory=bcrypt_like, repr=False)

    @property
    def subject(self) -> str:
        """Its identity; not its ``client_id``."""
        return _identifier("application", self.client_id)

    def as_json(self) -> dict[str, Any]:
        """Give what may be shown."""
        return {
            "client_id": self.client_id,
            "type": str(self.type),
            "redirect_uri": self.redirect_uri,
            "tenant": self.tenant,
            "subject": self.subject,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose a token is: a person's or an application's."""

    subject: str
    username: str
    person: str | None = None
    provider: str | None = None


def subject_of(person: str, provider: str) -> str:
    """Give the identity of *person* at *provider*: the same person has another one at each."""
    return _identifier(provider, person)


def _identifier(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode()).hexdigest()[:32]


class Registry:
    """The applications by their ids, and all identities."""

    def __init__(self, *, redirect_uri: str, secret: str) -> None:
        self.applications = {
            one.client_id: one
            for one in (
                Application(client_id=SINGLE_PAGE, type=ApplicationType.SINGLE_PAGE, redirect_uri=redirect_uri),
                Application(client_id=NATIVE, type=ApplicationType.NATIVE, redirect_uri=redirect_uri),
                Application(
                    client_id=CONFIDENTIAL,
                    type=ApplicationType.CONFIDENTIAL,
                    redirect_uri=redirect_uri,
                    secret=secret,
                ),
                Application(
                    client_id=FOREIGN, type=ApplicationType.SINGLE_PAGE, redirect_uri=redirect_uri, tenant="foreign"
                ),
            )
        }

    def application(self, client_id: str) -> Application | None:
        """Give the application *client_id*, if there is one."""
        return self.applications.get(client_id)

    def identity(self, subject: str) -> Identity | None:
        """Give the identity *subject*, if there is one."""
        return next((one for one in self._identities() if one.subject == subject), None)

    def _identities(self) -> list[Identity]:
        people = [
            Identity(
                subject=subject_of(person, provider),
                username=f"{person}@{provider}.sandbox.example",
                person=person,
                provider=provider,
            )
            for person in PEOPLE
            for provider in ("github", "google", LOCAL)
        ]
        return people + [Identity(subject=one.subject, username=one.client_id) for one in self.applications.values()]
