"""Rolling out against the engine called directly: recorded calls per second, on the seed model, in the same run."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.figure import Figure
from memory_store.store import LanceMemoryStore
from recollect.policy import Policy
from recollect.settings import AgentSettings, EngineSettings
from recollect.trajectory import Step
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.child import VllmChild
from trainer.environments.generated import generated_tasks
from trainer.rollout import Rollouts

CONCURRENCY = 64


async def run() -> list[Figure]:
    """32 tasks of 3 sections with 8 siblings each; then the same prompts again, sent by bare httpx."""
    with tempfile.TemporaryDirectory() as folder:
        engine = VllmChild(EngineSettings(), Path(folder))
        await engine.start()
        try:
            await engine.ready(600)
            store = LanceMemoryStore(Path(folder) / "memory", None)
            agents = build_agents(AgentSettings(writing="operations"), "compact")
            tasks = generated_tasks(32, seed="bench", part="train", length=lambda text: len(text) // 3, reading_share=1.0)
            rollouts = Rollouts(engine, store, agents, CONCURRENCY)
            began = time.perf_counter()
            groups = await rollouts.groups(
                tasks, 8, policy=Policy(base=engine.base), sampling=lambda *_: Sampling(temperature=1.0, max_tokens=48)
            )
            seconds = time.perf_counter() - began
            steps = [step for group in groups for trajectory in group.trajectories for step in trajectory.steps]
            raw = await _raw(engine.url or "", engine.base, steps)
            await store.close()
        finally:
            await engine.close()
    ours, direct = len(steps) / seconds, len(steps) / raw
    return [
        Figure("recorded calls per second, reader, 3 sections, 8 siblings", f"{ours:.0f}"),
        Figure("the same prompts by bare httpx", f"{direct:.0f}"),
        Figure("ratio", f"{ours / direct:.2f}", "≥ 0.9"),
    ]


async def _raw(url: str, model: str, steps: list[Step]) -> float:
    """Seconds to complete the prompts of `steps` with as many tokens each, as many at a time."""
    places = asyncio.Semaphore(CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=CONCURRENCY)) as http:

        async def one(step: Step) -> None:
            body = {
                "model": model,
                "prompt": step.prompt_ids,
                "max_tokens": len(step.completion_ids or [0]),
                "ignore_eos": True,
                "logprobs": 0,
            }
            async with places:
                (await http.post("/v1/completions", json=body)).raise_for_status()

        began = time.perf_counter()
        await asyncio.gather(*(one(step) for step in steps))
        return time.perf_counter() - began
