"""A tiny HTTP server that behaves like vLLM's, or misbehaves as told. In-process for clients, as a script for supervision."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

TOKENS = [{"token_ids": [7], "text": "Hel"}, {"token_ids": [8], "text": ""}, {"token_ids": [9, 2], "text": "lo"}]


class Stub:
    """`reply` (status, body) answers every POST instead of the normal answer, `replies` those to a path; `stream` is sent as it is."""

    def __init__(self, name: str = "stub") -> None:
        self.name = name
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.reply: tuple[int, Any] | None = None
        self.replies: dict[str, tuple[int, Any]] = {}
        self.stream: bytes | None = None
        self.cut = False
        self.hang = asyncio.Event()
        self.hang.set()
        self.sleeps = False
        """Whether it was started with sleep mode, in the development mode that alone has its routes."""
        self.awake = asyncio.Event()
        self.awake.set()
        self.adapters: dict[str, str] = {}
        self.vocabulary: dict[str, list[int]] = {}
        self.piece_bytes = 0
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/health", self.health), web.get("/v1/models", self.models)])
        if self.sleeps:
            app.add_routes([web.post("/sleep", self.sleep), web.post("/wake_up", self.wake_up), web.get("/is_sleeping", self.is_sleeping)])
        app.add_routes([web.post("/{path:.*}", self.post)])
        return app

    async def health(self, request: web.Request) -> web.Response:
        return web.Response()

    async def models(self, request: web.Request) -> web.Response:
        adapters = [{"id": name, "parent": self.name} for name in self.adapters]
        return web.json_response({"data": [{"id": self.name, "parent": None, "max_model_len": 64}, *adapters]})

    async def sleep(self, request: web.Request) -> web.Response:
        assert request.query["level"] == "1"
        self.awake.clear()
        return web.json_response({"status": "sleeping", "level": 1})

    async def wake_up(self, request: web.Request) -> web.Response:
        if "/wake_up" in self.replies:
            return web.json_response(self.replies["/wake_up"][1], status=self.replies["/wake_up"][0])
        self.awake.set()
        return web.json_response({"status": "awake", "tags": None})

    async def is_sleeping(self, request: web.Request) -> web.Response:
        return web.json_response({"is_sleeping": not self.awake.is_set()})

    async def post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        path = "/" + request.match_info["path"]
        self.bodies.append((path, body))
        await self.hang.wait()
        if reply := self.replies.get(path, self.reply):
            status, value = reply
            return web.json_response(value, status=status) if not isinstance(value, str) else web.Response(text=value, status=status)
        if path == "/v1/load_lora_adapter":
            self.adapters[body["lora_name"]] = body["lora_path"]
            return web.Response(text="ok")
        if path == "/v1/unload_lora_adapter":
            known = self.adapters.pop(body["lora_name"], None)
            return web.Response(status=200 if known else 404)
        if path == "/tokenize":
            text = body.get("prompt") or json.dumps(body.get("messages"))
            return web.json_response({"tokens": self.vocabulary.get(text, list(text.encode()))})
        if path == "/detokenize":
            return web.json_response({"prompt": bytes(body["tokens"]).decode()})
        if path in ("/sleep", "/wake_up"):
            return web.json_response({"detail": "Not Found"}, status=404)
        await self.awake.wait()  # as vLLM's do, requests wait for the engine to wake up
        if body["model"] != self.name and body["model"] not in self.adapters:
            return web.json_response({"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}, status=404)
        return await self.streamed(request, body) if body.get("stream") else web.json_response(self.whole(body))

    def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        ids = [i for token in TOKENS for i in token["token_ids"]]
        choice = {
            "index": 0,
            "text": "".join(token["text"] for token in TOKENS),
            "token_ids": ids,
            "prompt_token_ids": body.get("prompt"),
            "logprobs": {"token_logprobs": [-0.5] * len(ids)},
            "finish_reason": "stop",
        }
        return {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": len(ids)}, "prompt_text": "from the template"}

    def events(self, body: dict[str, Any]) -> list[bytes]:
        events = []
        for number, token in enumerate(TOKENS):
            last = number == len(TOKENS) - 1
            choice = {
                **token,
                "index": 0,
                "logprobs": {"token_logprobs": [-0.5] * len(token["token_ids"])},
                "finish_reason": "stop" if last else None,
            }
            if number == 0:
                choice["prompt_token_ids"] = body.get("prompt")
            events.append({"choices": [choice]})
        events.append({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
        return [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]

    async def streamed(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        data = self.stream if self.stream is not None else b"".join(self.events(body))
        size = self.piece_bytes or len(data)
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
        if self.cut:
            assert request.transport is not None
            request.transport.abort()
        return response


@contextlib.asynccontextmanager
async def serving(stub: Stub, port: int = 0) -> AsyncIterator[Stub]:
    """The stub on a free port of the loopback."""
    runner = web.AppRunner(stub.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stub
    finally:
        stub.hang.set()
        await runner.cleanup()


async def main() -> None:
    """A fake engine: it logs as vLLM does and has a descendant in another session."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name")
    known, _ = parser.parse_known_args()
    if os.environ.get("STUB_FAILS"):
        sys.exit("ValueError: the weights are made of cheese")
    print("INFO Resolved architecture: StubForCausalLM\nINFO Starting to load model stub", flush=True)
    await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(600)", start_new_session=True)
    engine = Stub(known.served_model_name)
    engine.sleeps = "--enable-sleep-mode" in sys.argv and os.environ.get("VLLM_SERVER_DEV_MODE") == "1"
    if os.environ.get("STUB_SLEEPS_ON"):
        engine.replies["/wake_up"] = (500, {"error": {"message": "CUDA out of memory"}})
    async with serving(engine, known.port) as stub:
        if os.environ.get("STUB_HANGS"):
            stub.hang.clear()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
