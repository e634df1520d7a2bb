from __future__ import annotations

import io
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ed25519

from broker.hostenv.clock import SystemClock, SystemRandomness
from broker.oauth.dialect import IRIDIUM, STANDARD
from broker.oauth.secret import BasicCredentials, ClientSecret
from broker.storage.memory import MemoryStore
from broker.transport.metadata import Described, Metadata
from broker.transport.proxy import Proxy
from broker.wiring import build
from broker.wiring.means import _Lines, means_of, proxy_of
from broker.wiring.proof_keys import ProofKeys
from tests.fakes import Events
from tests.unit.daemon.test_process import CONFIG
from tests.unit.keys.certificates import CLIENT_AUTH, WALL, intermediate, issue, key_pem, written
from tests.unit.wiring.configurations import OTHERS, PROXIED, TWO_KEYS, loaded, settings_of, with_others


def some_proof_keys() -> ProofKeys:
    return ProofKeys(MemoryStore(), clock=SystemClock(), randomness=SystemRandomness(), emit=Events())


def test_clients_of_one_issuer_without_a_certificate_share_a_session(tmp_path: Path):
    """One for the metadata, one for both clients."""
    second = '\n[client.d]\nissuer = "nobody"\nclient_id = "d"\nclient_auth_method = "private_key_jwt"\n'
    settings = settings_of(tmp_path, CONFIG + second + 'signing_keys = ["k"]\nsender_constraint = "none"\n')

    parts = build(settings, loaded(tmp_path, settings), log_stream=io.StringIO())
    parts.telemetry.close()

    assert len(parts.means.sessions) == 2


def test_clients_of_one_certificate_share_its_connections(tmp_path: Path):
    """One session for the metadata, one without certificate, one with; each client its own credential."""
    settings = with_others(tmp_path)
    identities = loaded(tmp_path, settings, wall_now=WALL)
    lines = _Lines(settings, identities, SystemClock(), SystemRandomness(), Events(), proof_keys=some_proof_keys())

    c, d, e = (lines.registration(settings.clients[name]).exchange for name in "cde")

    assert len(lines.sessions) == 3
    assert d.session is e.session
    assert d.session.thumbprint == identities.certificates["x"].thumbprint
    assert c.session.thumbprint is None
    assert [exchange.secret for exchange in (c, d, e)] == [None, None, ClientSecret("canary-4711")]
    assert [exchange.signer is None for exchange in (c, d, e)] == [False, True, True]
    assert "canary" not in repr((identities, e))


def test_the_metadata_of_an_issuer_that_is_as_it_was_is_kept(tmp_path: Path):
    """What was good before a reload is good after it, also while the server is away; the session is a new one."""
    settings = settings_of(tmp_path)
    identities = loaded(tmp_path, settings)
    clock, randomness = SystemClock(), SystemRandomness()
    first = means_of(settings, identities, clock, randomness, Events(), proof_keys=some_proof_keys())
    known = {issuer: first.servers[name] for name, issuer in settings.issuers.items()}

    second = means_of(settings, identities, clock, randomness, Events(), proof_keys=some_proof_keys(), known=known)

    assert second.servers["nobody"] is first.servers["nobody"]
    assert second.registrations["c"].metadata is first.servers["nobody"].metadata
    assert second.registrations["c"].keys is first.servers["nobody"].keys
    assert [session in second.sessions for _, session in second.renewals] == [True]


def test_every_session_to_an_issuer_goes_through_its_proxy(tmp_path: Path):
    """The one for the metadata and the one for tokens; there is no other way to it."""
    written(tmp_path / "proxy.secret", b"canary:4711\n")
    settings = settings_of(tmp_path, PROXIED)
    identities = loaded(tmp_path, settings)

    means = means_of(settings, identities, SystemClock(), SystemRandomness(), Events(), proof_keys=some_proof_keys())

    wanted = Proxy(url="http://proxy.test:3128", credentials=BasicCredentials("Basic Y2FuYXJ5OjQ3MTE="))
    assert [session.proxy for session in means.sessions] == [wanted, wanted]
    assert "Y2FuYXJ5" not in repr((identities, wanted))


def test_an_issuer_without_a_proxy_is_dialed_directly(tmp_path: Path):
    """Whatever the environment says."""
    settings = settings_of(tmp_path)

    assert proxy_of(settings.issuers["nobody"], loaded(tmp_path, settings)) is None


BOUND = CONFIG.replace('sender_constraint = "none"', 'sender_constraint = "dpop"')


async def test_a_client_whose_tokens_are_bound_by_dpop_can_make_proofs(tmp_path: Path):
    """With a key that is the same after a reload; others have none."""
    settings = settings_of(tmp_path, BOUND)
    identities, keys = loaded(tmp_path, settings), some_proof_keys()
    clock, randomness = SystemClock(), SystemRandomness()

    first = means_of(settings, identities, clock, randomness, Events(), proof_keys=keys).registrations["c"]
    again = means_of(settings, identities, clock, randomness, Events(), proof_keys=keys).registrations["c"]

    assert first.exchange.proofs is not None
    assert first.exchange.jkt == again.exchange.jkt
    assert first.client.dpop_alg == first.exchange.proofs.key.alg == "ES256"
    plain = settings_of(tmp_path)
    lines = means_of(plain, identities, clock, randomness, Events(), proof_keys=keys)
    assert lines.registrations["c"].exchange.proofs is None


async def test_a_key_of_the_configuration_is_the_one_that_proves(tmp_path: Path):
    """And its algorithm is what the server's metadata is compared with."""
    written(tmp_path / "second.pem", key_pem(ed25519.Ed25519PrivateKey.generate()))
    text = TWO_KEYS.replace('"second.pem"\nalg = "ES256"', '"second.pem"\nalg = "EdDSA"')
    text = text.replace('sender_constraint = "none"', 'sender_constraint = "dpop"\ndpop_key = "second"')
    settings = settings_of(tmp_path, text)
    identities = loaded(tmp_path, settings)

    means = means_of(settings, identities, SystemClock(), SystemRandomness(), Events(), proof_keys=some_proof_keys())

    registration = means.registrations["c"]
    assert registration.exchange.jkt == identities.proof_keys["second"].jkt
    assert registration.client.dpop_alg == "EdDSA"


API = """
[token.bound]
client = "d"
[upstream.api]
base_url = "https://api.test/v1"
token = "bound"
allow = ["GET /**"]
[upstream.other]
base_url = "https://other.test/v1"
token = "bound"
allow = ["GET /**"]
"""


async def test_there_is_a_line_for_each_certificate_that_an_api_is_shown(tmp_path: Path):
    """The newest is made once; where an earlier one is not shown, there is none for it."""
    with_others(tmp_path)
    before = loaded(tmp_path, settings_of(tmp_path, CONFIG + OTHERS), wall_now=WALL).certificates["x"]
    renewed = issue("client", by=intermediate(), usages=CLIENT_AUTH, signs=True)
    written(tmp_path / "x.pem", renewed.cert_pem())
    written(tmp_path / "x.key", renewed.key_pem())
    settings = settings_of(tmp_path, CONFIG + OTHERS + API)
    identities = loaded(tmp_path, settings, wall_now=WALL)
    now = identities.certificates["x"]

    means = means_of(
        settings,
        identities,
        SystemClock(),
        SystemRandomness(),
        Events(),
        proof_keys=some_proof_keys(),
        shown={"api": (before, now), "gone": (before,)},
    )

    assert {name: line.thumbprint for name, line in means.lines.items()} == dict.fromkeys(
        ("api", "other"), now.thumbprint
    )
    assert [(name, line.thumbprint) for name, line in means.earlier_lines] == [("api", before.thumbprint)]


async def test_an_issuer_that_its_dialect_describes_is_never_asked_for_metadata(tmp_path: Path):
    """Its clients have the endpoints at once, and understand what it says; another dialect is another server."""
    text = CONFIG.replace("[key.k]", 'dialect = "iridium"\n[key.k]')
    described, plain = settings_of(tmp_path, text), settings_of(tmp_path)
    identities = loaded(tmp_path, described)
    clock, randomness = SystemClock(), SystemRandomness()

    first = means_of(described, identities, clock, randomness, Events(), proof_keys=some_proof_keys())
    known = {issuer: first.servers[name] for name, issuer in described.issuers.items()}
    kept = means_of(described, identities, clock, randomness, Events(), proof_keys=some_proof_keys(), known=known)
    other = means_of(plain, identities, clock, randomness, Events(), proof_keys=some_proof_keys(), known=known)

    source = first.registrations["c"].metadata
    assert isinstance(source, Described)
    assert (await source.get()).token_endpoint.endswith("/oauth/token")
    assert first.registrations["c"].exchange.dialect == IRIDIUM
    assert kept.servers["nobody"] is first.servers["nobody"]
    assert isinstance(other.servers["nobody"].metadata, Metadata)
    assert other.registrations["c"].exchange.dialect == STANDARD
