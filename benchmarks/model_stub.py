"""An OpenAI-compatible model that takes a fixed time for each call, answers every contender's memory prompts as asked, and counts tokens.

`python -m benchmarks.model_stub PORT DELAY_S TOKENIZER`. A user's turn is taken for one fact worth keeping. GET /counts: calls and
tokens since the start, of answers and of calls for memory, counted alike for all by the word pieces of TOKENIZER.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tokenizers import Tokenizer

from benchmarks.stub import MODELS, STREAM, WORDS

MEM0_TURN = re.compile(r"## New Messages\s+user: (?P<said>.*?)\n(?:assistant|user): ", re.DOTALL)
OUR_TURN = re.compile(r"<message>\n(?P<said>.*?)\n</message>", re.DOTALL)


def written(messages: list[dict[str, Any]]) -> str | None:
    """What is answered to a call for memory; None: this is no such call."""
    asked = messages[-1]["content"]
    if found := MEM0_TURN.search(asked):
        return json.dumps({"memory": [{"id": "0", "text": f"User said: {found['said']}", "attributed_to": "user"}]})
    if found := OUR_TURN.search(asked):
        return json.dumps({"operations": [{"op": "ADD", "text": f"User said: {found['said']}"}]})
    return None


class Model:
    """Counts what it is asked."""

    def __init__(self, delay_s: float, tokenizer: Tokenizer) -> None:
        self._delay_s = delay_s
        self._tokenizer = tokenizer
        self._counts = {role: {"calls": 0, "prompt": 0, "completion": 0} for role in ("answer", "memory")}

    async def counts(self, _: Request) -> Response:
        """So far."""
        return JSONResponse(self._counts)

    async def models(self, _: Request) -> Response:
        """One."""
        return Response(MODELS, media_type="application/json")

    async def chat(self, request: Request) -> Response:
        """Answer after the delay. What goes to a stream is never a call for memory here."""
        body = await request.json()
        text = written(body["messages"])
        prompt = sum(self._tokens(message["content"]) for message in body["messages"])
        said = "".join(WORDS) if text is None else text
        usage = {"prompt_tokens": prompt, "completion_tokens": self._tokens(said)}
        self._count("answer" if text is None else "memory", *usage.values())
        await asyncio.sleep(self._delay_s)
        if body.get("stream"):
            return Response(b"".join([*STREAM, b"data: [DONE]\n\n"]), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        whole = {"id": "stub", "object": "chat.completion", "created": 1, "model": "stub", "choices": [choice]}
        return JSONResponse(whole | {"usage": usage | {"total_tokens": sum(usage.values())}})

    def _tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _count(self, role: str, prompt: int, completion: int) -> None:
        counts = self._counts[role]
        counts["calls"] += 1
        counts["prompt"] += prompt
        counts["completion"] += completion


def app(model: Model) -> Starlette:
    """The application."""
    chat = Route("/v1/chat/completions", model.chat, methods=["POST"])
    return Starlette(routes=[chat, Route("/v1/models", model.models), Route("/counts", model.counts)])


def tokenizer(path: str) -> Tokenizer:
    """As it is saved, but without its bound on length: what is counted is longer."""
    found = Tokenizer.from_file(path)
    found.no_truncation()
    found.no_padding()
    return found


if __name__ == "__main__":
    served = app(Model(float(sys.argv[2]), tokenizer(sys.argv[3])))
    uvicorn.run(served, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
