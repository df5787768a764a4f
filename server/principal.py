"""Who sent a request, by its key: the tenant whose memories it means, and what it may do.

Without keys everybody who reaches the server is the tenant `local`, and may do everything; that is why it listens on loopback then.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from recollect.errors import Forbidden, Unauthorized
from recollect.keys import SCOPES, KeyRing, Scope
from recollect.memory import LOCAL_TENANT

BEARER = "bearer "
API_KEY_HEADER = "x-api-key"
OPEN = frozenset({"/health", "/healthz", "/ready", "/version"})
"""Paths that are answered without a key: they tell of no user."""
NEEDED: tuple[tuple[str, Scope], ...] = (
    ("/v1/admin", "admin"),
    ("/metrics", "admin"),
    ("/v1/chat", "chat"),
    ("/v1/responses", "chat"),
    ("/v1/messages", "chat"),
    ("/v1/embeddings", "chat"),
    ("/v1/files", "chat"),
    ("/v1/memories", "memory"),
    ("/v1/feedback", "feedback"),
)
"""What a path needs; any other needs a key of whatever scope. MCP's tools ask for theirs by themselves."""
_PRINCIPAL = "recollect.principal"


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller. `key_id` None: none of the keys, but the owner of the home, or whoever asks where there are none."""

    tenant: str = LOCAL_TENANT
    scopes: tuple[Scope, ...] = SCOPES
    key_id: str | None = None
    unkeyed: bool = False
    """True for everybody where there are no keys."""
    requests_per_minute: int = 0
    tokens_per_day: int = 0

    def require(self, scope: Scope) -> None:
        """Raises Forbidden without the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"this key may not do that: it needs the scope {scope!r}, it has {', '.join(self.scopes)}", scope=scope)

    def require_for(self, path: str) -> None:
        """Raises Forbidden if the path needs a scope that is missing."""
        for prefix, scope in NEEDED:
            if path == prefix or path.startswith(f"{prefix}/"):
                self.require(scope)


OWNER = Principal()
ANYBODY = Principal(unkeyed=True)
"""Who asks where there are no keys."""
NOBODY = Principal(tenant="", scopes=())
"""Who asks without a key where keys are in force: only for what is open."""


def authenticated(headers: Mapping[str, str], keys: KeyRing, owner_token: str) -> Principal:
    """Who sends these headers. Raises Unauthorized where keys are in force and none of them is among the headers."""
    if not keys.in_force:
        return ANYBODY
    secret = _secret(headers)
    if not secret:
        raise Unauthorized("this server wants an API key: send Authorization: Bearer <key>", code="missing_api_key")
    if hmac.compare_digest(secret.encode(), owner_token.encode()):
        return OWNER
    key = keys.find(secret)
    if key is None:
        raise Unauthorized("the API key is not known, or it was revoked; make one: recollect keys create NAME", code="invalid_api_key")
    return Principal(
        tenant=key.tenant,
        scopes=key.scopes,
        key_id=key.id,
        requests_per_minute=key.requests_per_minute,
        tokens_per_day=key.tokens_per_day,
    )


def principal_of(request: HTTPConnection) -> Principal:
    """Who sent a request that passed the edge."""
    return request.scope[_PRINCIPAL]


def marked(principal: Principal) -> dict[str, Principal]:
    """What the edge adds to a request's scope."""
    return {_PRINCIPAL: principal}


def _secret(headers: Mapping[str, str]) -> str:
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith(BEARER):
        return authorization[len(BEARER) :].strip()
    return headers.get(API_KEY_HEADER, "").strip()
