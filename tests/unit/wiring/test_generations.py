from __future__ import annotations

from pathlib import Path

from broker.keys.identity import TransportCertificate, load_transport_certificate
from broker.wiring.generations import Generations
from tests.unit.keys.certificates import CLIENT_AUTH, WALL, intermediate, issue, written


def certificate(tmp_path: Path) -> TransportCertificate:
    """Issue and load another one each time."""
    pair = issue(by=intermediate(), usages=CLIENT_AUTH, signs=True)
    return load_transport_certificate(
        name="x",
        cert_file=written(tmp_path / "x.pem", pair.cert_pem()),
        key_file=written(tmp_path / "x.key", pair.key_pem()),
        generation=1,
        wall_now=WALL,
    )


def test_an_earlier_generation_is_there_until_nothing_is_bound_to_it(tmp_path: Path):
    """A token that is bound to it is of no use without it."""
    old, new = certificate(tmp_path), certificate(tmp_path)
    generations = Generations({"x": old})

    generations.put_to_use({"x": new})
    kept = generations.retire({old.thumbprint})
    found = (generations.get(old.thumbprint), generations.get(new.thumbprint))
    retired = generations.retire(())

    assert kept == ()
    assert found == (old, new)
    assert retired == (old,)
    assert generations.get(old.thumbprint) is None
    assert generations.thumbprints() == {new.thumbprint}


def test_who_asked_for_it_is_told_of_a_retired_generation_after_it_is_gone(tmp_path: Path):
    """Connections that present it can be closed then."""
    old, new = certificate(tmp_path), certificate(tmp_path)
    generations = Generations({"x": old})
    told: list[tuple[str, bool]] = []
    generations.on_retired(lambda one: told.append((one.thumbprint, generations.get(one.thumbprint) is None)))

    generations.put_to_use({"x": new})
    generations.retire({new.thumbprint})

    assert told == [(old.thumbprint, True)]


def test_one_that_comes_back_is_no_earlier_one(tmp_path: Path):
    """An operator who puts the old files back means them."""
    old, new = certificate(tmp_path), certificate(tmp_path)
    generations = Generations({"x": old})

    generations.put_to_use({"x": new})
    generations.put_to_use({"x": old})

    assert generations.earlier() == (new,)
    assert generations.retire({old.thumbprint}) == (new,)
    assert generations.get(old.thumbprint) == old


def test_a_certificate_in_force_is_never_retired(tmp_path: Path):
    """Whatever is bound to it or not."""
    old = certificate(tmp_path)
    generations = Generations({"x": old})

    assert generations.retire(()) == ()
    assert generations.get(old.thumbprint) == old
