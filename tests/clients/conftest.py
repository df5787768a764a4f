"""A server process with the scripted engine, which answers from the memories in its prompt, for real clients to talk to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.api.process import started

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".venvs" / "clients"
NODE = CLIENTS / "node" / "node_modules" / ".bin"
TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server listens, its home, and a folder for a client to live in."""

    url: str
    home: Path
    folder: Path

    async def run(self, *command: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> str:
        """What a client's command prints, run in a folder and with a home directory of its own. Fails if it fails."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        kept: Mapping[str, str] = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        process = await asyncio.create_subprocess_exec(
            *map(str, command),
            cwd=self.folder,
            env={**kept, "HOME": str(home), **(env or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await asyncio.wait_for(process.communicate(), timeout_s)
        assert process.returncode == 0, f"{out.decode()[-3000:]}\n{errors.decode()[-3000:]}"
        return out.decode()

    async def memories(self) -> list[str]:
        """The texts that the server remembers."""
        async with httpx.AsyncClient(base_url=self.url) as http:
            return [memory["text"] for memory in (await http.get("/v1/memories")).json()["data"]]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncGenerator[Place]:
    async with started(tmp_path / "recollect", "engine.kind=scripted", "embedder.kind=none") as server:
        folder = tmp_path / "client"
        folder.mkdir()
        yield Place(server.url, server.home, folder)
