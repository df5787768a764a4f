"""One policy of Memory-R1 learns while the other is frozen: what is trained on, what is sampled from, what is loaded."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError
from recollect.manifest import Fingerprint, Manifest
from recollect.memory import Namespace
from recollect.messages import user
from recollect.policy import Policy
from recollect.registry import CONFIG, WEIGHTS, Registry, file_sha256
from recollect.settings import AgentSettings
from recollect.trajectory import TrajectoryGroup
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.scripted import ScriptedCall, ScriptedEngine
from trainer.credit import Learning, credit
from trainer.environments.tasks import Task, Turn
from trainer.frozen import frozen_aliases, frozen_policies
from trainer.rewards.score import score
from trainer.rollout import Rollouts

MANAGER, ANSWER_AGENT = "memory-manager", "memory-answer"
LEARNS = {MANAGER: ["extractor", "manager"], ANSWER_AGENT: ["answerer"]}
BASE = Policy(base="scripted")
CANDIDATE = Policy(base="scripted", adapter=MANAGER, candidate="r1.3")
FROZEN = Policy(base="scripted", adapter=ANSWER_AGENT, candidate="r1.2")
TASK = Task(
    id="d",
    kind="dialogue",
    agent="memory-r1",
    namespace=Namespace.parse("user/ada"),
    conversation=(Turn(messages=(user("My dog is Tarvo."),), reply="Noted."),),
    request=(user("What is my dog called?"),),
    gold=("Tarvo",),
    source="generated",
)


class _Siblings:
    """A manager of which every other sibling writes what cannot be read, and an answer agent that repeats what it is shown."""

    def __init__(self) -> None:
        self.turns = count()

    def __call__(self, call: ScriptedCall) -> str:
        asked = call.messages[-1].content
        if "<fact>" in asked:
            return json.dumps({"op": "ADD"}) if next(self.turns) % 2 else "I add it."
        if "<message>" in asked:
            return "User's dog is Tarvo."
        return "[1] User's dog is Tarvo.\n**Answer:** Tarvo" if "Tarvo" in asked else "I do not know."


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[LanceMemoryStore]:
    made = LanceMemoryStore(tmp_path / "memory", HashEmbedder())
    yield made
    await made.close()


async def rolled_out(
    store: LanceMemoryStore, *, policy: Policy = BASE, frozen: dict[str, Policy] | None = None, guided: bool = False
) -> tuple[Sequence[TrajectoryGroup], ScriptedEngine]:
    engine = ScriptedEngine(answer=_Siblings(), guided=guided, adapters={CANDIDATE.name: "a", FROZEN.name: "b"})
    rollouts = Rollouts(engine, store, build_agents(AgentSettings(), "default"), concurrency=1, frozen=frozen or {})
    sampling = Sampling(temperature=1.0, max_tokens=64)
    return await rollouts.groups([TASK], 4, policy=policy, sampling=lambda *_: sampling), engine


@pytest.mark.parametrize("learner", LEARNS)
async def test_no_token_of_the_frozen_policy_has_a_weight_in_the_gradient(store: LanceMemoryStore, learner: str) -> None:
    """Both are the base model here, so that nothing but the alias tells them apart."""
    groups, _ = await rolled_out(store)
    trajectories = {t.id: t for group in groups for t in group.trajectories}
    steps = [step for t in trajectories.values() for step in t.steps]
    assert all(step.policy == BASE for step in steps)
    credited = credit(groups, learning=Learning(learner))
    trained = [trajectories[sample.trajectory_id].steps[sample.step] for sample in credited.samples]
    assert sorted({step.role for step in trained}) == LEARNS[learner]
    assert len(trained) == sum(step.alias == learner for step in steps) == credited.num_groups * 4 * len(LEARNS[learner])
    assert credited.num_frozen == sum(step.alias != learner for step in steps) > 0
    assert credited.num_untrainable == 0
    for sample, step in zip(credited.samples, trained, strict=True):
        assert (list(sample.completion_ids), list(sample.logprobs)) == (step.completion_ids, step.logprobs)
    assert any(sample.advantage > 0 for sample in credited.samples)


async def test_roles_part_what_learns_where_one_alias_plays_several(store: LanceMemoryStore) -> None:
    groups, _ = await rolled_out(store)
    credited = credit(groups, learning=Learning(MANAGER, ("manager",)))
    roles = {t.id: t.steps for t in groups[0].trajectories}
    assert {roles[sample.trajectory_id][sample.step].role for sample in credited.samples} == {"manager"}
    assert credited.num_frozen == 8
    assert credit(groups).num_frozen == 0


async def test_each_alias_samples_from_its_own_policy(store: LanceMemoryStore) -> None:
    groups, engine = await rolled_out(store, policy=CANDIDATE, frozen={ANSWER_AGENT: FROZEN})
    assert all(t.error is None for t in groups[0].trajectories)
    found = {(step.alias, step.policy.name) for t in groups[0].trajectories for step in t.steps if step.policy is not None}
    assert found == {(MANAGER, CANDIDATE.name), (ANSWER_AGENT, FROZEN.name)}
    assert {call.policy.name for call in engine.calls} == {CANDIDATE.name, FROZEN.name}


async def test_the_manager_is_rewarded_for_the_frozen_agents_answer_and_for_its_form(store: LanceMemoryStore) -> None:
    groups, _ = await rolled_out(store)
    found = [[(reward.name, reward.score) for reward in await score(TASK, t)] for t in groups[0].trajectories]
    assert sorted(found) == [[("exact_match", 0.0), ("format", 0.0)]] * 2 + [[("exact_match", 1.0), ("format", 1.0)]] * 2


async def test_rollouts_are_never_decoded_under_a_schema(store: LanceMemoryStore) -> None:
    _, engine = await rolled_out(store, guided=True)
    assert {call.sampling.schema for call in engine.calls} == {None}


def test_the_frozen_aliases_are_those_that_the_tasks_agents_call_beside_the_learners() -> None:
    agents = build_agents(AgentSettings(), "default")
    assert frozen_aliases("memory", [agents["memory"], agents["reader"]]) == frozenset()
    assert frozen_aliases(MANAGER, [agents["memory-r1"]]) == {ANSWER_AGENT}
    with pytest.raises(ConfigurationError, match="policy 'memory' is called by no agent of the tasks; they call: memory-answer") as caught:
        frozen_aliases("memory", [agents["memory-r1"]])
    assert caught.value.param == "policy"


def publish(registry: Registry, folder: Path, version: int) -> None:
    """A version of the answer agent."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_text(f"weights {version}")
    (folder / CONFIG).write_text('{"r": 16}')
    manifest = Manifest(
        policy=ANSWER_AGENT,
        version=version,
        base="seed",
        run_id="r0",
        rank=16,
        alpha=32,
        target_modules=["q_proj"],
        fingerprint=Fingerprint(probes=[]),
        sha256=file_sha256(folder / WEIGHTS),
    )
    registry.publish(folder, manifest)


async def test_a_frozen_version_is_loaded_under_a_name_of_the_runs_own_and_unloaded(tmp_path: Path) -> None:
    engine, registry = ScriptedEngine(), Registry(tmp_path / "adapters")
    for version in (1, 2):
        publish(registry, tmp_path / "made", version)

    async def broken_run() -> None:
        async with frozen_policies(engine, registry, {ANSWER_AGENT: 2, MANAGER: None}, pool="local", run_id="r1") as frozen:
            assert frozen == {ANSWER_AGENT: FROZEN, MANAGER: BASE}
            assert engine.adapters == {"memory-answer@runr1.2": str(registry.path(ANSWER_AGENT, 2).resolve())}
            raise RuntimeError("the run broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        await broken_run()
    assert engine.adapters == {}
