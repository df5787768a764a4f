"""Calls of a server's API: what is sent, and the server's errors as the types of `recollect.errors`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self, cast

import httpx

from recollect.errors import (
    Conflict,
    EmbedderError,
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    NotFound,
    RecollectError,
    StorageFull,
)

TIMEOUT_S = 60.0
_BY_STATUS: dict[int, type[RecollectError]] = {
    400: InvalidRequest,
    404: NotFound,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    502: EngineError,
    507: StorageFull,
}
_BY_CODE: dict[str, type[RecollectError]] = {EmbedderError.default_code: EmbedderError}


class Connection:
    """A server at `base_url`. Use it as `async with`, or close it."""

    def __init__(self, base_url: str, api_key: str | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=self._base_url, headers=headers, timeout=timeout_s, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        params: dict[str, Any] | None = None,
        accepted: tuple[int, ...] = (200, 201),
        unhurried: bool = False,
    ) -> dict[str, Any]:
        # In ASCII, so that what is no valid Unicode or no finite number is for the server to refuse, by the field's name.
        content = None if body is None else json.dumps(body).encode()
        headers = {} if body is None else {"content-type": "application/json"}
        with self._reached():
            response = await self._http.request(
                method, path, content=content, params=params, headers=headers, timeout=None if unhurried else httpx.USE_CLIENT_DEFAULT
            )
        if response.status_code not in accepted:
            raise error_of(response)
        return cast("dict[str, Any]", response.json())

    @asynccontextmanager
    async def _streamed(self, path: str, params: dict[str, Any]) -> AsyncGenerator[httpx.Response]:
        """The answer to a GET, whose body is yet to come."""
        with self._reached():
            async with self._http.stream("GET", path, params=params) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise error_of(response)
                yield response

    @contextmanager
    def _reached(self) -> Generator[None]:
        try:
            yield
        except httpx.TransportError as exc:
            reason = str(exc) or type(exc).__name__
            raise RecollectError(
                f"no answer from {self._base_url} ({reason}); start the server: recollect serve", code="unreachable"
            ) from exc


def error_of(response: httpx.Response) -> RecollectError:
    """The error that an OpenAI error body tells of."""
    error: dict[str, Any] = {}
    if response.headers.get("content-type", "").startswith("application/json"):
        content = response.json()
        if isinstance(content, dict):
            found: Any = cast("dict[str, Any]", content).get("error")
            error = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    message = str(error.get("message") or f"the server answered {response.status_code} to {response.request.method} {response.request.url}")
    if response.status_code == 503:
        return EngineUnavailable(message, retry_after_s=int(response.headers.get("retry-after", 5)))
    code = error.get("code")
    kind = _BY_CODE.get(str(code)) or _BY_STATUS.get(response.status_code, RecollectError)
    return kind(message, param=error.get("param"), code=code)


def given(**values: Any) -> dict[str, Any]:
    """The values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}
