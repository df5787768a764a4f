"""A server that hands work on, with a second one of its kind as the provider that is asked, for tests."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from mcp import Client

from recollect.tools import ToolCall
from server.engines.scripted import Answer, ScriptedCall, ScriptedEngine, Spoken
from tests.api.conftest import Served
from tests.api.live import listening
from tests.api.test_mcp import call, refusal

ALL = ["think", "see", "agent_task", "spawn_agent"]


def uses(tool: str, **arguments: Any) -> Spoken:
    """An answer that calls one tool."""
    return Spoken((ToolCall(id="call_1", name=tool, arguments=json.dumps(arguments)),))


def results(asked: ScriptedCall) -> list[str]:
    """What the tools have returned so far."""
    return [message.content for message in asked.messages if message.role == "tool"]


@dataclass(frozen=True, slots=True)
class Place:
    """A server with a plan, its client, and the peer that it asks."""

    client: Client
    served: Served
    peer: ScriptedEngine
    roots: Path

    def audit(self, *calls: str) -> list[dict[str, Any]]:
        """What the audit has of these calls; of all if none is named."""
        [file] = (self.served.home / "delegation").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        found = [json.loads(line) for line in file.read_text().splitlines()]
        return [entry for entry in found if not calls or entry["call"] in calls]

    @asynccontextmanager
    async def of(self, user: str) -> AsyncGenerator[Client]:
        """A client in another namespace."""
        async with Client(f"{str(self.served.http.base_url).rstrip('/')}/ns/{user}/delegate/mcp") as client:
            yield client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        return await call(self.client, tool, **arguments)

    async def refusal(self, tool: str, **arguments: Any) -> str:
        return await refusal(self.client, tool, **arguments)


Changed = Callable[[dict[str, Any]], None]


@asynccontextmanager
async def delegating(
    tmp_path: Path,
    answer: Answer,
    *,
    changed: Changed = lambda _: None,
    engine: ScriptedEngine | None = None,
    **sections: Mapping[str, Any],
) -> AsyncGenerator[Place]:
    roots = tmp_path / "project"
    roots.mkdir(exist_ok=True)
    (roots / "notes.txt").write_text("The launch is on Tuesday.\nBring cake.\n")
    async with AsyncExitStack() as stack:
        peer = ScriptedEngine(answer=answer)
        other = await stack.enter_async_context(listening(tmp_path / "peer", peer, engine={"vision": True}))
        plan: dict[str, Any] = {
            "allow": ALL,
            "roots": [str(roots)],
            "providers": {
                "house": {"kind": "openai", "url": f"{other.http.base_url}", "models": {"scripted": {"vision": True, "cost": 2}}},
                "own": {"kind": "agents", "models": {"memory": {}}},
            },
            "budget": {"steps": 5, "seconds": 30},
        }
        changed(plan)
        file = tmp_path / "delegation.yaml"
        file.write_text(yaml.safe_dump(plan))
        served = await stack.enter_async_context(
            listening(tmp_path / "home", engine or ScriptedEngine(), delegation={"file": str(file)}, **sections)  # pyright: ignore[reportArgumentType]
        )
        client = await stack.enter_async_context(Client(f"{str(served.http.base_url).rstrip('/')}/delegate/mcp"))
        yield Place(client, served, peer, roots)
