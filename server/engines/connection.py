"""The HTTP connection to an engine: JSON calls and server-sent events, with failures as our own errors.

aiohttp carries the bytes: on loopback it takes a third of the time per call that httpx takes over the same transport.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
from pydantic_core import from_json, to_json

from recollect.errors import EngineError, EngineUnavailable, RecollectError
from server import tracing
from server.engines.failures import error_of

CONNECT_TIMEOUT_S = 5.0
MAX_BODY = 64 * 2**20
IDLE_S = 4.0
"""Idle connections are dropped before uvicorn (5 s) drops them, so that no request is sent into a closing one."""

REFUSED_PAUSE_S = 0.1
"""Before a connection that was refused is tried once more."""


class Connection:
    """Calls to one server. `url` is its root, with or without `/v1`."""

    def __init__(self, url: str, *, api_key: str = "", timeout_s: float = 600.0, key_setting: str = "engine.api_key") -> None:
        self._key_setting = key_setting
        self._key = api_key
        self.url = url.rstrip("/").removesuffix("/v1")
        parts = urlsplit(self.url)
        self._host, self._port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._headers = {"accept-encoding": "identity"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def get(self, path: str, *, timeout_s: float | None = None) -> bytes:
        """The body of GET `path`."""
        async with self._open("GET", path, None, total=timeout_s or self._timeout_s) as response:
            return await self._body(response)

    async def get_json(self, path: str, *, timeout_s: float | None = None) -> Any:
        """The JSON value of GET `path`."""
        return self._json(await self.get(path, timeout_s=timeout_s))

    async def post(self, path: str, body: dict[str, Any], *, timeout_s: float | None = None) -> bytes:
        """The body of POST `path`."""
        async with self._open("POST", path, body, total=timeout_s or self._timeout_s) as response:
            return await self._body(response)

    async def post_json(self, path: str, body: dict[str, Any], *, timeout_s: float | None = None) -> dict[str, Any]:
        """The JSON object that POST `path` answers."""
        return self._object(await self.post(path, body, timeout_s=timeout_s))

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """The events of a stream, up to `[DONE]`. A stream that ends before it raises EngineUnavailable."""
        async with self._open("POST", path, body, total=None) as response:
            rest = b""
            async for piece in response.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > MAX_BODY:
                    raise EngineError(f"{self.url} streams a line of more than {MAX_BODY} bytes")
                for line in lines:
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    event = self._object(data)
                    if "error" in event:
                        raise self._error(_status(event), to_json(event))
                    yield event
            raise EngineUnavailable(f"the stream of {self.url} broke off before its end")

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, body: dict[str, Any] | None, *, total: float | None
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_TIMEOUT_S, sock_read=self._timeout_s)
        data = to_json(body) if body is not None else None
        headers = {**tracing.outgoing(self._host, self._port), **({"content-type": "application/json"} if data is not None else {})}

        async def send() -> aiohttp.ClientResponse:
            return await self._live().request(method, self.url + path, data=data, headers=headers, timeout=timeout, allow_redirects=False)

        try:
            try:
                response = await send()
            except aiohttp.ClientConnectionError as exc:
                # Nothing was answered, so that once more does no harm: an idle connection that the server closed as the request went
                # out, or a server that is just being replaced.
                if isinstance(exc, TimeoutError):
                    raise
                if isinstance(exc, aiohttp.ClientConnectorError):
                    await asyncio.sleep(REFUSED_PAUSE_S)
                response = await send()
            async with response:
                if 300 <= response.status < 400:
                    raise EngineError(f"{self.url} sends elsewhere (status {response.status}), where nothing is sent; set the URL it means")
                if response.status >= 400:
                    raise self._error(response.status, await self._body(response), response.headers.get("retry-after"))
                yield response
        except TimeoutError as exc:
            raise EngineUnavailable(f"{self.url}{path} did not answer in time") from exc
        except aiohttp.ClientConnectorError as exc:
            said = os.strerror(exc.os_error.errno).lower() if exc.os_error.errno else exc.os_error
            raise EngineUnavailable(f"no answer from {self.url} ({said}): start what is to listen there, or correct the URL") from exc
        except aiohttp.ClientError as exc:
            raise EngineUnavailable(f"no answer from {self.url}{path}: {exc or type(exc).__name__}") from exc

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body. Raises EngineError for one beyond any measure."""
        pieces: list[bytes] = []
        left = MAX_BODY
        async for piece in response.content.iter_any():
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise EngineError(f"{self.url} answered more than {MAX_BODY} bytes")
        return b"".join(pieces)

    def _error(self, status: int, body: bytes, retry_after: str | None = None) -> RecollectError:
        """The error for an answer, without the key, which some servers repeat."""
        told = body.replace(self._key.encode(), b"***") if self._key else body
        return error_of(status, told, where=self.url, retry_after=retry_after, key_setting=self._key_setting)

    def _live(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, auto_decompress=False)
        return self._session

    def _object(self, data: bytes) -> dict[str, Any]:
        found = self._json(data)
        if not isinstance(found, dict):
            raise EngineError(f"{self.url} answered JSON that is no object")
        return cast("dict[str, Any]", found)

    def _json(self, data: bytes) -> Any:
        try:
            return from_json(data)
        except ValueError as exc:
            raise EngineError(f"{self.url} answered something that is not JSON") from exc


def _status(event: dict[str, Any]) -> int:
    error = event["error"]
    code = cast("dict[str, Any]", error).get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) else 500
