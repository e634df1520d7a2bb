"""
The bodies of answers as JSON Schemas (draft 2020-12), by the names they have in the OpenAPI document.

They do not forbid further members, because later versions add some and callers ignore what they do not know;
the tests hold the answers to exactly these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.api.problems import ErrorCode
from broker.tokens.serving import TokenState

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}

NAME: Schema = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}
"""A name in the configuration."""

NAME_IN_PATH: Schema = {"type": "string", "pattern": r"^[a-z0-9](\.?[a-z0-9_-])*\.?$", "maxLength": 63}
"""A name that can be asked for: two dots in a row are refused in any path."""

ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
"""Of an authorization or a grant: random, in base64url."""

SECONDS: Schema = {"type": "integer", "minimum": 0}

REASON: Schema = {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}
"""The code of a reason."""


def object_of(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Give the schema of an object."""
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def array_of(items: Schema) -> Schema:
    """Give the schema of an array."""
    return {"type": "array", "items": items}


TEXT_OR_TEXTS: Schema = {"anyOf": [TEXT, array_of(TEXT)]}

DETAIL: Schema = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [TEXT, {"type": "boolean"}, {"type": "integer", "minimum": -(2**53), "maximum": 2**53}, array_of(TEXT)]
    },
}
"""An element of ``authorization_details``; those that are configured may go deeper."""

STATE: Schema = {"type": "string", "enum": [state.value for state in TokenState]}

TOKEN = object_of(
    {
        "access_token": {"type": "string", "minLength": 1},
        "token_type": {"type": "string", "enum": ["Bearer", "DPoP"]},
        "expires_in": SECONDS,
        "expires_at": SECONDS,
        "scope": TEXT,
        "issuer": {"type": "string", "format": "uri"},
        "stale": {"type": "boolean"},
    },
    {"cnf": object_of({}, {"x5t#S256": TEXT, "jkt": TEXT})},
)

TOKEN_STATE = object_of(
    {"name": NAME, "state": STATE},
    {"expires_in": SECONDS, "reason": REASON, "hint": TEXT, "retry_in": SECONDS, "grants": {"type": "integer"}},
)

READINESS_OF_ONE: Mapping[str, Schema] = {"state": STATE, "required": {"type": "boolean"}}

ERROR: Mapping[str, Schema] = {
    "error": {"type": "string", "enum": [code.value for code in ErrorCode]},
    "error_description": TEXT,
}

ERROR_MORE = {
    "hint": TEXT,
    "server_error": TEXT,
    "reason": REASON,
    "check": REASON,
    "state": {"type": "string", "enum": ["redeeming", "granted", "failed", "abandoned", "expired"]},
    "grant": ID,
}
"""The last four tell why a person is needed, and how an authorization ended."""

GRANT = object_of(
    {
        "id": ID,
        "token": NAME,
        "owner": NAME,
        "state": STATE,
        "subject_verified": {"type": "boolean"},
        "scope": TEXT,
        "created_at": SECONDS,
    },
    {
        "subject": TEXT,
        "label": TEXT,
        "expires_in": SECONDS,
        "consent_expires_in": SECONDS,
        "reason": REASON,
        "hint": TEXT,
        "retry_in": SECONDS,
    },
)

READY: Mapping[str, Schema] = {
    "status": {"type": "string", "enum": ["ready"]},
    "tokens": {"type": "object", "additionalProperties": object_of(READINESS_OF_ONE, {"reason": REASON})},
}

READY_MORE: Mapping[str, Schema] = {
    "sandbox": array_of(NAME),
    "restart": array_of(TEXT),
    "reload_refused": {"type": "boolean"},
}

NOT: Mapping[str, Schema] = {"status": {"type": "string", "enum": ["not_ready"]}}

PUBLIC_KEY = object_of(
    {"kty": {"type": "string", "enum": ["RSA", "EC", "OKP"]}},
    {
        **dict.fromkeys(("crv", "x", "y", "n", "e", "alg", "kid", "x5t#S256"), TEXT),
        "use": {"type": "string", "enum": ["sig"]},
        "x5c": array_of(TEXT),
    },
)

SHAPES: Mapping[str, Schema] = {
    "Authorization": object_of(
        {
            "id": ID,
            "token": NAME,
            "state": {"type": "string", "enum": ["waiting", "redeeming"]},
            "expires_in": SECONDS,
        }
    ),
    "Begun": object_of(
        {
            "id": ID,
            "binding": ID,
            "authorization_url": {"type": "string", "format": "uri"},
            "expires_in": SECONDS,
            "state_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        }
    ),
    "Consented": object_of({"grant": ID, "subject_verified": {"type": "boolean"}, "scope": TEXT}, {"subject": TEXT}),
    "Document": {"type": "object"},
    "Error": object_of(ERROR, ERROR_MORE),
    "Grant": GRANT,
    "GrantList": object_of({"grants": array_of(GRANT)}, {"cursor": ID}),
    "JwkSet": object_of({"keys": array_of(PUBLIC_KEY)}),
    "Live": object_of({"status": {"type": "string", "enum": ["ok"]}}),
    "Metrics": TEXT,
    "NotReady": object_of({**ERROR, **READY, **NOT}, {"hint": TEXT, **READY_MORE}),
    "OneNotReady": object_of({**ERROR, **READINESS_OF_ONE, **NOT}, {"hint": TEXT, "reason": REASON}),
    "OneReady": object_of({"status": READY["status"], **READINESS_OF_ONE}, {"reason": REASON}),
    "Proven": object_of(
        {
            "access_token": {"type": "string", "minLength": 1},
            "token_type": {"type": "string", "enum": ["DPoP"]},
            "proof": {"type": "string", "minLength": 1},
            "expires_in": SECONDS,
        }
    ),
    "Ready": object_of(READY, READY_MORE),
    "Revoked": object_of(
        {"revoked": {"enum": [True, False, "pending"]}}, {"end_session_url": {"type": "string", "format": "uri"}}
    ),
    "Rotated": object_of(
        {
            "rotated": array_of(TEXT),
            "refused": array_of(object_of({"item": TEXT, "reason": TEXT, "problem": TEXT})),
            "dropped": array_of(TEXT),
        }
    ),
    "Token": TOKEN,
    "TokenList": object_of({"tokens": array_of(TOKEN_STATE)}),
}
