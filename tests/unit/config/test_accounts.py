"""Users and groups of the host."""

from __future__ import annotations

from broker.config.accounts import HostAccounts


def test_root_is_user_0_and_group_0() -> None:
    """The one user and group that each Linux host has."""
    accounts = HostAccounts()

    assert (accounts.uid("root"), accounts.gid("root")) == (0, 0)


def test_an_unknown_name_is_none() -> None:
    """Not an exception of the standard library."""
    accounts = HostAccounts()

    assert accounts.uid("no-such-user-here") is None
    assert accounts.gid("no-such-group-here") is None
