"""
Commands a sandbox that runs as a process of its own: what it saw, which faults it shall have.

Blocking, with nothing but the standard library, so that a test or a command may use it anywhere.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0
"""Seconds: the control listener answers at once, or the machine is badly overloaded."""


class CommandFailedError(Exception):
    """The sandbox did not do as it was told (the message is its own), or did not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlClient:
    """Speaks to the control listener at *origin*; *addresses* is everything in ``sandbox.json``."""

    origin: str
    addresses: Mapping[str, Any]
    _token: str = field(repr=False)

    @classmethod
    def from_directory(cls, directory: Path) -> ControlClient:
        """Find the sandbox of *directory*, running or not. Raises CommandFailedError where there is none."""
        try:
            addresses = json.loads((directory / "sandbox.json").read_bytes())
            token = (directory / "control-token").read_text()
        except (OSError, ValueError) as error:
            raise CommandFailedError(f"there is no sandbox in {directory}") from error
        return cls(origin=addresses["control"], addresses=addresses, _token=token)

    def fault(self, where: str, kind: str, **parameters: Any) -> None:
        """Put a fault up. Raises CommandFailedError."""
        self._command("POST", "/sandbox/faults", {"where": where, "kind": kind, **parameters})

    def clear_faults(self) -> None:
        """Take all faults down."""
        self._command("DELETE", "/sandbox/faults")

    def set(self, **settings: Any) -> None:
        """Change ``lifetime_seconds``, ``down`` or any of ``options.Options``. Raises CommandFailedError."""
        self._command("PUT", "/sandbox/settings", settings)

    def grants(self) -> list[dict[str, Any]]:
        """List what people granted, oldest first, without values."""
        granted: list[dict[str, Any]] = self._command("GET", "/sandbox/grants")["grants"]
        return granted

    def end_grants(self) -> int:
        """End all grants, as people do who take their consent back; give how many lived."""
        return int(self._command("DELETE", "/sandbox/grants")["ended"])

    def rotate_keys(self, *, keep_published: bool = True) -> None:
        """Make new keys for ID tokens and authorization responses; the old ones stay in the JWKS, or not."""
        self._command("POST", "/sandbox/keys", {"keep_published": keep_published})

    def clients(self) -> dict[str, dict[str, Any]]:
        """Give what the sandbox knows of its clients, by their ids."""
        known = self._command("GET", "/sandbox/clients")["clients"]
        return {client["client_id"]: client for client in known}

    def register_client(self, client_id: str, **members: Any) -> dict[str, Any]:
        """Change a client, or make one with the rights of the first. Raises CommandFailedError."""
        return self._command("PUT", f"/sandbox/clients/{client_id}", members)

    def add_client_key(self, client_id: str, jwk: Mapping[str, Any]) -> dict[str, Any]:
        """Add a public key to those of a client. Raises CommandFailedError."""
        return self._command("POST", f"/sandbox/clients/{client_id}/keys", dict(jwk))

    def issue_certificate(self, name: str, **members: Any) -> dict[str, Any]:
        """Have a client certificate issued, and written to ``NAME.pem``. Raises CommandFailedError."""
        return self._command("POST", "/sandbox/certificates", {"name": name, **members})

    def change_authority(self, step: str, *, cut: bool = False) -> dict[str, Any]:
        """Take a step from one certificate authority to the next. Raises CommandFailedError."""
        return self._command("POST", "/sandbox/authority", {"step": step, "cut": cut})

    def set_application(self, client_id: str, **members: Any) -> dict[str, Any]:
        """Change an application of a fake Iridium. Raises CommandFailedError."""
        return self._command("PUT", f"/sandbox/applications/{client_id}", members)

    def places_of(self, secret: str) -> list[dict[str, Any]]:
        """Say where a fake Iridium saw *secret*, oldest first. Raises CommandFailedError."""
        places: list[dict[str, Any]] = self._command("POST", "/sandbox/requests/places", {"value": secret})["places"]
        return places

    def count(self, name: str) -> int:
        """Say how often *name* (``token``, ``token.issued``, ``metadata`` ...) was counted."""
        return int(self._command("GET", "/sandbox/requests")["counters"].get(name, 0))

    def requests(self, endpoint: str | None = None) -> list[dict[str, Any]]:
        """Give the latest requests, oldest first, of one endpoint or of all."""
        seen: list[dict[str, Any]] = self._command("GET", "/sandbox/requests")["requests"]
        return [request for request in seen if endpoint in {None, request["endpoint"]}]

    def clear_requests(self) -> None:
        """Forget counters and requests."""
        self._command("DELETE", "/sandbox/requests")

    def answers(self) -> bool:
        """Say whether the sandbox is up."""
        try:
            self._command("GET", "/sandbox/settings")
        except CommandFailedError:
            return False
        return True

    def _command(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection(urlsplit(self.origin).netloc, timeout=TIMEOUT)
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, body=sent, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            raw = answer.read()
            said: dict[str, Any] = json.loads(raw) if raw else {}
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise CommandFailedError("the sandbox does not answer") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise CommandFailedError(said.get("error_description", f"status {answer.status}"))
        return said
