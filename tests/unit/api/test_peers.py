"""Who connected, as the kernel says."""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path

import pytest

from broker.api.peers import (
    NO_ID,
    OVERFLOW_ID,
    Unknowns,
    has_left,
    is_whole_map,
    parse_peer,
    peer_of,
    read_unknowns,
    supplementary_groups,
    unknown_ids,
    unread,
)
from broker.policy.peer import Peer

WHOLE = "         0          0 4294967295\n"
NOBODY = Unknowns(uids=frozenset({NO_ID}), gids=frozenset({NO_ID}))
OVERFLOWS = Unknowns(uids=frozenset({NO_ID, OVERFLOW_ID}), gids=frozenset({NO_ID, OVERFLOW_ID}))


def ucred(pid: int, uid: int, gid: int) -> bytes:
    return struct.pack("=iII", pid, uid, gid)


def groups(*gids: int) -> bytes:
    return b"".join(struct.pack("=I", gid) for gid in gids)


def test_the_kernels_numbers_are_read():
    """Nothing else is looked at."""
    peer = parse_peer("app", ucred(12, 1000, 1001), groups(44, 27), NOBODY)

    assert peer == Peer(listener="app", uid=1000, gid=1001, groups=frozenset({44, 27}), pid=12)


def test_a_pid_of_0_is_taken():
    """Across PID namespaces it is 0, and everything else is right."""
    assert parse_peer("app", ucred(0, 1000, 1000), b"", NOBODY).uid == 1000


def test_an_overflow_id_is_unknown_in_a_user_namespace():
    """Each of the ids for itself."""
    peer = parse_peer("app", ucred(0, OVERFLOW_ID, OVERFLOW_ID), groups(44, OVERFLOW_ID), OVERFLOWS)

    assert (peer.uid, peer.gid, peer.groups) == (None, None, frozenset({44}))


def test_the_overflow_id_is_a_user_where_every_id_is_mapped():
    """Then nobody (65534) is somebody."""
    assert parse_peer("app", ucred(1, OVERFLOW_ID, 0), b"", NOBODY).uid == OVERFLOW_ID


def test_no_id_is_unknown_everywhere():
    """(uid_t) -1 is the kernel's word for none."""
    peer = parse_peer("app", ucred(0, NO_ID, NO_ID), groups(NO_ID), NOBODY)

    assert (peer.uid, peer.gid, peer.groups) == (None, None, frozenset())


@pytest.mark.parametrize("text", [WHOLE, "0 0 4294967295", "\n0\t0 4294967295\n\n"])
def test_the_whole_map_is_recognized(text: str):
    """However the kernel sets the columns."""
    assert is_whole_map(text)
    assert unknown_ids(text) == {NO_ID}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0 100000 65536",
        "0 0 65536",
        "0 1000 1",
        "0 0 4294967295\n5 5 1",
        "1 1 4294967295",
        "0 0",
        "nonsense",
    ],
)
def test_any_other_map_makes_the_overflow_id_unknown(text: str):
    """Also an empty one, and one that cannot be read."""
    assert not is_whole_map(text)
    assert unknown_ids(text) == {NO_ID, OVERFLOW_ID}


def test_our_own_maps_are_read(tmp_path: Path):
    """One for users and one for groups."""
    (tmp_path / "uid_map").write_text(WHOLE)
    (tmp_path / "gid_map").write_text("0 1000 1\n")

    unknowns = read_unknowns(tmp_path)

    assert unknowns == Unknowns(uids=frozenset({NO_ID}), gids=frozenset({NO_ID, OVERFLOW_ID}))


def test_maps_that_cannot_be_read_are_taken_for_partial(tmp_path: Path):
    """When in doubt, an overflow id is unknown."""
    assert read_unknowns(tmp_path / "missing") == OVERFLOWS


@pytest.mark.parametrize("raw", [b"", b"\0" * 11, b"\0" * 13])
def test_bytes_of_another_size_are_refused(raw: bytes):
    """They are not a ucred, whatever they are."""
    with pytest.raises(struct.error):
        parse_peer("app", raw, b"", NOBODY)


def test_groups_that_do_not_fit_count_as_none():
    """Which can only deny something; the uid still counts."""

    def too_small(level: int, option: int, size: int) -> bytes:
        raise OSError(errno.ERANGE, "not enough room")

    assert supplementary_groups(too_small) == b""


def test_another_failure_of_the_kernel_is_not_taken_for_no_groups():
    """It ends the connection instead."""

    def broken(level: int, option: int, size: int) -> bytes:
        raise OSError(errno.ENOPROTOOPT, "what is that")

    with pytest.raises(OSError, match="what is that"):
        supplementary_groups(broken)


@pytest.mark.real_time
def test_a_real_peer_is_found_out():
    """Ourselves, at both ends of a pair of sockets."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours, "app", read_unknowns())

    assert (peer.listener, peer.uid, peer.gid, peer.pid) == ("app", os.geteuid(), os.getegid(), os.getpid())
    assert peer.groups == frozenset(os.getgroups())


@pytest.mark.real_time
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_peer_of_another_user_is_found_out(tmp_path: Path):
    """With the groups it has, and not with those of its parent."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as theirs:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(10)
        path.chmod(0o777)
        tmp_path.chmod(0o755)
        child = os.fork()
        if child == 0:
            try:
                os.chdir(tmp_path)  # those above it are closed to others
                os.setgroups([44, 27])
                os.setresgid(1001, 1001, 1001)
                os.setresuid(1000, 1000, 1000)
                theirs.connect("s")
            finally:
                os._exit(0)
        ours, _ = listening.accept()
        os.waitpid(child, 0)
        with ours:
            peer = peer_of(ours, "app", read_unknowns())

    assert (peer.uid, peer.gid, peer.groups) == (1000, 1001, frozenset({44, 27}))


@pytest.mark.real_time
def test_who_has_ended_a_connection_has_left_it():
    """Also where what it sent before has not been read, and where the connection is closed already."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"unread")
        stays = has_left(ours)
        theirs.shutdown(socket.SHUT_WR)
        left = has_left(ours)

    assert (stays, left, has_left(ours)) == (False, True, True)


def test_what_lies_unread_is_counted():
    """Also when nothing more can come."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        nothing = unread(ours)
        theirs.send(b"GET")
        ours.shutdown(socket.SHUT_RD)

        assert (nothing, unread(ours)) == (0, 3)
        with pytest.raises(BrokenPipeError):
            theirs.send(b" /")
