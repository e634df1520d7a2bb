"""What goes from the API to a connection has no printable form of what is secret in it."""

from __future__ import annotations

from broker.policy.upstreams import Upstream
from broker.tokens.calls import ApiCall, ApiReply, ApiRequest
from broker.tokens.serving import Serving
from tests.unit.api.world import serving

SECRET = (("Authorization", "Bearer canary"), ("X-Mine", "canary"))


class NoBody:
    async def read(self) -> bytes:
        return b""

    async def close(self) -> None:
        """Do nothing."""


async def renew(_etag: str) -> Serving:
    return serving()


def test_header_fields_are_not_printed():
    """A traceback or an assertion may print the values; the fields of a caller are its own."""
    api = Upstream(name="api", base_url="https://api.example", token="t", allow=())
    call = ApiCall(
        upstream=api, method="GET", path="/", query="", fields=SECRET, body=None, serving=serving(), renew=renew
    )
    values = (
        call,
        ApiRequest(method="GET", url="https://api.example/", fields=SECRET),
        ApiReply(status=200, fields=SECRET, length=None, body=NoBody()),
    )

    assert not any("canary" in repr(value) for value in values)
    assert "the-access-token" not in repr(call)
