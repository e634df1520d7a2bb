"""Tests of ``broker/sandbox/iridium/broker_config.py``: what the files say."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from broker.sandbox.iridium.broker_config import Served, broker_config

SERVED = Served(
    issuer="https://localhost:1",
    development="http://localhost:2",
    api="https://localhost:1/api",
    github="https://localhost:3",
    google="https://localhost:4",
    control="http://127.0.0.1:5",
)


def written(*, development: bool = False) -> dict[str, Any]:
    return tomllib.loads(
        broker_config(SERVED, client_id="app", redirect_uri="http://127.0.0.1:9/c", uid=1234, development=development)
    )


def test_the_issuer_is_iridium_over_https():
    """With its own authority, and without a mark that only metadata could have."""
    issuer = written()["issuer"]["iridium"]

    assert (issuer["issuer"], issuer["ca_file"], issuer["profile"]) == (SERVED.issuer, "ca.pem", "oauth2")
    assert issuer["dialect"] == {"base": "iridium", "provider_hosts": ["localhost:3", "localhost:4"]}
    assert not {"sandbox", "allow_insecure_loopback"} & set(issuer)


def test_the_other_file_is_for_http():
    """With a state of its own, so that one does not take over the grants of the other."""
    secure, development = written(), written(development=True)
    issuer = development["issuer"]["iridium"]

    assert (issuer["issuer"], issuer["allow_insecure_loopback"]) == (SERVED.development, True)
    assert "ca_file" not in issuer
    assert secure["daemon"]["state_dir"] != development["daemon"]["state_dir"]
    assert secure["audit"]["file"] != development["audit"]["file"]


@pytest.mark.parametrize("name", ["github", "google"])
def test_there_is_a_token_for_each_provider(name: str):
    """Each person has a grant of their own."""
    token = written()["token"][name]

    assert (token["grants"], token["parameters"]) == ("many", {"provider": name})


def test_the_client_is_public_and_the_workload_may_do_everything():
    """And calls the API with the token of GitHub."""
    config = written()
    client, workload = config["client"]["iridium"], config["workload"]["app"]

    assert (client["client_auth_method"], client["sender_constraint"]) == ("none", "none")
    assert client["redirect_uris"] == ["http://127.0.0.1:9/c"]
    assert (workload["uid"], workload["tokens"], workload["upstreams"]) == (
        [1234],
        ["github", "google"],
        ["github", "google"],
    )
    assert config["upstream"]["github"]["base_url"] == SERVED.api
