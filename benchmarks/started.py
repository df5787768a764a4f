"""Server processes to measure against, each on a free port of loopback, and ended with the block that began it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp

ROOT = Path(__file__).parents[1]
QUIET = ("embedder.kind=none", "engine.kind=openai", "engine.model=stub")
PATIENCE_S = 180.0


class Started(NamedTuple):
    """Where a server answers, and its process."""

    url: str
    pid: int


@asynccontextmanager
async def started(
    *arguments: str, program: Path | str = sys.executable, path: str = "/v1/models", environ: dict[str, str] | None = None
) -> AsyncGenerator[Started]:
    """A server process on a free port, `{port}` among its arguments. Yields once it answers `path` with less than 500.

    Raises RuntimeError if it ends before, or does not answer in three minutes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program), *(argument.replace("{port}", str(port)) for argument in arguments)]
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet, cwd=ROOT, env=os.environ | (environ or {}))
    url = f"http://127.0.0.1:{port}"
    try:
        await _answers(url, path, process)
        yield Started(url, process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def recollect(home: Path | str, upstream: str, *settings: str) -> AsyncGenerator[Started]:
    """`recollect serve` over an upstream, without an embedder unless the settings say otherwise."""
    arguments = (*QUIET, f"engine.urls=[{upstream}]", "server.port={port}", *settings)
    async with started("-m", "recollect", "--home", str(home), "serve", *arguments, path="/ready") as server:
        yield server


async def _answers(url: str, path: str, process: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not await _answered(session, url + path):
                    if process.returncode is not None:
                        raise RuntimeError(f"the server at {url} ended with {process.returncode}")
                    await asyncio.sleep(0.1)
        except TimeoutError as exc:
            raise RuntimeError(f"{url} did not answer in {PATIENCE_S:.0f} s") from exc


async def _answered(session: aiohttp.ClientSession, address: str) -> bool:
    try:
        async with session.get(address) as answer:
            return answer.status < 500
    except aiohttp.ClientError:
        return False
