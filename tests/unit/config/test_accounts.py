"""Users and groups of the host."""

from __future__ import annotations

from broker.config.accounts import AnyAccounts, HostAccounts


def test_root_is_user_0_and_group_0() -> None:
    """The one user and group that each Linux host has."""
    accounts = HostAccounts()

    assert (accounts.uid("root"), accounts.gid("root")) == (0, 0)


def test_an_unknown_name_is_none() -> None:
    """Not an exception of the standard library."""
    accounts = HostAccounts()

    assert accounts.uid("no-such-user-here") is None
    assert accounts.gid("no-such-group-here") is None


def test_a_stand_in_knows_every_name_and_makes_nobody_root() -> None:
    """For a file that is looked at elsewhere than where it is used."""
    accounts = AnyAccounts()

    assert accounts.uid("no-such-user-here") == accounts.gid("no-such-group-here")
    assert accounts.uid("root") != 0
