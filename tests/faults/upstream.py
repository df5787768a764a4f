"""An OpenAI-compatible upstream, with an embeddings endpoint, that does what it is told to: answer well, slowly, or lie."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib
from dataclasses import dataclass
from typing import Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

Manner = Literal["well", "slow", "truncated", "not json", "wrong json", "nothing", "failing"]
DIMENSION = 16
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@dataclass(slots=True)
class Upstream:
    """Repeats the last message. `manner` is of chat, `embeds` whether embeddings are answered."""

    manner: Manner = "well"
    embeds: bool = True
    slow_s: float = 30.0

    @property
    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            ]
        )

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "stub", "object": "model"}]})

    async def _embeddings(self, request: Request) -> Response:
        if not self.embeds:
            return JSONResponse({"error": {"message": "out of memory"}}, 500)
        texts = (await request.json())["input"]
        data = [{"index": i, "embedding": _vector(text)} for i, text in enumerate(texts)]
        return JSONResponse({"object": "list", "data": data, "model": "stub"})

    async def _chat(self, request: Request) -> Response:
        asked = await request.json()
        text = str(asked["messages"][-1]["content"])
        if self.manner == "slow":
            await asyncio.sleep(self.slow_s)
        if self.manner == "failing":
            return JSONResponse({"error": {"message": "CUDA out of memory"}}, 500)
        if self.manner == "nothing":
            return Response(b"", media_type="application/json")
        if asked.get("stream"):
            return StreamingResponse(self._pieces(text), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = json.dumps({"id": "1", "model": "stub", "choices": [choice], "usage": USAGE})
        if self.manner == "wrong json":
            body = json.dumps({"id": "1", "choices": [{"index": "zero", "message": "hello"}]})
        half = self.manner in ("truncated", "not json")
        return Response(body[: len(body) // 2] if half else body, media_type="application/json")

    async def _pieces(self, text: str):
        events = [
            {"id": "1", "model": "stub", "choices": [{"index": 0, "delta": {"content": letter}, "finish_reason": None}]} for letter in text
        ]
        events.append({"id": "1", "model": "stub", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events.append({"id": "1", "model": "stub", "choices": [], "usage": USAGE})
        for number, event in enumerate(events):
            if number == len(events) // 2:
                if self.manner == "truncated":
                    return
                if self.manner == "not json":
                    yield 'data: {"id": "1", "choi\n\n'
                if self.manner == "wrong json":
                    yield 'data: {"choices": [{"delta": 7}]}\n\n'
            yield f"data: {json.dumps(event)}\n\n"
        yield "data: [DONE]\n\n"


def _vector(text: str) -> list[float]:
    return [((zlib.crc32(f"{i} {text}".encode()) % 2000) - 1000) / 1000 for i in range(DIMENSION)]


if __name__ == "__main__":
    uvicorn.run(Upstream().app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
