"""What the wire shapes have in common: strict types, and no field unread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import ConfigDict

from recollect.memory import MemoryRecord
from recollect.model import Frozen
from server.identity import OPEN_WEBUI_HEADER, SCOPE_HEADER, Claims, Identity, identify
from server.service import Service


class Wire(Frozen):
    """A request's body. Types are strict: "2" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def service_of(request: Request) -> Service:
    """The service of the application."""
    return request.app.state.service


ServiceDep = Annotated[Service, Depends(service_of)]


def identity_of(
    request: Request,
    *,
    metadata: Mapping[str, str] | None = None,
    safety_identifier: str | None = None,
    user: str | None = None,
) -> Identity:
    """The identity that a request claims by its URL, headers and these fields of its body."""
    return identify(
        Claims(
            url_namespace=request.scope.get("recollect.namespace"),
            scope=request.headers.get(SCOPE_HEADER),
            metadata_scope=(metadata or {}).get("memory_scope"),
            open_webui_user=request.headers.get(OPEN_WEBUI_HEADER),
            safety_identifier=safety_identifier,
            user=user,
        )
    )


def memory_object(record: MemoryRecord) -> dict[str, Any]:
    """A memory as the API shows it."""
    return {"object": "memory", **record.model_dump(mode="json")}
