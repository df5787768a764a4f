"""10 million tokens read by `reader` on the seed model, through `recollect serve` and a real vLLM, with a file uploaded over HTTP.

Resident memory is the server's, seen from outside. The rate is compared with bare calls to the same engine in the same run: the
recorded prompts again, one after another, in another cache of prefixes, with as many tokens each.
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
DIRECT = 300
"""Calls that are made directly."""
EVERY_S = 1.0


class Read(NamedTuple):
    """What a reading took: resident bytes of the server from second to second, and its model calls."""

    resident: list[int]
    seconds: float
    num_calls: int


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
            steps = [s for t in read_log(home / "trajectories").trajectories for s in t.trajectory.steps if s.role == READ and s.prompt_ids]
            direct_s = await _direct(serving.engine_url, steps[:DIRECT])
        finally:
            await asyncio.to_thread(serving.stop)
    quarter = max(1, len(read.resident) // 4)
    per_call, early = read.seconds / read.num_calls, [s.duration_s or 0.0 for s in steps[:DIRECT]]
    return [
        Figure(f"{number(num_tokens)} tokens in {number(read.num_calls)} calls, server resident before", megabytes(read.resident[0])),
        Figure("the most in the first quarter", megabytes(max(read.resident[:quarter]))),
        Figure("the most in the last quarter", megabytes(max(read.resident[-quarter:])), "≤ 1.1 × the first quarter"),
        Figure("tokens per second", number(round(num_tokens / read.seconds))),
        Figure(f"a call, all of the reading / its first {len(early)} / {len(early)} direct ones",
               " / ".join(f"{1e3 * s:.0f} ms" for s in (per_call, sum(early) / len(early), direct_s))),
        Figure("of the rate of direct calls", f"{direct_s / per_call:.2f}", "≥ 0.9"),
    ]  # fmt: skip


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
        answered = (await asking).raise_for_status().json()
    seconds = time.perf_counter() - began
    return Read(resident, seconds, _num_sections(file, answered["usage"]["prompt_tokens"]))


def _num_sections(file: Path, num_prompt_tokens: int) -> int:
    """How many calls read it: sections of SECTION tokens, as the server's usage bears out, and the answer."""
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))
    with file.open() as lines:
        total = sum(len(tokenizer.encode(line).ids) for line in lines)
    calls = -(-total // SECTION) + 1
    if not 1.0 <= num_prompt_tokens / total < 1.2:
        raise RuntimeError(f"the server counts {num_prompt_tokens} prompt tokens for a document of {total}")
    return calls


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
