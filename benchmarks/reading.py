"""Reading 10 million tokens from a file: resident memory while it goes on, and the rate against the engine called directly.

The engine is the scripted one, with the time that a model takes for each call simulated, so that what is measured is this code.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, cast

import psutil

from benchmarks.figure import Figure, megabytes
from benchmarks.scale import number, scaled
from recollect.memory import Namespace
from recollect.messages import Message, user
from recollect.policy import Policy
from recollect.settings import AgentSettings, LogSettings
from recollect.stores import MemoryStore
from server.agents.base import AgentContext, AgentRequest
from server.agents.recorder import Recorder
from server.agents.registry import build_agent
from server.engines.base import Sampling, collect
from server.engines.scripted import ScriptedCall, ScriptedEngine
from server.service.files import Files

TOKENS = 10_000_000
"""One a byte: the scripted engine's."""
SECTION, MEMORY = 5_000, 1_024
CALL_S = 0.1
"""What a call takes at least: 5,000 tokens read and a memory written; real engines take ten times that and more."""
EVERY_S = 0.05
LINE = "The guard of house %07d is Tim, and the price of its bread was %03d when the rain fell on the hills of Ola.\n"


class Resident(NamedTuple):
    """Bytes of this process: before the reading, and the most that was seen in its first and in its last quarter."""

    before: int
    early: int
    late: int


async def run() -> list[Figure]:
    """A file of 10 million tokens, read by `reader` from the disk; then as many direct calls with prompts as long."""
    with tempfile.TemporaryDirectory() as folder:
        num_tokens = scaled(TOKENS)
        seen, seconds, num_calls = await read(Path(folder), num_tokens, call_s=CALL_S)
        direct = await _direct(num_calls, call_s=CALL_S)
    return [
        Figure(f"reading {number(num_tokens)} tokens in {number(num_calls)} calls, resident before", megabytes(seen.before)),
        Figure("the most in the first quarter", megabytes(seen.early)),
        Figure("the most in the last quarter", megabytes(seen.late), "≤ 1.1 × the first quarter"),
        Figure("tokens per second", number(round(num_tokens / seconds))),
        Figure("of the rate of direct calls", f"{direct / seconds:.2f}", "≥ 0.9"),
    ]


async def read(
    folder: Path, num_tokens: int, *, call_s: float, recorded: int = LogSettings().trajectory_tokens
) -> tuple[Resident, float, int]:
    """Read a generated file of `num_tokens`: resident memory, seconds, and calls to the engine. Steps keep `recorded` tokens."""
    files = Files(folder / "files", num_tokens)
    file_id = _uploaded(files, num_tokens)
    engine = _engine(call_s)
    reader = build_agent("reader", AgentSettings(section_tokens=SECTION, memory_tokens=MEMORY), "default")
    context = AgentContext(
        engine=engine,
        store=cast(MemoryStore, None),
        namespace=Namespace(),
        policies={"memory": Policy(base=engine.base)},
        recorder=Recorder(max_tokens=recorded),
        files=files,
    )
    request = AgentRequest((Message(role="user", content="", file_id=file_id), user("Who guards house 17?")), Sampling())
    async with _watched() as seen:
        began = time.perf_counter()
        async for _ in reader.run(request, context):
            pass
        seconds = time.perf_counter() - began
    quarter = max(1, len(seen) // 4)
    return Resident(seen[0], max(seen[:quarter]), max(seen[-quarter:])), seconds, engine.num_calls


class _Counted(ScriptedEngine):
    """Counts its calls instead of keeping their prompts."""

    num_calls = 0

    def _check(self, call: ScriptedCall) -> None:
        self.num_calls += 1


def _engine(call_s: float) -> _Counted:
    engine = _Counted(answer=lambda call: f"The guard is Tim, I read {len(call.prompt_ids)} tokens. ".ljust(MEMORY, "x"), window=None)
    engine.trouble.delay_s = call_s
    return engine


async def _direct(num_calls: int, *, call_s: float) -> float:
    """Seconds of as many calls with prompts as long, one after another: a reading's steps cannot overlap."""
    engine = _engine(call_s)
    prompt = [70] * (SECTION + MEMORY)
    began = time.perf_counter()
    for _ in range(num_calls):
        await collect(engine.complete(prompt, policy=Policy(base=engine.base), sampling=Sampling(max_tokens=MEMORY)))
    return time.perf_counter() - began


def _uploaded(files: Files, num_tokens: int) -> str:
    upload = files.begin(Namespace())
    left = num_tokens
    for house in range(num_tokens // len(LINE) + num_tokens):
        line = (LINE % (house, house % 1000)).encode()[:left]
        upload.write(line)
        left -= len(line)
        if not left:
            break
    return upload.finish("houses.txt", "user_data").id


@asynccontextmanager
async def _watched() -> AsyncGenerator[list[int]]:
    """Resident bytes of this process, again and again."""
    seen = [psutil.Process().memory_info().rss]

    async def look() -> None:
        while True:
            seen.append(psutil.Process().memory_info().rss)
            await asyncio.sleep(EVERY_S)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
