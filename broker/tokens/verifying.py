"""Checks what an issuer signed with the keys that it publishes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from broker.oauth.checks import Check, CheckFailedError
from broker.oauth.jwks import JwkSet, KeyNotFoundError
from broker.oauth.reasons import Reason
from broker.tokens.acquire import Registration
from broker.tokens.ports import KeySource

Read = TypeVar("Read")


def keys_of(registration: Registration) -> KeySource:
    """Give the keys of the issuer. Raises CheckFailedError ``keys_unavailable`` where it has none."""
    if registration.keys is None:
        raise CheckFailedError(Reason.KEYS_UNAVAILABLE, Check.KEY, message="the issuer has no keys to check with")
    return registration.keys


async def with_keys(registration: Registration, read: Callable[[JwkSet], Read]) -> Read:
    """
    Give what *read* does with the issuer's keys, which are fetched anew once where one is missing (JWKS-03).

    Raises RemoteError: what *read* raises, or ``keys_unavailable``.
    """
    source = keys_of(registration)
    keys = await source.get()
    try:
        return read(keys)
    except KeyNotFoundError:
        newer = await source.get_newer(keys)
        if newer is None:
            raise
        return read(newer)
