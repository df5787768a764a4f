"""A small OpenAI-compatible server that answers what a test tells it to, or fails as told."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web


class JudgeStub:
    """Answers with `replies` in turn, the last one for ever. A reply is a text, or a status with its headers."""

    def __init__(self) -> None:
        self.replies: list[str | tuple[int, dict[str, str]]] = ["CORRECT"]
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.came = asyncio.Event()
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", self._post)])
        return app

    async def _post(self, request: web.Request) -> web.Response:
        self.came.set()
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        await self.answering.wait()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, tuple):
            return web.Response(status=reply[0], headers=reply[1], text="no")
        return web.json_response({"choices": [{"message": {"role": "assistant", "content": reply}}]})
