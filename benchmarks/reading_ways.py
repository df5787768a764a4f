"""The ways of reading side by side: rollouts of groups on the seed model, the share of prompt tokens that the engine's prefix cache
held, the rate, and the accuracy of the untrained model (which was trained on the plain prompts alone)."""

from __future__ import annotations

import re
import tempfile
import time
import zlib
from pathlib import Path
from typing import get_args

import httpx
from tokenizers import Tokenizer

from benchmarks.figure import Figure
from benchmarks.scale import scaled
from memory_store.store import LanceMemoryStore
from recollect.policy import Policy
from recollect.settings import SEED_MODEL, AgentSettings, EngineSettings, Reading
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.child import VllmChild
from trainer.environments.generated import reading_task
from trainer.environments.tasks import Task
from trainer.evaluate import matched, mean
from trainer.rollout import Rollouts

CONCURRENCY, GROUP = 64, 8
TASKS = 24
SECTION = 480
"""Tokens: long sections are where the order of a prompt's parts matters."""
_COUNTER = re.compile(r"^vllm:prefix_cache_(queries|hits)_total\{[^}]*\} (\S+)$", re.M)


async def run() -> list[Figure]:
    """Each way on the same tasks with the same seeds, on one engine, each under a cache of its own."""
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))

    def length(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    count = scaled(TASKS)
    tasks = [reading_task(f"ways-{i}", "held_out", length, num_sections=3, section_tokens=SECTION) for i in range(count)]
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = VllmChild(EngineSettings(), Path(folder))
        await engine.start()
        try:
            await engine.ready(600)
            store = LanceMemoryStore(Path(folder) / "memory", None)
            for way in get_args(Reading):
                agents = build_agents(AgentSettings(reading=way, section_tokens=SECTION), "compact")
                figures += await _figures(way, Rollouts(engine, store, agents, CONCURRENCY), tasks, engine)
            await store.close()
        finally:
            await engine.close()
    return figures


async def _figures(way: Reading, rollouts: Rollouts, tasks: list[Task], engine: VllmChild) -> list[Figure]:
    def sampling(task: Task, sibling: int) -> Sampling:
        return Sampling(temperature=1.0, max_tokens=48, seed=zlib.crc32(f"{task.id}/{sibling}".encode()))

    queries, hits = await _cache(engine.url or "")
    began = time.perf_counter()
    groups = await rollouts.groups(tasks, GROUP, policy=Policy(base=engine.base), sampling=sampling)
    seconds = time.perf_counter() - began
    more_queries, more_hits = await _cache(engine.url or "")
    trajectories = [t for group in groups for t in group.trajectories]
    calls = sum(len(t.steps) for t in trajectories)
    share = (more_hits - hits) / max(1.0, more_queries - queries)
    return [
        Figure(f"{way}: prompt tokens from the prefix cache", f"{100 * share:.0f} %"),
        Figure(f"{way}: calls per second", f"{calls / seconds:.0f}"),
        Figure(f"{way}: right, untrained", f"{mean([matched(t) for t in trajectories]):.3f}"),
    ]


async def _cache(url: str) -> tuple[float, float]:
    """Prompt tokens that were looked for in the engine's prefix cache, and those that were found."""
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        found = {name: float(value) for name, value in _COUNTER.findall((await http.get("/metrics")).text)}
    return found["queries"], found["hits"]
