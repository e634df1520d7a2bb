"""
The way through a forward proxy: CONNECT (RFC 9110 section 9.3.6), and nothing else.

What goes through the tunnel is TLS with the server from end to end, with our certificate: the proxy learns
host and port. It also resolves the server's name, so that the filter of ``resolver`` sees the proxy's
addresses only; what a name leads to at the proxy is the proxy's to refuse. A proxy that itself speaks TLS is
refused by the configuration: aiohttp would show it our client certificate and trust it by the server's CA,
because it has one SSL context for both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from broker.oauth.secret import BasicCredentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """
    A proxy at *url*, ``http://host:port``.

    *credentials* are the value of ``Proxy-Authorization`` (RFC 9110 section 11.7.2), if it wants any.
    """

    url: str
    credentials: BasicCredentials | None = field(default=None, repr=False)

    def headers(self, user_agent: str) -> dict[str, str]:
        """Give the headers that go out with CONNECT; the server never sees them."""
        headers = {"user-agent": user_agent}
        if self.credentials is not None:
            headers["proxy-authorization"] = self.credentials.reveal()
        return headers
