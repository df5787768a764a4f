"""What the wire shapes have in common: strict types, and no field unread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from pydantic import ConfigDict, model_validator

from recollect.memory import MemoryRecord
from recollect.model import Frozen
from server.identity import OPEN_WEBUI_HEADER, SCOPE_HEADER, Claims, Identity, identify
from server.service import Service


class Wire(Frozen):
    """A part of a request's body. Types are strict: "2" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Body(Wire):
    """A request's whole body. Its texts are Unicode: JSON can escape half of a surrogate pair, which nothing can store."""

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, value: Any) -> Any:
        if (where := _broken_text(value, "")) is not None:
            raise ValueError(f"{where} is no valid Unicode: it holds half of a surrogate pair")
        return value


def _broken_text(value: Any, where: str) -> str | None:
    """The path of the first text that cannot be encoded; None if all can."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return where
    parts: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        parts = ((f"{where}.{key}" if where else str(key), part) for key, part in cast("dict[str, Any]", value).items())
    elif isinstance(value, list):
        parts = ((f"{where}[{index}]", part) for index, part in enumerate(cast("list[Any]", value)))
    return next((found for path, part in parts if (found := _broken_text(part, path)) is not None), None)


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
