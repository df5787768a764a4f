"""The least that stands between a client and an upstream: `python -m benchmarks.pass_through fastapi|asgi PORT UPSTREAM`.

`fastapi`: FastAPI with httpx, as most gateways are begun. `asgi`: bytes from one socket to the other, by aiohttp.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

PATH = "/v1/chat/completions"


def by_fastapi(upstream: str) -> FastAPI:
    """A route that parses the body, and passes it on."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        async with httpx.AsyncClient(base_url=upstream, timeout=60, limits=httpx.Limits(max_connections=1000)) as app.state.http:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post(PATH)
    async def chat(request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        body = await request.json()
        http: httpx.AsyncClient = request.app.state.http
        if not body.get("stream"):
            return JSONResponse((await http.post(PATH, json=body)).json())
        sending = http.build_request("POST", PATH, json=body)
        answer = await http.send(sending, stream=True)

        async def pieces() -> AsyncGenerator[bytes]:
            async for line in answer.aiter_lines():
                if line:
                    yield f"{line}\n\n".encode()
            await answer.aclose()

        return StreamingResponse(pieces(), media_type="text/event-stream")

    return app


def by_asgi(upstream: str) -> Any:
    """Nothing is parsed."""
    session: list[aiohttp.ClientSession] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if not session:
            session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        path = upstream + scope["path"]
        async with session[0].request(scope["method"], path, data=body, headers={"content-type": "application/json"}) as answer:
            kind = answer.headers["content-type"].encode()
            await send({"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", kind)]})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


if __name__ == "__main__":
    kind, port, url = sys.argv[1:]
    uvicorn.run(
        by_fastapi(url) if kind == "fastapi" else by_asgi(url), host="127.0.0.1", port=int(port), log_level="error", access_log=False
    )
