"""
The points at which Iridium's page and Iridium differ, each of them a switch.

The numbers are those of the table in which the differences were written down. What is the same in both settings
is described where it is done.
"""

from __future__ import annotations

from enum import StrEnum

from broker.sandbox.commands import CommandRefusedError


class Setting(StrEnum):
    """Which of the two servers a switch follows."""

    DOCUMENTED = "documented"
    """Its page."""
    OBSERVED = "observed"
    """What it does."""


class Switch(StrEnum):
    """Each with what its two settings do."""

    EXTERNAL_REQUEST = "IRI-01"
    """
    ``POST /oauth/external/authorize``, what it asks for.

    documented: ``response_type=code``, ``state``, ``scope``, ``client_id``, ``code_challenge``,
    ``code_challenge_method=S256`` and ``provider``, which is exactly ``github`` or ``google``. ``redirect_uri`` may be
    left out; one that is not the registered one is refused.

    observed: ``response_type=code``, ``state``, ``redirect_uri`` (any that is not blank), ``client_id`` and
    ``provider``, in any case, of those that are active. Nothing else is looked at. An unknown provider is 500.
    """

    PROVIDER_REDIRECT = "IRI-02"
    """
    The ``Location`` that leads to the provider.

    documented: its parameters are encoded; ``scope`` is what was asked for, and the person comes back to the
    ``redirect_uri`` that was sent, or else to the registered one.

    observed: it is put together without encoding, with the provider's own configured ``scope`` and the application's
    registered ``redirect_uri``. A brace or a control character in it is 500.
    """

    PROVIDER_CODE = "IRI-03"
    """
    Whose code the application gets.

    documented: the provider sends the person back to Iridium, which redeems the provider's code and redirects to the
    application with a code of its own. That is good once, for its lifetime, for its application, its
    ``redirect_uri`` where one is sent, and its ``code_verifier`` (RFC 7636).

    observed: the provider's code goes straight to the application, and Iridium redeems it when it gets it. The
    ``code_verifier`` has to be there and is compared with nothing.
    """

    STATE_WITH_CODE = "IRI-04"
    """
    The parameters that come with a code at ``POST /oauth/token``.

    documented: ``state`` is not looked at. The verifier is read from ``code_verfier``, as the page spells it, and from
    nowhere else.

    observed: ``state`` finds the external authorization, and without it the code is taken for one of the local flow.
    A ``state`` that was used for two authorizations is 500. The verifier is read from ``code_verifier``.
    """

    LOCAL_CHALLENGE = "IRI-05"
    """
    How ``code_challenge`` is made of ``code_verifier`` in the local flow.

    documented: base64url of the SHA-256 (RFC 7636, 43 characters).

    observed: base64url of the SHA-256 in hexadecimal digits (86 characters). The method ``plain`` is 400.
    """

    MISMATCH = "IRI-06"
    """
    A ``code_verifier`` that does not fit its ``code_challenge``, and what else a code of the local flow is bound to.

    documented: 400 ``invalid_grant``. A local code is good for its lifetime, for its application and ``redirect_uri``.

    observed: 200 with an empty body. A local code does not expire and is bound to nothing.

    The code is spent in both.
    """

    LOCAL_ERRORS = "IRI-07"
    """
    Errors of the local flow that go back to the application.

    documented: ``error``, ``error_description`` and ``state``, encoded.

    observed: one parameter that is called as the error is, with a text: ``?invalid_request=state parameter is blank``,
    not encoded, without ``state``.
    """

    TOKEN_BODY = "IRI-08"  # noqa: S105 (a number)
    """
    The body of a good token answer.

    documented: the page's own, with the comma before the closing brace that makes it no JSON, and with
    ``Cache-Control: no-store``.

    observed: JSON; tokens look like BCrypt hashes (``$2a$10$`` and 53 of ``./A-Za-z0-9``). No ``Cache-Control``.
    """

    ERROR_SHAPES = "IRI-09"
    """
    The body of a refusal.

    documented: RFC 6749: ``error`` and ``error_description``, and a challenge with 401.

    observed: a free text in ``error`` and an empty ``error_description``, or ``code`` and ``message``. 401 is JSON only
    for an ``Accept`` with ``json`` in it, else a model and view, or a page. There is never a challenge.
    """

    ECHO = "IRI-10"
    """
    The refusal of a refresh token that is not known.

    documented: it says so.

    observed: it repeats the refresh token.
    """

    CLIENT_CREDENTIALS = "IRI-11"
    """
    ``grant_type=client_credentials``.

    documented: id and secret in ``Authorization: Basic``, form-decoded (RFC 6749 section 2.3.1), or as ``client_id``
    and ``client_secret``. No refresh token.

    observed: in ``Authorization: Basic`` only, not decoded, with exactly one colon. There is a refresh token. A
    ``client_secret`` is compared with the stored hash, and where that fits the answer is 400 ``invalid_grant``.
    """

    CODE_SECRET = "IRI-12"  # noqa: S105 (a number)
    """
    The secret of a confidential application that redeems a code.

    documented: the right one is good, in ``Authorization: Basic`` or as ``client_secret``.

    observed: it is compared with the stored hash, so that the right one is 400 like any other.
    """

    REFRESH_BEARER = "IRI-13a"
    """
    The access token that a refresh wants to see.

    documented: none.

    observed: one that is good, of anybody, as ``Authorization: Bearer``. None is 403, any other 401.
    """

    REFRESH_PUBLIC = "IRI-13b"
    """
    Who may refresh.

    documented: every application.

    observed: confidential ones; single page and native ones get 401.
    """

    REFRESH_BINDING = "IRI-13c"
    """
    Whose refresh token it is.

    documented: the application's that it was issued to.

    observed: whoever's. ``client_id`` need only exist, and its secret is not asked for in either.
    """

    REFRESH_ROTATION = "IRI-13d"
    """
    What becomes of the refresh token.

    documented: it stays the only one, and is in the answer again.

    observed: the answer has a new one, and the old one stays good.
    """

    REFRESH_SUBJECT = "IRI-13e"
    """
    Whose the refreshed access token is.

    documented: the person's, as before.

    observed: the application's.
    """

    LOGOUT = "IRI-14"
    """
    Where and how the access token in ``Authorization: Bearer`` is ended, with its refresh token.

    documented: ``DELETE /application/ID/tokens``, and ID is the token's application; else 401.

    observed: ``DELETE /applications/ID/tokens``. An application of another tenant is 204, too, and ends nothing. A
    token that is unknown or over is 401, and so is an application that does not exist; without a token it is 403.

    The other path is 404 in both.
    """

    IDENTITIES = "IRI-15"
    """
    ``GET /identities``, which says whose an access token is.

    documented: there is none: 404.

    observed: there is, for an ``Accept`` that admits its media type.
    """


class Switches:
    """The settings of all switches; at first everything is as it was observed."""

    def __init__(self) -> None:
        self._settings = dict.fromkeys(Switch, Setting.OBSERVED)

    def documented(self, switch: Switch) -> bool:
        """Say whether *switch* follows the page."""
        return self._settings[switch] is Setting.DOCUMENTED

    def set(self, name: str, setting: str) -> None:
        """Set the switch called *name*, or all that begin with it (``IRI-13``, ``IRI``). Raises CommandRefusedError."""
        self._settings.update(read_setting(name, setting))

    def change(self, changes: dict[str, str]) -> None:
        """Set several, all or none. Raises CommandRefusedError."""
        wanted = [read_setting(name, setting) for name, setting in changes.items()]
        for settings in wanted:
            self._settings.update(settings)

    def as_json(self) -> dict[str, str]:
        """Give all settings by name."""
        return {str(switch): str(setting) for switch, setting in self._settings.items()}


def read_setting(name: str, setting: str) -> dict[Switch, Setting]:
    """Give the switches that *name* means with what they shall be. Raises CommandRefusedError."""
    if setting not in set(Setting):
        raise CommandRefusedError(f"{name}: must be documented or observed")
    exact = [switch for switch in Switch if switch == name]
    found = exact or [switch for switch in Switch if switch in _PARTS.get(name, ())]
    if not found:
        raise CommandRefusedError(f"no switch {name}: there are {', '.join([*_PARTS, *Switch])}")
    return dict.fromkeys(found, Setting(setting))


_PARTS: dict[str, tuple[Switch, ...]] = {
    "IRI": tuple(Switch),
    "IRI-13": tuple(switch for switch in Switch if switch.startswith("IRI-13")),
}
"""Names that mean several switches."""
