"""10 million tokens read by `reader` on the seed model, through `recollect serve` and a real vLLM, with a file uploaded over HTTP.

Resident memory is the server's, seen from outside. The rate of the last calls is compared with bare calls to the same engine right
after them: recorded prompts again, one after another, in another cache of prefixes, with as many tokens each.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
from tokenizers import Tokenizer

from benchmarks.figure import Figure, megabytes
from benchmarks.reading import LINE
from benchmarks.scale import number, scaled
from recollect.log import read_log
from recollect.settings import SEED_MODEL
from recollect.trajectory import Step
from server.agents.recurrent import READ
from trainer.demo.serving import Serving

TOKENS = 10_000_000
SECTION, MEMORY = 1_800, 16
DIRECT = 60
"""Calls that are made directly."""
EVERY_S = 1.0


class Read(NamedTuple):
    """What a reading took: resident bytes of the server from second to second, and seconds."""

    resident: list[int]
    seconds: float


async def run() -> list[Figure]:
    """Upload, read, then call the engine directly."""
    num_tokens = scaled(TOKENS)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        settings = [f"agents.section_tokens={SECTION}", f"agents.memory_tokens={MEMORY}", "embedder.kind=none"]
        serving = Serving(home, settings)
        try:
            await asyncio.to_thread(serving.start, lambda _: None)
            file = home / "houses.txt"
            file.write_text("".join(_lines(num_tokens)))
            read = await _read(serving, file)
            steps = [s for t in read_log(home / "trajectories").trajectories for s in t.trajectory.steps if s.role == READ]
            direct_s = await _direct(serving.engine_url, [step for step in steps if step.prompt_ids][:DIRECT])
        finally:
            await asyncio.to_thread(serving.stop)
    quarter, waited, last_s = max(1, len(read.resident) // 4), sum(s.duration_s or 0.0 for s in steps), _seconds_a_call(steps[-DIRECT:])
    return [
        Figure(f"{number(num_tokens)} tokens in {number(len(steps))} calls, server resident before", megabytes(read.resident[0])),
        Figure("the most in the first quarter", megabytes(max(read.resident[:quarter]))),
        Figure("the most in the last quarter", megabytes(max(read.resident[-quarter:])), "≤ 1.1 × the first quarter"),
        Figure("tokens per second", number(round(num_tokens / read.seconds))),
        Figure("of the time spent waiting for the engine", f"{waited / read.seconds:.3f}"),
        Figure(f"a call, the last {min(DIRECT, len(steps))} / direct ones", f"{1e3 * last_s:.0f} / {1e3 * direct_s:.0f} ms"),
        Figure("of the rate of direct calls", f"{direct_s / last_s:.2f}", "≥ 0.9"),
    ]


def _seconds_a_call(steps: list[Step]) -> float:
    """From the beginning of one call to that of the next, the mean."""
    begun = [step.started_at.timestamp() for step in steps if step.started_at]
    return (begun[-1] - begun[0]) / (len(begun) - 1)


async def _read(serving: Serving, file: Path) -> Read:
    """Upload the file and ask about it."""
    server = psutil.Process(serving.pid)
    async with httpx.AsyncClient(base_url=serving.url, timeout=None) as http:
        with file.open("rb") as content:
            uploaded = await http.post("/v1/files", files={"file": ("houses.txt", content)}, data={"purpose": "user_data"})
        uploaded.raise_for_status()
        parts = [{"type": "file", "file": {"file_id": uploaded.json()["id"]}}, {"type": "text", "text": "Who guards house 17?"}]
        body = {"model": "reader", "messages": [{"role": "user", "content": parts}], "max_tokens": 32, "temperature": 0}
        resident = [server.memory_info().rss]
        began = time.perf_counter()
        asking = asyncio.create_task(http.post("/v1/chat/completions", json=body))
        while not asking.done():
            await asyncio.wait({asking}, timeout=EVERY_S)
            resident.append(server.memory_info().rss)
        (await asking).raise_for_status()
    return Read(resident, time.perf_counter() - began)


async def _direct(url: str, steps: list[Step]) -> float:
    """Seconds of a call, the mean of all: a reading's steps cannot overlap, so these do not either."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        model = (await http.get("/v1/models")).json()["data"][0]["id"]
        began = time.perf_counter()
        for step in steps:
            body = {
                "model": model,
                "prompt": step.prompt_ids,
                "max_tokens": len(step.completion_ids or [0]),
                "temperature": 0,
                "ignore_eos": True,
                "logprobs": 0,
                "return_token_ids": True,
                "cache_salt": "direct",
            }
            (await http.post("/v1/completions", json=body)).raise_for_status()
        return (time.perf_counter() - began) / len(steps)


def _lines(num_tokens: int) -> Iterator[str]:
    """Lines of about `num_tokens` tokens together."""
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))
    house = 0
    while num_tokens > 0:
        line = LINE % (house, house % 1000)
        num_tokens -= len(tokenizer.encode(line).ids)
        house += 1
        yield line
