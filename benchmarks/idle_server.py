"""What the server costs while it does nothing."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from benchmarks.figure import Figure


async def run() -> list[Figure]:
    """Start the server without engine and embedder: seconds to ready, resident memory."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "recollect", "--home", folder, "serve", "engine.kind=none", "embedder.kind=none", "server.port=0"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            found = Path(folder) / "server.json"
            while not found.exists():  # noqa: ASYNC110 - the server is another process: there is no event to wait for
                await asyncio.sleep(0.01)
            async with httpx.AsyncClient(base_url=json.loads(found.read_text())["url"]) as http:
                while (await http.get("/ready")).status_code != 200:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
            ready = time.perf_counter() - began
            resident = psutil.Process(process.pid).memory_info().rss / 2**20
        finally:
            process.terminate()
            await process.wait()
    return [
        Figure("server without engine and embedder: process start to ready", f"{ready:.2f} s", "≤ 2 s"),
        Figure("the same, resident memory", f"{resident:.0f} MB", "≤ 250 MB"),
    ]
