"""RMM's reranker learning online: 1,000 requests where 5 of 20 candidates matter and the scripted engine cites those that are shown.

Each request comes from a user of its own, with 20 memories on four topics, five each. A question and the memories that matter for it
share no words, so that cosine alone tells them apart by chance. A control run draws the same noise and never learns.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.figure import Figure
from benchmarks.scale import number, scaled
from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import AgentSettings, RmmSettings
from server.agents.base import AgentContext, AgentRequest
from server.agents.recorder import Recorder
from server.agents.registry import build_agent
from server.agents.rmm.rerankers import Rerankers
from server.engines.scripted import ScriptedCall, ScriptedEngine
from trainer.evaluate import Difference, paired_difference

SEEDS = (1, 2, 3)
HERE = Namespace.parse("user/ada", tenant="acme")
TOPICS = {
    "Which songs and bands do I like": "The cello concert was lovely",
    "What should I cook for dinner tonight": "She bakes sourdough bread every Sunday",
    "Where could we go on holiday": "The ferry to Bergen leaves at noon",
    "How is my job at the office": "A quarterly report was due by Friday",
}
NEVER = 1e-30
"""A learning rate at which nothing is learned: the control."""
_SHOWN = re.compile(r"^\[(\d+)\] (.*)$", re.M)


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


async def serve(folder: Path, seed: int, count: int, *, restart_at: int | None = None, **settings: object) -> Cited:
    """Serve `count` requests by the agent `rmm`, under `folder`; with a restart of what learns before request `restart_at`."""
    own = RmmSettings.model_validate({"seed": seed, **settings})
    agent = build_agent("rmm", AgentSettings(rmm=own), "default")
    engine = ScriptedEngine(answer=cites_what_matters)
    store = LanceMemoryStore(folder / "memory", HashEmbedder())
    texts = [f"{memory}, number {copy}." for copy in range(5) for memory in TOPICS.values()]
    await store.apply(HERE, [MemoryWrite(op="add", id=f"m{i}", text=text) for i, text in enumerate(texts)])
    rerankers = Rerankers(folder / "rerankers", own)
    draw, fractions = random.Random(seed), list[float]()
    for request_number in range(count):
        if request_number == restart_at:
            rerankers.close()
            rerankers = Rerankers(folder / "rerankers", own)
        question = f"{draw.choice(list(TOPICS))}, number {draw.randrange(1000)}?"
        request = AgentRequest((user(question),))
        ctx = AgentContext(
            engine=engine,
            store=await store.fork(HERE),
            namespace=HERE,
            policies={"memory": Policy(base=engine.base)},
            recorder=Recorder(trajectory_id=f"t{request_number}"),
            rerankers=rerankers,
        )
        answer = "".join([event.text async for event in agent.run(request, ctx)])
        await agent.acknowledge(request, ctx)
        await agent.remember(request, answer, ctx)
        (step,) = ctx.recorder.of_role("answerer")
        fractions.append(len(step.cited) / len(step.retrieved))
    embedder = HashEmbedder()
    weights = rerankers.of(HERE.tenant, embedder.id, embedder.dimension).state.weights
    rerankers.close()
    await store.close()
    return Cited(fractions, weights.query.tobytes() + weights.memory.tobytes())


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
