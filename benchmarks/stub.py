"""An OpenAI-compatible upstream without a model, as fast as Python answers HTTP: always the same words, after a delay if wanted.

`python -m benchmarks.stub PORT [DELAY_S]`. Plain: one object. Streaming: 20 chunks of content.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvicorn

WORDS = [f"word{i} " for i in range(20)]
USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}
JSON, EVENTS = [(b"content-type", b"application/json")], [(b"content-type", b"text/event-stream")]


def _event(delta: dict[str, Any], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"id": "stub", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


PLAIN = json.dumps(
    {
        "id": "stub",
        "object": "chat.completion",
        "created": 1,
        "model": "stub",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
STREAM = [_event({"role": "assistant", "content": ""}), *(_event({"content": word}) for word in WORDS), _event({}, "stop")]
LAST = {"id": "stub", "object": "chat.completion.chunk", "created": 1, "model": "stub", "choices": [], "usage": USAGE}
TAIL = [f"data: {json.dumps(LAST)}\n\n".encode(), b"data: [DONE]\n\n"]
MODELS = json.dumps({"object": "list", "data": [{"id": "stub", "object": "model", "created": 1, "owned_by": "stub"}]}).encode()


def stub(delay_s: float) -> Any:
    """The application."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["method"] == "GET":
            await _send(send, JSON, [MODELS])
            return
        if delay_s:
            await asyncio.sleep(delay_s)
        asked = json.loads(body)
        if not asked.get("stream"):
            await _send(send, JSON, [PLAIN])
            return
        with_usage = (asked.get("stream_options") or {}).get("include_usage")
        await _send(send, EVENTS, [*STREAM, *(TAIL if with_usage else TAIL[1:])])

    return app


async def _send(send: Any, headers: list[tuple[bytes, bytes]], pieces: list[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


if __name__ == "__main__":
    delay = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    uvicorn.run(stub(delay), host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
