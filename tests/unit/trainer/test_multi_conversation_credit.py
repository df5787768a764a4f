"""Multi-Conv DAPO (MemAgent, arXiv 2507.02259): only the last conversation of a reading is scored, all of them are credited alike."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import AgentSettings
from recollect.trajectory import TrajectoryGroup
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.scripted import ScriptedCall, ScriptedEngine
from trainer.credit import credit
from trainer.environments.tasks import Task
from trainer.rollout import Rollouts

SIBLINGS = 16
RIGHT = (2, 3, 9)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[LanceMemoryStore]:
    made = LanceMemoryStore(tmp_path / "memory", HashEmbedder())
    yield made
    await made.close()


def says(call: ScriptedCall) -> str:
    """All siblings write memories of which some hold a box; the answers of a few are right."""
    if "New memory:" in call.prompt:
        return "\\boxed{7}" if (call.sampling.seed or 0) % 2 else "nothing"
    return "\\boxed{7}" if call.sampling.seed in RIGHT else "\\boxed{8}"


async def _group(store: LanceMemoryStore) -> TrajectoryGroup:
    document = " ".join(f"Sentence number {number} says nothing." for number in range(12))
    request = (user(document), user("What is the code?"))
    task = Task(id="r", kind="reading", agent="reader", request=request, gold=("7",), metric="boxed", source="file")
    agents = build_agents(AgentSettings(), "compact")
    rollouts = Rollouts(engine=ScriptedEngine(answer=says), store=store, agents=agents)
    policy = Policy(base="scripted")
    (group,) = await rollouts.groups([task], SIBLINGS, policy=policy, sampling=lambda _, sibling: Sampling(temperature=1.0, seed=sibling))
    return group


async def test_the_last_conversation_is_scored_and_its_advantage_is_stamped_on_all(
    store: LanceMemoryStore,
) -> None:
    group = await _group(store)
    match = [next(r.score for r in t.rewards if r.name != "format") for t in group.trajectories]
    assert match == [1.0 if sibling in RIGHT else 0.0 for sibling in range(SIBLINGS)]
    rewards = [trajectory.reward or 0.0 for trajectory in group.trajectories]
    credited = credit([group])
    for trajectory, reward in zip(group.trajectories, rewards, strict=True):
        own = [sample for sample in credited.samples if sample.trajectory_id == trajectory.id]
        assert len(own) == len(trajectory.steps) > 3
        assert [sample.advantage for sample in own] == pytest.approx([reward - sum(rewards) / SIBLINGS] * len(own))


async def test_every_conversation_is_a_row_of_its_own_with_the_ids_that_were_sampled(store: LanceMemoryStore) -> None:
    group = await _group(store)
    rows = {(sample.trajectory_id, sample.step): sample for sample in credit([group]).samples}
    for trajectory in group.trajectories:
        for step in trajectory.steps:
            row = rows[(trajectory.id, step.index)]
            assert (row.prompt_ids, row.completion_ids) == (tuple(step.prompt_ids or ()), tuple(step.completion_ids or ()))
