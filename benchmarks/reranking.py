"""RMM's reranker learning online: 1,000 requests over HTTP where 5 of 20 candidates matter and the scripted engine cites those it is shown.

Each request comes from a user of its own, with 20 memories on four topics, five each. A question and the memories that matter for it
share no words, so that cosine alone tells them apart by chance. A control run draws the same noise and never learns.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from openai import AsyncOpenAI

from benchmarks.figure import Figure
from benchmarks.listening import listening
from benchmarks.scale import number, scaled
from memory_store.embedders.hash import HashEmbedder
from recollect.log import read_log
from recollect.settings import AgentSettings, RmmSettings, Settings
from server.agents.rmm.rerankers import Rerankers
from server.app import create_app
from server.engines.scripted import ScriptedCall, ScriptedEngine
from server.service import Service
from trainer.evaluate import Difference, paired_difference

SEEDS = (1, 2, 3)
TENANT = "local"
TOPICS = {
    "Which songs and bands do I like": "The cello concert was lovely",
    "What should I cook for dinner tonight": "She bakes sourdough bread every Sunday",
    "Where could we go on holiday": "The ferry to Bergen leaves at noon",
    "How is my job at the office": "A quarterly report was due by Friday",
}
MEMORIES = [
    {"id": f"m{i}", "text": f"{memory}, number {copy}."}
    for i, (copy, memory) in enumerate((copy, memory) for copy in range(5) for memory in TOPICS.values())
]
NEVER = 1e-30
"""A learning rate at which nothing is learned: the control."""
_SHOWN = re.compile(r"^\[(\d+)\] (.*)$", re.M)


class Server(NamedTuple):
    """A server, and its clients."""

    service: Service
    http: httpx.AsyncClient
    openai: AsyncOpenAI


@dataclass(frozen=True, slots=True)
class Cited:
    """The part of the shown memories that each answer cites, and the weights in the end, as bytes."""

    fractions: Sequence[float]
    weights: bytes


def cites_what_matters(call: ScriptedCall) -> str:
    """Answers with the numbers of the shown memories that belong to the question's topic."""
    asked = call.messages[-1].content
    memory = next(memory for question, memory in TOPICS.items() if question in asked.rpartition("\n\n")[2])
    cited = [shown for shown, text in _SHOWN.findall(asked) if text.startswith(memory)]
    return f"Well. [{', '.join(cited)}]" if cited else "Well. [none]"


async def serve(home: Path, seed: int, count: int, *, restart_at: int | None = None, **settings: object) -> Cited:
    """`count` requests to the agent `rmm` of a server on `home`, which is stopped and started again before request `restart_at`."""
    own = Settings(
        home=home,
        agents=AgentSettings(prompts="default", rmm=RmmSettings.model_validate({"seed": seed, **settings})),
    )
    draw = random.Random(seed)
    questions = [f"{draw.choice(list(TOPICS))}, number {draw.randrange(1000)}?" for _ in range(count)]
    parts = [range(count)] if restart_at is None else [range(restart_at), range(restart_at, count)]
    asked: list[str] = []
    for part in parts:
        async with _server(own) as server:
            asked += [await _ask(server, f"u{seed}-{place}", questions[place]) for place in part]
    logged = {one.trajectory.id: one.trajectory for one in read_log(home / "trajectories", strict=True).trajectories}
    answers = [next(step for step in logged[identity].steps if step.role == "answerer") for identity in asked]
    rerankers, embedder = Rerankers(home / "rerankers", own.agents.rmm), HashEmbedder()
    weights = rerankers.of(TENANT, embedder.id, embedder.dimension).state.weights
    rerankers.close()
    return Cited([len(step.cited) / len(step.retrieved) for step in answers], weights.query.tobytes() + weights.memory.tobytes())


@asynccontextmanager
async def _server(settings: Settings) -> AsyncGenerator[Server]:
    app = create_app(settings, engine=ScriptedEngine(answer=cites_what_matters), embedder=HashEmbedder())
    async with (
        listening(app) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as http,
        AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as openai,
    ):
        service: Service = app.state.service
        while not (await service.status()).ready:  # noqa: ASYNC110 (as clients poll it)
            await asyncio.sleep(0.01)
        yield Server(service, http, openai)


async def _ask(server: Server, name: str, question: str) -> str:
    """Give a new user the memories, ask, and wait until the answer was learned from. Returns the trajectory's id."""
    (await server.http.post("/v1/memories/batch", json={"user": name, "memories": MEMORIES})).raise_for_status()
    answer = await server.openai.chat.completions.create(model="rmm", user=name, messages=[{"role": "user", "content": question}])
    while len(server.service.chat.pending):  # noqa: ASYNC110 (what is pending has no event for others)
        await asyncio.sleep(0.001)
    return answer.id.removeprefix("chatcmpl-")


@dataclass(frozen=True, slots=True)
class Learned:
    """Cited fractions of the first and the last quarter, the last one's gain over the control, and of frozen choices before and after."""

    first: float
    last: float
    gain: Difference
    frozen_before: float
    frozen_after: float


async def learned(folder: Path, seed: int, count: int, *, learning_rate: float = RmmSettings().learning_rate) -> Learned:
    """Serve with and without learning, then frozen."""
    quarter, probes = max(1, count // 4), max(4, count // 10)
    before = await serve(folder / "before", seed + 100, probes, learn=False)
    run = await serve(folder / "run", seed, count, learning_rate=learning_rate)
    control = await serve(folder / "control", seed, count, learning_rate=NEVER)
    gain = paired_difference(control.fractions[-quarter:], run.fractions[-quarter:])
    assert gain is not None
    after = await serve(folder / "run", seed + 100, probes, learn=False)
    first, last, frozen_before, frozen_after = (
        float(np.mean(part)) for part in (run.fractions[:quarter], run.fractions[-quarter:], before.fractions, after.fractions)
    )
    return Learned(first, last, gain, frozen_before, frozen_after)


async def run() -> list[Figure]:
    """Three seeds."""
    count = scaled(1000, 40)
    figures: list[Figure] = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            found = await learned(Path(folder), seed, count)
        gain = found.gain
        shown = (
            f"{found.first:.3f} to {found.last:.3f}; over the control {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]; "
            f"frozen {found.frozen_before:.3f} to {found.frozen_after:.3f}"
        )
        figures.append(Figure(f"cited fraction over {number(count)} requests, seed {seed}", shown, "rises: the interval is above 0"))
    return figures
