"""What the wire shapes have in common: strict types, and no field unread."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from pydantic import ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from recollect.errors import InvalidRequest, RecollectError
from recollect.memory import MemoryRecord, Namespace, SearchHit
from recollect.model import Frozen
from server.identity import OPEN_WEBUI_HEADER, SCOPE_HEADER, Claims, Identity, identify, parse_namespace
from server.principal import principal_of
from server.routes.invalid import UNSOUND, path_of
from server.routes.limits import MAX_DEPTH
from server.service import Service

_HEADER_SAFE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Wire(Frozen):
    """A part of a request's body. Types are strict: "2" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Body(Wire):
    """A request's whole body. It is at most MAX_DEPTH deep, and its texts are Unicode: JSON can escape half of a surrogate pair,
    which nothing can store."""

    @model_validator(mode="before")
    @classmethod
    def _is_sound(cls, value: Any) -> Any:
        if (flaw := _flaw(value)) is not None:
            said, place = flaw
            raise PydanticCustomError(UNSOUND, "{flaw}", {"flaw": said, "place": place})
        return value


class LooseBody(Body):
    """A body of an API whose clients send new fields with every release: those that are not known are left unread, and named in a header
    of the answer, so that nothing is dropped in silence."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    def unread(self) -> dict[str, str]:
        """The header that names what was not read; none if all was."""
        return self.unread_with(())

    def unread_with(self, more: Iterable[str]) -> dict[str, str]:
        """The same with `more` besides."""
        names = sorted(name for name in {*(self.model_extra or {}), *more} if _HEADER_SAFE.fullmatch(name))
        return {"x-recollect-unread": ", ".join(names)} if names else {}


def _flaw(body: Any) -> tuple[str, tuple[str | int, ...]] | None:
    """What no code after this could bear in `body`, and where; None if it is sound. Not recursive: the depth is the caller's choice."""
    path: list[str | int] = []
    levels = [_parts(body)]
    while levels:
        part = next(levels[-1], None)
        if part is None:
            levels.pop()
            del path[-1:]
            continue
        name, value = part
        if isinstance(name, str) and not _is_unicode(name):
            return f"a name in {path_of(path) or 'the object'} is no valid Unicode: it holds half of a surrogate pair", tuple(path)
        if isinstance(value, str) and not _is_unicode(value):
            return f"{path_of([*path, name])} is no valid Unicode: it holds half of a surrogate pair", (*path, name)
        if isinstance(value, dict | list):
            if len(levels) == MAX_DEPTH:
                return f"lists and objects are nested more than {MAX_DEPTH} deep; flatten it", tuple(path[:1])
            path.append(name)
            levels.append(_parts(value))
    return None


def _parts(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return iter(cast("dict[str, Any]", value).items())
    return enumerate(cast("list[Any]", value)) if isinstance(value, list) else iter(())


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


async def service_of(request: Request) -> Service:
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
    """The identity that a request claims by its URL, headers and these fields of its body, within the tenant of its key."""
    principal = principal_of(request)
    return identify(
        Claims(
            url_namespace=request.scope.get("recollect.namespace"),
            scope=request.headers.get(SCOPE_HEADER),
            metadata_scope=(metadata or {}).get("memory_scope"),
            open_webui_user=request.headers.get(OPEN_WEBUI_HEADER),
            safety_identifier=safety_identifier,
            user=user,
        ),
        tenant=principal.tenant,
        key_id=principal.key_id,
    )


def namespace_of(request: Request, named: str | None, user: str | None = None) -> Namespace:
    """What the URL's prefix or the headers name, else the request's own field, else the user's."""
    identity = identity_of(request, user=user)
    if named is None:
        return identity.namespace
    asked = parse_namespace(named, tenant=identity.tenant)
    claimed = identity_of(request).namespace
    return asked if claimed == Namespace(tenant=identity.tenant) else claimed


async def only_known_query(request: Request) -> None:
    """Refuse a query parameter that the route does not read: it would change nothing, and say nothing. Raises InvalidRequest."""
    known: list[str] = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            listed = f"known are {', '.join(known)}" if known else "there are none here, put it into the body"
            raise InvalidRequest(f"unknown query parameter {name!r}; {listed}", param=name, code="unknown_parameter")


@contextmanager
def single_write() -> Generator[None]:
    """The store names the fields of a batch (`writes.0.valid_at`); a request that is one write has them without that prefix."""
    with _renamed(r"^writes\.0\.", ""):
        yield


@contextmanager
def batched_write() -> Generator[None]:
    """As `single_write`, for a request that lists its writes as `memories`."""
    with _renamed(r"^writes\.(\d+)", r"memories[\1]"), _renamed("^writes$", "memories"):
        yield


@contextmanager
def _renamed(prefix: str, named: str) -> Generator[None]:
    try:
        yield
    except RecollectError as exc:
        if exc.param:
            exc.param = re.sub(r"((?:^|\])\.?tags)\.(\d+)$", r"\1[\2]", re.sub(prefix, named, exc.param))
        raise


def memory_object(record: MemoryRecord) -> dict[str, Any]:
    """A memory as the API shows it."""
    return {"object": "memory", **record.model_dump(mode="json")}


def hit_object(hit: SearchHit) -> dict[str, Any]:
    """A memory that a search found; with `context` where that was asked for."""
    found = {**memory_object(hit.record), "score": hit.score, "parts": hit.parts}
    if hit.context is not None:
        around = {"before": hit.context.before, "after": hit.context.after}
        found["context"] = {name: [memory_object(record) for record in records] for name, records in around.items()}
    return found
