"""What the life of an authorization needs of the grants: ``broker.tokens.grants`` fills it, tests with fakes."""

from __future__ import annotations

from typing import Protocol

from broker.tokens.acquire import Registration
from broker.tokens.grant import Grant
from broker.tokens.spec import IssuedToken


class GrantBook(Protocol):
    """Where a consent ends up."""

    def one(self, token: str) -> str | None:
        """Give the id of the grant of a token that has one for all, None where there is none yet."""

    def grant(self, grant_id: str) -> Grant:
        """Give what is known of a grant. Raises KeyError."""

    def came_of(self, authorization_id: str) -> str | None:
        """Give the id of the grant in use that an authorization has led to, None where it has led to none."""

    def settled(self, client: str) -> Registration:
        """Give with what the server is known to take a client, as far as anything is. Raises KeyError."""

    async def hold(self, grant: Grant) -> None:
        """Make a grant durable that is still to be verified: not usable, and revoked after a crash."""

    async def adopt(self, grant: Grant, token: IssuedToken, *, held: str) -> None:
        """Take a verified grant into use, new or under the id of an older one; *held* is the id it was held by."""

    async def discard(self, grant: Grant) -> None:
        """Give up a grant that failed a check: revoked at the issuer and erased."""
