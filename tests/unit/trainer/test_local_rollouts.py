"""Siblings that begin again from an intermediate memory: real agents on real forks, with a scripted engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import count
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import Namespace
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import AgentSettings
from recollect.trajectory import Forked, Reward, Step, TrajectoryGroup
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.scripted import ScriptedCall, ScriptedEngine
from trainer.credit import Credit, Learning, credit
from trainer.environments.tasks import Task, Turn
from trainer.local_rollouts import forks, sampled, with_forks
from trainer.rollout import Rollouts

BASE = Policy(base="scripted")
LOCAL = Credit(use="local", rerolls=3)
DIALOGUE = Task(
    id="d",
    kind="dialogue",
    agent="memory",
    namespace=Namespace.parse("user/ada"),
    conversation=tuple(Turn(messages=(user(text),)) for text in ("My dog is Tarvo.", "My cat is Brum.", "It rains.")),
    request=(user("What is my dog called?"),),
    gold=("Tarvo",),
    source="generated",
)
READING = Task(
    id="r",
    kind="reading",
    agent="reader",
    request=(user(" ".join(f"Sentence number {i} says nothing." for i in range(12))), user("What is the code?")),
    gold=("7",),
    source="generated",
)


class Moody:
    """Writes the turn down with a number of its own, so that no two siblings say the same; answers by turns right and wrong."""

    def __init__(self) -> None:
        self._numbers = count()

    def __call__(self, call: ScriptedCall) -> str:
        number, asked = next(self._numbers), call.messages[-1].content if call.messages else call.prompt
        if "Operations:" in asked:
            return f"ADD {asked.partition('Turn: ')[2].partition(chr(10))[0]} Note {number}."
        if "New memory:" in asked:
            return f"Note {number}."
        wrong = "\\boxed{none}" if "Answer:" in asked else "I do not know."
        return wrong if number % 2 else "\\boxed{7}" if "Answer:" in asked else "Tarvo"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[LanceMemoryStore]:
    made = LanceMemoryStore(tmp_path / "memory", HashEmbedder())
    yield made
    await made.close()


def sampling(*_: object) -> Sampling:
    return Sampling(temperature=1.0)


async def rolled(store: LanceMemoryStore, task: Task, settings: Credit = LOCAL) -> tuple[TrajectoryGroup, list[ScriptedCall]]:
    """A group of three with its re-rolled siblings, and what the engine was asked for these."""
    engine = ScriptedEngine(answer=Moody())
    rollouts = Rollouts(engine, store, build_agents(AgentSettings(writing="operations"), "compact"))
    groups = await rollouts.groups([task], 3, policy=BASE, sampling=sampling)
    asked = len(engine.calls)
    (group,) = await with_forks(rollouts, [task], groups, settings, policy=BASE, sampling=sampling)
    return group, engine.calls[asked:]


def tokens(step: Step) -> tuple[object, ...]:
    return (step.role, step.text, step.prompt_ids, step.completion_ids, step.logprobs, step.finish_reason, step.usage)


@pytest.mark.parametrize("task", [DIALOGUE, READING], ids=lambda task: task.kind)
async def test_re_rolled_siblings_repeat_the_first_calls_and_sample_the_rest(store: LanceMemoryStore, task: Task) -> None:
    group, asked = await rolled(store, task)
    whole, again = group.trajectories[:3], group.trajectories[3:]
    assert [t.error for t in group.trajectories] == [None] * 6
    assert [t.forked for t in whole] == [None] * 3
    (fork,) = {(t.forked or Forked(trajectory_id="", calls=0)).model_dump_json() for t in again}
    forked = Forked.model_validate_json(fork)
    (origin,) = (t for t in whole if t.id == forked.trajectory_id)
    assert 0 < forked.calls < len(sampled(origin))
    for trajectory in again:
        shared, own = sampled(trajectory)[: forked.calls], trajectory.own_steps
        assert [tokens(step) for step in shared] == [tokens(step) for step in sampled(origin)[: forked.calls]]
        assert len(own) == len(origin.steps) - forked.calls
        assert own[0].prompt_ids == sampled(origin)[forked.calls].prompt_ids
        assert all(step.text != other.text or step.role != "updater" for step, other in zip(own, origin.own_steps, strict=False))
    assert len(asked) == sum(len(t.own_steps) for t in again)
    assert await store.seq(DIALOGUE.namespace) == 0


async def test_the_memories_at_the_fork_are_those_of_the_trajectory_word_for_word(store: LanceMemoryStore) -> None:
    group, _ = await rolled(store, DIALOGUE, LOCAL.model_copy(update={"forks": 9, "rerolls": 1}))
    by_id = {t.id: t for t in group.trajectories}
    again = [(t, t.forked) for t in group.trajectories if t.forked]
    assert len(again) == 9
    for trajectory, forked in again:
        written = [[op.text for op in step.memory_ops] for step in sampled(trajectory)[: forked.calls]]
        assert written == [[op.text for op in step.memory_ops] for step in sampled(by_id[forked.trajectory_id])[: forked.calls]]


async def test_what_is_repeated_is_credited_once(store: LanceMemoryStore) -> None:
    group, asked = await rolled(store, DIALOGUE)
    scores = [Reward(name="exact_match", score=float(number % 2)) for number in range(6)]
    scored = [t.model_copy(update={"rewards": [one]}) for t, one in zip(group.trajectories, scores, strict=True)]
    found = credit([group.model_copy(update={"trajectories": scored})], LOCAL)
    assert found.skipped["forks"] == 1
    assert found.num_uncredited == sum(t.forked.calls for t in scored if t.forked)
    assert len(found.samples) == 3 * 4 + len(asked)


async def test_only_the_local_estimator_rolls_out_again(store: LanceMemoryStore) -> None:
    group, asked = await rolled(store, DIALOGUE, Credit())
    assert (len(group.trajectories), asked) == (3, [])


async def test_forks_are_a_function_of_the_group_and_lie_at_calls_that_learn(store: LanceMemoryStore) -> None:
    group, _ = await rolled(store, DIALOGUE, Credit())
    assert forks(group, 2) == forks(group, 2)
    assert {calls for _, calls in forks(group, 99)} == {1, 2, 3}
    assert {calls for _, calls in forks(group, 99, Learning(None, ("answerer",)))} == {3}
    failed = group.model_copy(update={"trajectories": [t.model_copy(update={"error": "gone"}) for t in group.trajectories]})
    assert forks(failed, 2) == []


async def test_a_rollout_that_departs_from_the_record_fails_with_its_reason(store: LanceMemoryStore) -> None:
    group, _ = await rolled(store, DIALOGUE, Credit())
    other = DIALOGUE.model_copy(update={"conversation": (Turn(messages=(user("My dog is Mira."),)), *DIALOGUE.conversation[1:])})
    rollouts = Rollouts(ScriptedEngine(answer=Moody()), store, build_agents(AgentSettings(writing="operations"), "compact"))
    (found,) = await with_forks(rollouts, [other], [group], LOCAL, policy=BASE, sampling=sampling)
    assert {t.error for t in found.trajectories[3:]} == {
        "EngineError: a repeated rollout departs from the recorded one: step 0 (updater) was asked something else"
    }
