"""The span of a request, where requests are traced: what was asked by its route, never by its path, which may name a person."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from server.principal import OPEN

if TYPE_CHECKING:
    from server.telemetry.otlp import Telemetry

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNTRACED = OPEN | {"/metrics"}
"""What is asked every few seconds, by a machine."""
_UNTOLD: AbstractContextManager[Callable[[int], None]] = nullcontext(lambda status: None)


def traced(
    telemetry: Telemetry | None, scope: Scope, headers: Mapping[str, str], request_id: str
) -> AbstractContextManager[Callable[[int], None]]:
    """A span around a block that answers the request of `scope`, in which routing leaves its route.

    What it gives is called with the answer's status, 0 if there was none.
    """
    return _UNTOLD if telemetry is None or scope["path"] in UNTRACED else _traced(telemetry, scope, headers, request_id)


@contextmanager
def _traced(telemetry: Telemetry, scope: Scope, headers: Mapping[str, str], request_id: str) -> Generator[Callable[[int], None]]:
    method = scope["method"] if scope["method"] in METHODS else "_OTHER"
    attributes = {"http.request.method": method, "url.scheme": scope.get("scheme", "http"), "recollect.request.id": request_id}
    with telemetry.request(method, headers, attributes) as span:

        def told(status: int) -> None:
            if (route := _route(scope)) is not None:
                span.rename(f"{method} {route}")
                span.set("http.route", route)
            if status:
                span.set("http.response.status_code", status)
            if status >= 500:
                span.fail(str(status))

        yield told


def _route(scope: Scope) -> str | None:
    """The template of what was asked; None for what there is not."""
    route: Any = scope.get("route")
    if route is not None:
        return route.path
    return scope["path"] if "endpoint" in scope and not scope.get("path_params") else None
