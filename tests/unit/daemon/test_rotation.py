from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.config.settings import Settings
from broker.daemon.adoption import Adoption, Prepared
from broker.daemon.rotation import Rotation
from broker.errors import RemoteError
from broker.oauth.messages import Request
from broker.wiring import Identities
from tests.unit.daemon.rotating import WITH_CERTIFICATE, Place
from tests.unit.keys.certificates import root, written

pytestmark = pytest.mark.real_time


async def test_what_is_new_and_good_is_put_to_use(tmp_path: Path):
    """A certificate and a key in one look; the configuration is the same object."""
    place = Place(tmp_path)
    rotation = Rotation(Adoption(place.parts))
    settings, before = place.parts.settings, place.parts.identities
    place.certificate()
    place.key()

    came = await rotation.rotate()
    again = await rotation.rotate()

    assert (came.rotated, came.refused, came.dropped) == (("certificate.x", "key.k"), (), ())
    assert (again.rotated, again.refused) == ((), ())
    assert place.parts.settings is settings
    assert place.parts.identities.certificates["x"].generation == 2
    assert place.parts.identities.keys["k"].thumbprint != before.keys["k"].thumbprint
    assert [event["items"] for event in place.events("files_rotated")] == ["certificate.x,key.k"]
    assert [event["generation"] for event in place.events("certificate_loaded")] == [2]
    place.parts.telemetry.close()


async def test_what_cannot_be_used_is_said_once_and_what_is_mended_too(tmp_path: Path):
    """Until its content changes; also when the old files come back."""
    place = Place(tmp_path)
    rotation = Rotation(Adoption(place.parts))
    shutil.copytree(tmp_path, tmp_path.parent / "kept")
    before = place.parts.identities.certificates["x"]
    for _ in range(2):
        place.certificate(half=True)
        for _ in range(2):
            came = await rotation.rotate()
            assert [one.reason for one in came.refused] == ["certificate_mismatch"]
    for name in ("x.pem", "x.key"):
        shutil.copy(tmp_path.parent / "kept" / name, tmp_path / name)
    came = await rotation.rotate()

    assert (came.rotated, came.refused) == ((), ())
    assert place.parts.identities.certificates["x"] is before
    assert [event["item"] for event in place.events("rotation_refused")] == ["certificate.x"] * 2
    assert [event["item"] for event in place.events("rotation_mended")] == ["certificate.x"]
    place.parts.telemetry.close()


async def test_what_was_refused_by_a_reload_stays_refused(tmp_path: Path):
    """A rotation is no reload: the file of the configuration has its mistakes still."""
    place = Place(tmp_path)
    place.parts.serving.refused = True
    place.parts.serving.restart = ("daemon",)
    place.certificate()

    await Rotation(Adoption(place.parts)).rotate()

    assert place.parts.serving.refused
    assert place.parts.serving.restart == ("daemon",)
    place.parts.telemetry.close()


async def test_a_compromised_certificate_is_retired_with_the_answer(tmp_path: Path):
    """Whoever has connections with it is told; where nothing was in use before, nothing is dropped."""
    place = Place(tmp_path)
    rotation = Rotation(Adoption(place.parts))
    told: list[str] = []
    place.parts.generations.on_retired(lambda one: told.append(one.thumbprint))
    old = place.parts.identities.certificates["x"].thumbprint

    nothing = await rotation.rotate(["certificate.x", "key.k"])
    place.certificate()
    came = await rotation.rotate(["certificate.x", "key.k"])
    again = await rotation.rotate(["certificate.x"])

    assert (nothing.dropped, came.dropped, again.dropped) == ((), ("certificate.x",), ())
    assert told == [old]
    assert [event["reason"] for event in place.events("certificate_retired")] == ["compromised"]
    place.parts.telemetry.close()


async def test_what_can_be_compromised_is_what_is_configured(tmp_path: Path):
    """Certificates and signing keys, by their sections."""
    place = Place(tmp_path)

    assert Rotation(Adoption(place.parts)).sections() == ("certificate.x", "key.k")
    place.parts.telemetry.close()


class Losing(Adoption):
    """Loses the CA file of the issuer before the means are built."""

    def prepare(self, settings: Settings, fresh: Identities, *, compromised: Collection[str] = ()) -> Prepared:
        (settings.path.parent / "ca.pem").unlink()
        return super().prepare(settings, fresh, compromised=compromised)


async def test_a_file_that_goes_between_check_and_use_changes_nothing(tmp_path: Path):
    """The CA file of an issuer is read once more when connections are prepared."""
    written(tmp_path / "ca.pem", root().cert_pem())
    place = Place(tmp_path, WITH_CERTIFICATE.replace("[key.k]", 'ca_file = "ca.pem"\n[key.k]'))
    before = place.parts.means
    place.certificate()

    came = await Rotation(Losing(place.parts)).rotate()

    assert (came.rotated, [(one.item, one.reason) for one in came.refused]) == ((), [("certificate.x", "file_missing")])
    assert place.parts.means is before
    place.parts.telemetry.close()


async def test_a_compromise_that_cannot_be_carried_out_is_said_to_be_none(tmp_path: Path):
    """Nothing is dropped, though no file of its own is at fault: whoever asked for it has to know."""
    written(tmp_path / "ca.pem", root().cert_pem())
    place = Place(tmp_path, WITH_CERTIFICATE.replace("[key.k]", 'ca_file = "ca.pem"\n[key.k]'))
    done = await Rotation(Adoption(place.parts)).rotate(["key.k"])

    came = await Rotation(Losing(place.parts)).rotate(["key.k"])

    assert (done.adopted, came.adopted, came.dropped) == (True, False, ())
    assert [(one.item, one.reason) for one in came.refused] == [("key.k", "file_missing")]
    place.parts.telemetry.close()


@asynccontextmanager
async def running(rotation: Rotation) -> AsyncIterator[None]:
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(rotation.run())
        yield
        task.cancel()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_files_are_looked_at_by_itself(tmp_path: Path):
    """What changed is used when a second look sees the same, and the older means are closed."""
    place = Place(tmp_path)
    adoption = Adoption(place.parts)
    old = place.parts.means
    async with running(Rotation(adoption, look_interval=0.05, sweep_interval=0.01)):
        place.certificate()
        await until(lambda: place.parts.means is not old)
        await until(lambda: place.events("certificate_retired"))
    await adoption.close()
    place.parts.telemetry.close()

    assert place.parts.identities.certificates["x"].generation == 2
    assert [event["reason"] for event in place.events("certificate_retired")] == ["unused"]
    with pytest.raises(RemoteError):
        await old.sessions[0].send(Request(method="GET", url="https://localhost:1/", headers={}))


async def test_what_is_still_being_written_is_not_looked_into(tmp_path: Path):
    """Nothing is refused that changes from look to look."""
    place = Place(tmp_path)
    async with running(Rotation(Adoption(place.parts), look_interval=0.0, sweep_interval=0.05)):
        for _ in range(20):
            place.certificate(half=True)
            await asyncio.sleep(0.02)
        place.certificate()
        await until(lambda: place.events("files_rotated"))
    place.parts.telemetry.close()

    assert len(place.events("rotation_refused")) <= 3  # and not twenty


class Broken(Adoption):
    """Has a bug."""

    async def sweep(self) -> None:
        raise ZeroDivisionError("canary")


async def test_a_bug_in_a_look_does_not_stop_the_daemon(tmp_path: Path):
    """It is reported without its message, and the next look is made."""
    place = Place(tmp_path)
    async with running(Rotation(Broken(place.parts), sweep_interval=0.01)):
        await until(lambda: len(place.events("unexpected_failure")) > 1)
    place.parts.telemetry.close()

    assert place.events("unexpected_failure")[0]["where"] == "rotation"
    assert "canary" not in place.log.getvalue()
