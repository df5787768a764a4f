"""Whose memory a request means: tenant, namespace and session, from what the request carries.

The tenant comes from the key alone; without keys it is `local`. Nothing else in a request can change it. The namespace is
the first that is present of: the base URL's `/ns/<namespace>/` part, `X-Memory-Scope`, `metadata.memory_scope`,
`X-OpenWebUI-User-Id`, `safety_identifier`, `user`; else `user/default`. It is never guessed from text.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from recollect.errors import InvalidRequest
from recollect.memory import LOCAL_TENANT, Namespace
from recollect.messages import Message

SCOPE_HEADER = "x-memory-scope"
OPEN_WEBUI_HEADER = "x-openwebui-user-id"
SESSION_HEADER = "x-session-id"
SESSION_DONE_HEADER = "x-session-done"
MAX_SESSION = 128
_CLAUDE_CODE = re.compile(r"user_[0-9a-f]+_account_.*_session_([0-9a-f-]+)")
_SESSION = re.compile(rf"[\x21-\x7e]{{1,{MAX_SESSION}}}")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: the tenant with the namespace that is read and written."""

    namespace: Namespace
    key_id: str | None = None
    """The key that it was asked with."""

    @property
    def tenant(self) -> str:
        """The tenant, which the namespace is a part of."""
        return self.namespace.tenant


@dataclass(frozen=True, slots=True)
class Claims:
    """What a request says of its user. None: not said."""

    url_namespace: str | None = None
    scope: str | None = None
    metadata_scope: str | None = None
    open_webui_user: str | None = None
    safety_identifier: str | None = None
    user: str | None = None


def identify(claims: Claims, *, tenant: str = LOCAL_TENANT, key_id: str | None = None) -> Identity:
    """The identity that the claims amount to within the key's tenant. Raises InvalidRequest that names the claim that is none."""
    named = (
        ("namespace in the URL", claims.url_namespace),
        ("X-Memory-Scope", claims.scope),
        ("metadata.memory_scope", claims.metadata_scope),
        ("X-OpenWebUI-User-Id", claims.open_webui_user),
        ("safety_identifier", claims.safety_identifier),
        ("user", claims.user),
    )
    for name, value in named:
        if value:
            return Identity(parse_namespace(value, tenant=tenant, param=name), key_id)
    return Identity(Namespace(tenant=tenant), key_id)


def parse_namespace(value: str, *, tenant: str = LOCAL_TENANT, param: str = "namespace") -> Namespace:
    """`user/42:agent/coach`, or a plain `42`, which means `user/42`. Raises InvalidRequest that names `param`."""
    text = value if "/" in value else f"user/{quote(value, safe='')}"
    try:
        return Namespace.parse(text, tenant=tenant)
    except InvalidRequest as exc:
        raise InvalidRequest(exc.message, param=param, code="invalid_namespace") from exc


def session_of(headers: Mapping[str, str], metadata: Mapping[str, str], messages: Sequence[Message], namespace: Namespace) -> str:
    """`X-Session-Id`, else `metadata.session_id`, else a hash of the conversation up to its first user message."""
    named = (("X-Session-Id", headers.get(SESSION_HEADER)), ("metadata.session_id", metadata.get("session_id")))
    for name, value in named:
        if value:
            if not _SESSION.fullmatch(value):
                raise InvalidRequest(f"{name} must be 1 to {MAX_SESSION} printable ASCII characters without spaces", param=name)
            return value
    digest = hashlib.sha256(f"{namespace.tenant}\n{namespace}".encode())
    for message in messages:
        digest.update(f"\n{message.role}\n{message.content}{message.file_id or message.image or ''}".encode())
        if message.role == "user":
            break
    return digest.hexdigest()[:24]


def told_by_user_id(user_id: str | None) -> tuple[str | None, str | None]:
    """The user and the session that `metadata.user_id` of Anthropic's API tells.

    Claude Code names there its installation and the session: such an id is new with every session, and no user to remember by.
    """
    if user_id is None:
        return None, None
    if named := _CLAUDE_CODE.fullmatch(user_id):
        return None, named[1]
    if user_id.startswith("{"):
        with suppress(ValueError, RecursionError):
            session = json.loads(user_id).get("session_id")
            return None, session if isinstance(session, str) and _SESSION.fullmatch(session) else None
    return user_id, None


def session_done(headers: Mapping[str, str], metadata: Mapping[str, str]) -> bool:
    """`X-Session-Done`, else `metadata.session_done`: whether the request is the last one of its session. Raises InvalidRequest."""
    named = (("X-Session-Done", headers.get(SESSION_DONE_HEADER)), ("metadata.session_done", metadata.get("session_done")))
    for name, value in named:
        if value:
            if value.lower() not in ("true", "false", "1", "0"):
                raise InvalidRequest(f"{name} is {value[:20]!r}; write true or false", param=name)
            return value.lower() in ("true", "1")
    return False
