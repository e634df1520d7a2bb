"""Who else could change where a path leads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broker.paths import Trusted, Weakness, process_trusts, weakness_above

US = os.geteuid()

STRANGER = 4_713


def above(path: Path, *, volumes: frozenset[Path] = frozenset(), uid: int = US, links_only: bool = False) -> str | None:
    """Say which place of *path* is weak, relative to the directory of the test."""
    trusted = Trusted(uid=uid, gid=os.getegid())
    found = weakness_above(
        path, trusted=trusted, links_only=links_only, is_volume=lambda directory: Path(directory) in volumes
    )
    return None if found is None else found.path.name


@pytest.fixture(name="deep")
def make_deep(tmp_path: Path) -> Path:
    """Make directories a/b/c, and give the path of a file in the last."""
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    return tmp_path / "a" / "b" / "c" / "file"


def test_directories_of_root_and_of_us_are_good(deep: Path):
    """Those of pytest stand in a sticky one of root's."""
    assert above(deep) is None


@pytest.mark.parametrize("name", ["a", "b", "c"])
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_one_that_everybody_can_write_is_found_wherever_it_is(deep: Path, name: str, mode: int):
    """It is as if everything below it were."""
    weak = next(parent for parent in deep.parents if parent.name == name)
    weak.chmod(mode)

    assert above(deep) == name


def test_the_first_one_is_named(deep: Path):
    """Who mends the last only has mended nothing."""
    for parent in list(deep.parents)[:3]:
        parent.chmod(0o777)

    assert above(deep) == "a"


def test_a_group_is_trusted_if_it_is_ours(deep: Path):
    """Our primary one, and root's; any other could be anybody."""
    deep.parent.chmod(0o775)
    ours = Trusted(uid=US, gid=deep.parent.stat().st_gid)
    other = Trusted(uid=US, gid=STRANGER)

    assert weakness_above(deep, trusted=ours) is None
    if deep.parent.stat().st_gid != 0:
        assert weakness_above(deep, trusted=other) is not None


@pytest.mark.parametrize("mode", [0o775, 0o2770, 0o777])
def test_a_foreign_group_is_not(deep: Path, mode: int):
    """Only root can make such a directory for a test; others see that their own group is none of root's."""
    if US == 0:
        os.chown(deep.parent, 0, STRANGER)
    deep.parent.chmod(mode)

    found = weakness_above(deep, trusted=Trusted(uid=US, gid=STRANGER + 1), is_volume=lambda _: False)

    assert isinstance(found, Weakness)
    assert "writable for" in found.what
    assert found.fix.startswith("chmod ")


def test_a_sticky_bit_is_enough(deep: Path):
    """As in /tmp: only the owner of an entry can rename it, and entries are judged, too."""
    (deep.parents[1]).chmod(0o1777)

    assert above(deep) is None


def test_the_root_of_a_volume_may_be_open(deep: Path):
    """A container cannot say who else has it mounted; what is in it is judged all the same."""
    volume, below = deep.parents[1], deep.parent
    volume.chmod(0o2777)

    assert above(deep, volumes=frozenset({volume})) is None
    below.chmod(0o777)
    assert above(deep, volumes=frozenset({volume})) == below.name


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o2757])
def test_the_root_of_a_volume_that_hands_no_group_on_is_as_any_directory(deep: Path, mode: int):
    """A disk that everybody can write is no volume of a pod; who runs one is told how to mend it."""
    volume = deep.parents[1]
    volume.chmod(mode)

    found = weakness_above(
        deep,
        trusted=Trusted(uid=US, gid=os.getegid()),
        is_volume=lambda directory: Path(directory) == volume,
    )

    assert found is not None
    assert found.path == volume
    assert found.fix == f"chmod o-w {volume}, or chmod +t (in Kubernetes, give the pod an fsGroup)"


def test_the_root_of_the_system_is_no_such_volume():
    """Everything is below it."""
    found = weakness_above(Path("/file"), trusted=Trusted(uid=US, gid=STRANGER), is_volume=lambda _: True)

    assert found is None  # as long as it is not writable for others


def test_a_directory_of_another_user_is_found(deep: Path):
    """Its owner can do everything in it, whatever its mode."""
    if US == 0:
        os.chown(deep.parents[1], STRANGER, -1)
        assert above(deep) == "b"
    else:
        assert above(deep, uid=STRANGER) is not None


def test_links_are_followed_and_what_they_lead_to_is_judged(tmp_path: Path, deep: Path):
    """Absolute and relative ones, and what goes up again."""
    (tmp_path / "absolute").symlink_to(deep.parent)
    (tmp_path / "a" / "relative").symlink_to("b/../b/c")
    (tmp_path / "via").symlink_to("absolute")
    paths = [tmp_path / "absolute" / "x", tmp_path / "a" / "relative" / "x", tmp_path / "via" / ".." / "c" / "x"]

    assert [above(path) for path in paths] == [None] * 3
    deep.parents[1].chmod(0o777)
    assert [above(path) for path in paths] == ["b"] * 3


def test_a_file_that_is_a_link_counts_as_its_target(tmp_path: Path, deep: Path):
    """As a ConfigMap of Kubernetes has it: config.toml, ..data/config.toml, ..2026/config.toml."""
    (deep.parent / "..2026").mkdir()
    (deep.parent / "..2026" / "config.toml").write_text("")
    (deep.parent / "..data").symlink_to("..2026")
    (deep.parent / "config.toml").symlink_to("..data/config.toml")
    volume = deep.parent
    volume.chmod(0o2777)

    assert above(volume / "config.toml", volumes=frozenset({volume})) is None
    assert above(volume / "config.toml") == "c"
    (volume / "..2026").chmod(0o777)
    assert above(volume / "config.toml", volumes=frozenset({volume})) == "..2026"


def test_a_link_of_another_user_is_found(tmp_path: Path, deep: Path):
    """In a sticky directory it can stand beside ours."""
    if US != 0:
        assert process_trusts().uid == US  # nobody else's link can be made without root
        return
    (tmp_path / "link").symlink_to(deep.parent)
    os.chown(tmp_path / "link", STRANGER, -1, follow_symlinks=False)

    assert above(tmp_path / "link" / "file") == "link"
    assert above(tmp_path / "link" / "file", links_only=True) == "link"


def test_with_links_only_an_open_directory_counts_where_a_link_stands_in_it(tmp_path: Path, deep: Path):
    """As /var/log, which a group of its own may write on some systems."""
    deep.parents[1].chmod(0o777)
    assert above(deep, links_only=True) is None

    (deep.parents[1] / "link").symlink_to("c")
    assert above(deep.parents[1] / "link" / "file", links_only=True) == "b"


def test_what_is_missing_ends_the_way(deep: Path):
    """It is about to be made in a directory that was judged."""
    assert above(deep.parent / "missing" / "file") is None
    deep.parent.chmod(0o777)
    assert above(deep.parent / "missing" / "file") == "c"


def test_links_in_a_circle_are_an_error_of_the_system(tmp_path: Path):
    """As for every other reader of the path."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(OSError, match="symbolic links"):
        weakness_above(tmp_path / "a")


def test_a_relative_path_begins_where_we_are():
    """And all that is above that counts."""
    assert weakness_above(Path("file")) == weakness_above(Path.cwd() / "file")
