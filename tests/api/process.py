"""`recollect serve` as a process of its own, as a user starts it, and a stub of an OpenAI-compatible upstream for it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from tests.api.conftest import until

QUIET = ("embedder.kind=none", "engine.kind=none")


class ServerProcess:
    """One server process on `home`."""

    def __init__(self, home: Path, *overrides: str, environ: dict[str, str] | None = None, under: Sequence[str] = ()) -> None:
        """`environ`: more variables. `under`: a command that runs it as its child's process, such as a tracer."""
        self.home = home
        self.environ = {**os.environ, **(environ or {})}
        self.under = under
        self.overrides = overrides
        self.process: asyncio.subprocess.Process | None = None
        self.url = ""

    async def start(self) -> None:
        """Start it and wait until it answers `/health`."""
        command = [*self.under, sys.executable, "-m", "recollect", "--home", str(self.home), "serve", "server.port=0", *self.overrides]
        self.home.mkdir(exist_ok=True)
        with (self.home.parent / "server.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, env=self.environ
            )
        await until(lambda: self.process is None or self.process.returncode is not None or self._found())
        assert self.process.returncode is None, self.log()

    async def ready(self) -> None:
        """Wait until `/ready` says so."""
        async with httpx.AsyncClient(base_url=self.url, timeout=120) as http:

            async def asked() -> bool:
                return (await http.get("/ready")).status_code == 200

            await until(asked)

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 60)

    def log(self) -> str:
        """What it wrote to stdout and stderr."""
        return (self.home.parent / "server.log").read_text()

    def _found(self) -> bool:
        assert self.process is not None
        try:
            found = json.loads((self.home / "server.json").read_text())
        except FileNotFoundError:
            return False
        self.url = found["url"]
        return found["pid"] == self.process.pid


@asynccontextmanager
async def started(
    home: Path, *overrides: str, environ: dict[str, str] | None = None, under: Sequence[str] = ()
) -> AsyncGenerator[ServerProcess]:
    """A server process, ready, that is ended with the block."""
    server = ServerProcess(home, *overrides, environ=environ, under=under)
    try:
        await server.start()
        await server.ready()
        yield server
    finally:
        if server.process is not None:
            await server.end()


async def _upstream(scope: Any, receive: Any, send: Any) -> None:
    """Echoes the last message in pieces; serves one model called `stub`."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["method"] == "GET":
        await _send(send, "application/json", [json.dumps({"object": "list", "data": [{"id": "stub", "object": "model"}]}).encode()])
        return
    asked = json.loads(body)
    text: str = asked["messages"][-1]["content"]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    if not asked.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        await _send(send, "application/json", [json.dumps({"id": "1", "model": "stub", "choices": [choice], "usage": usage}).encode()])
        return
    deltas = [{"content": text[i : i + 8]} for i in range(0, len(text), 8)]
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas] + [
        {"index": 0, "delta": {}, "finish_reason": "stop"}
    ]
    events = [{"id": "1", "model": "stub", "choices": [choice]} for choice in choices] + [
        {"id": "1", "model": "stub", "choices": [], "usage": usage}
    ]
    await _send(send, "text/event-stream", [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"])


async def _send(send: Any, kind: str, pieces: list[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@asynccontextmanager
async def upstream(heard: list[dict[str, str]] | None = None) -> AsyncGenerator[str]:
    """The stub's URL. `heard` gets the headers of each request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if heard is not None:
            heard.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await _upstream(scope, receive, send)

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
