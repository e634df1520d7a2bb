"""
The kinds of fault that only grants of people can meet: in authorization responses, ID tokens and around them.

A part of the catalogue in ``faults``, which says what the members mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from broker.sandbox.fault_kinds import AUTHORIZE_ONLY, JWKS_ONLY, PAR_ONLY, TOKEN_ONLY, USERINFO_ONLY, Kind, text

GRANT_KINDS: Mapping[str, Kind] = {
    "authorization_error": Kind(
        summary="The authorization response is an error, though the person allowed it.",
        where=AUTHORIZE_ONLY,
        parameters={"error": text("server_error")},
    ),
    "wrong_iss": Kind(
        summary="The authorization response names another issuer (by default ours with INVALID behind it).",
        where=AUTHORIZE_ONLY,
        parameters={"value": text(None)},
    ),
    "no_iss": Kind(summary="The authorization response names no issuer.", where=AUTHORIZE_ONLY),
    "wrong_state": Kind(summary="The authorization response has a state that nobody sent.", where=AUTHORIZE_ONLY),
    "no_state": Kind(summary="The authorization response has no state.", where=AUTHORIZE_ONLY),
    "repeated_parameter": Kind(
        summary="A parameter of the authorization response comes twice.",
        where=AUTHORIZE_ONLY,
        parameters={"name": text("code")},
    ),
    "jarm_bad_signature": Kind(summary="The signature of the signed response is wrong.", where=AUTHORIZE_ONLY),
    "jarm_alg_none": Kind(summary="The signed response is not signed, and says so.", where=AUTHORIZE_ONLY),
    "jarm_rs256": Kind(
        summary="The signed response is signed RS256, with a key that the JWKS has from now on.", where=AUTHORIZE_ONLY
    ),
    "jarm_unknown_key": Kind(summary="The signed response is signed with an unpublished key.", where=AUTHORIZE_ONLY),
    "jarm_rotated_key": Kind(
        summary="The signing key is replaced just before the response is signed.", where=AUTHORIZE_ONLY
    ),
    "jarm_wrong_aud": Kind(summary="The signed response is for another client.", where=AUTHORIZE_ONLY),
    "jarm_no_aud": Kind(summary="The signed response is for nobody.", where=AUTHORIZE_ONLY),
    "jarm_expired": Kind(summary="The signed response expired almost an hour ago.", where=AUTHORIZE_ONLY),
    "jarm_no_exp": Kind(summary="The signed response never expires.", where=AUTHORIZE_ONLY),
    "no_id_token": Kind(summary="There is no ID token, though openid was asked for.", where=TOKEN_ONLY),
    "wrong_nonce": Kind(summary="The ID token has a nonce that nobody sent.", where=TOKEN_ONLY),
    "no_nonce": Kind(summary="The ID token has no nonce.", where=TOKEN_ONLY),
    "id_token_alg_none": Kind(summary="The ID token is not signed, and says so.", where=TOKEN_ONLY),
    "id_token_rs256": Kind(
        summary="The ID token is signed RS256, with a key that the JWKS has from now on.", where=TOKEN_ONLY
    ),
    "id_token_bad_signature": Kind(summary="The signature of the ID token is wrong.", where=TOKEN_ONLY),
    "id_token_unknown_key": Kind(summary="The ID token is signed with an unpublished key.", where=TOKEN_ONLY),
    "id_token_rotated_key": Kind(
        summary="The signing key is replaced just before the ID token is signed.", where=TOKEN_ONLY
    ),
    "id_token_expired": Kind(summary="The ID token expired almost an hour ago.", where=TOKEN_ONLY),
    "id_token_future": Kind(summary="The ID token is of the next hour.", where=TOKEN_ONLY),
    "id_token_wrong_iss": Kind(summary="The ID token is of another issuer.", where=TOKEN_ONLY),
    "id_token_wrong_aud": Kind(summary="The ID token is for another client.", where=TOKEN_ONLY),
    "id_token_two_audiences": Kind(
        summary="The ID token is for another client, too; azp as given.",
        where=TOKEN_ONLY,
        parameters={"azp": text(None)},
    ),
    "id_token_wrong_at_hash": Kind(summary="The at_hash is of another access token.", where=TOKEN_ONLY),
    "id_token_wrong_sub": Kind(summary="The ID token is about another person.", where=TOKEN_ONLY),
    "id_token_no_sub": Kind(summary="The ID token is about nobody.", where=TOKEN_ONLY),
    "no_refresh_token": Kind(summary="The answer has no refresh token.", where=TOKEN_ONLY),
    "wrong_sub": Kind(summary="The userinfo is about another person.", where=USERINFO_ONLY),
    "no_request_uri": Kind(summary="Pushed and kept, but the answer names no request_uri.", where=PAR_ONLY),
    "decoy_keys": Kind(
        summary="Each key of the JWKS is preceded by others with its kid that did not sign.", where=JWKS_ONLY
    ),
}
"""Every such kind by name."""
