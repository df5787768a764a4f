"""Environments and rollouts: the server's agents on private forks of the memory, with a scripted engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import EngineError, EngineUnavailable
from recollect.memory import MemoryWrite, Namespace
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings import AgentSettings
from recollect.stores import MemoryStore
from recollect.trajectory import Trajectory
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.scripted import ScriptedCall, ScriptedEngine, Trouble
from trainer.environments.base import Environment
from trainer.environments.tasks import Task, Turn
from trainer.evaluate import Evaluation, evaluate
from trainer.recorded import Recorded, recorded_rollouts
from trainer.rewards.case import Scoring
from trainer.rewards.weights import RewardWeights
from trainer.rollout import Rollouts

ADA = Namespace.parse("user/ada")
BASE = Policy(base="scripted")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[LanceMemoryStore]:
    made = LanceMemoryStore(tmp_path / "memory", HashEmbedder())
    yield made
    await made.close()


def policy_that_remembers(call: ScriptedCall) -> str:
    """Adds `dog: NAME` when a turn tells one, and answers a question with the first memory it is shown."""
    asked = call.messages[-1].content if call.messages else call.prompt
    if "Operations:" in asked:
        turn = asked.partition("Turn: ")[2].partition("\n")[0]
        return f"ADD User's dog is {turn.split()[-1].rstrip('.')}." if "dog is" in turn else "NOOP"
    if "New memory:" in asked:
        return "The code is 7."
    if "Answer:" in asked:
        return "\\boxed{7}"
    told = asked.partition("dog is ")[2].partition(".")[0]
    return f"{told} [1]" if told else "I do not know."


def engine(trouble: Trouble | None = None) -> ScriptedEngine:
    return ScriptedEngine(answer=policy_that_remembers, trouble=trouble or Trouble())


def dialogue(**changed: object) -> Task:
    told = [Turn(messages=(user(text),), reply="Noted.") for text in ("My dog is Tarvo.", "It rains.")]
    values = {
        "id": "d",
        "kind": "dialogue",
        "agent": "memory",
        "namespace": ADA,
        "conversation": told,
        "request": [user("What is my dog called?")],
        "gold": ["Tarvo"],
        "source": "generated",
    }
    return Task.model_validate(values | changed)


def reading() -> Task:
    document = " ".join(f"Sentence number {i} says nothing." for i in range(12))
    values = {"id": "r", "kind": "reading", "agent": "reader", "request": [user(document), user("What is the code?")], "gold": ["7"]}
    return Task.model_validate(values | {"source": "generated"})


async def run(task: Task, store: MemoryStore, scripted: ScriptedEngine, writing: str = "operations") -> tuple[Trajectory, Environment]:
    agents = build_agents(AgentSettings.model_validate({"writing": writing}), "compact")
    fork = await store.fork(task.namespace, as_of=task.as_of or 0)
    environment = Environment(task=task, fork=fork, engine=scripted, policies={"memory": BASE}, sampling=Sampling(temperature=1.0))
    return await environment.run(agents[task.agent]), environment


async def test_a_dialogue_is_remembered_by_the_agent_and_then_asked(store: LanceMemoryStore) -> None:
    trajectory, environment = await run(dialogue(), store, engine())
    assert trajectory.answer == "Tarvo [1]"
    assert [(s.index, s.role) for s in trajectory.steps] == [(0, "updater"), (1, "updater"), (2, "answerer")]
    assert all(step.trainable and step.policy == BASE for step in trajectory.steps)
    assert all(step.sampling["temperature"] == 1.0 for step in trajectory.steps)
    assert trajectory.memory_seq_before == {"user/ada": 0}
    assert trajectory.memory_seq_after == {"user/ada": 1}
    assert {r.name: r.score for r in await environment.score(trajectory)} == {"exact_match": 1.0, "format": 1.0}


async def test_evidence_that_names_a_turn_is_found_in_the_memory_that_the_turn_was_written_to(store: LanceMemoryStore) -> None:
    texts = {"D1:1": "My dog is Tarvo.", "D1:2": "It rains."}
    told = [Turn(messages=(user(text),), id=name) for name, text in texts.items()]
    environment = Environment(
        task=dialogue(conversation=told, evidence=["D1:1"]),
        fork=await store.fork(ADA, as_of=0),
        engine=engine(),
        policies={"memory": BASE},
        sampling=Sampling(),
        weights=RewardWeights.model_validate({"evidence_recall": 1, "evidence_attribution": 1}),
        scoring=Scoring(k=1),
    )
    trajectory = await environment.run(build_agents(AgentSettings(writing="episodic"), "compact")["memory"])
    found = {r.name: r for r in await environment.score(trajectory)}
    assert (found["exact_match"].score, found["evidence_recall"].score) == (1.0, 1.0)
    assert sum(found["evidence_attribution"].by_step.values()) == pytest.approx(1.0)
    environment.task = dialogue(conversation=told, evidence=["D1:2"])
    assert {r.name: r.score for r in await environment.score(trajectory)}["evidence_recall"] == 0.0


async def test_under_episodic_writing_turns_are_kept_as_they_were_said_without_a_call(store: LanceMemoryStore) -> None:
    trajectory, _ = await run(dialogue(), store, engine(), "episodic")
    assert [s.role for s in trajectory.steps] == ["writer", "writer", "answerer"]
    assert trajectory.answer == "Tarvo [1]"


async def test_a_document_is_read_section_by_section(store: LanceMemoryStore) -> None:
    trajectory, environment = await run(reading(), store, engine())
    roles = [s.role for s in trajectory.steps]
    assert roles[-1] == "reader_answer"
    assert set(roles[:-1]) == {"reader"}
    assert len(roles) > 3
    assert {r.name: r.score for r in await environment.score(trajectory)} == {"exact_match": 1.0, "format": 1.0}


async def test_a_logged_task_begins_with_the_memory_of_its_time(store: LanceMemoryStore) -> None:
    await store.apply(ADA, [MemoryWrite(op="add", id="m1", text="User's dog is Mira.")])
    seq = await store.seq(ADA)
    await store.apply(ADA, [MemoryWrite(op="update", id="m1", text="User's dog is Tarvo.")])
    task = dialogue(conversation=[], as_of=seq, gold=["Mira"], source="logged")
    trajectory, _ = await run(task, store, engine())
    assert trajectory.answer == "Mira [1]"


async def test_initial_memories_are_those_of_the_task(store: LanceMemoryStore) -> None:
    write = MemoryWrite(op="add", id="m1", text="User's dog is Brum.")
    trajectory, _ = await run(dialogue(conversation=[], memories=[write]), store, engine())
    assert trajectory.answer == "Brum [1]"


async def test_an_environment_is_run_once(store: LanceMemoryStore) -> None:
    _, environment = await run(dialogue(), store, engine())
    with pytest.raises(RuntimeError, match="run once"):
        await environment.run(build_agents(AgentSettings(), "compact")["memory"])


async def test_a_failure_ends_the_trajectory_with_its_reason_and_no_score(store: LanceMemoryStore) -> None:
    trajectory, environment = await run(dialogue(), store, engine(Trouble(fail=EngineError("out of paper"))))
    assert trajectory.error == "EngineError: out of paper"
    assert (await environment.score(trajectory))[0].score is None


def rollouts(store: MemoryStore, scripted: ScriptedEngine, concurrency: int = 8) -> Rollouts:
    agents = build_agents(AgentSettings(writing="operations"), "compact")
    return Rollouts(engine=scripted, store=store, agents=agents, concurrency=concurrency)


async def test_siblings_share_nothing_and_the_store_is_left_as_it_was(store: LanceMemoryStore) -> None:
    done: list[int] = []
    groups = await rollouts(store, engine()).groups(
        [dialogue(), reading()], 4, policy=BASE, sampling=lambda *_: Sampling(temperature=1.0), progress=lambda: done.append(1)
    )
    assert [(g.task_id, len(g.trajectories)) for g in groups] == [("d", 4), ("r", 4)]
    assert [t.memory_seq_after for t in groups[0].trajectories] == [{"user/ada": 1}] * 4
    assert len({t.id for g in groups for t in g.trajectories}) == 8
    assert all(t.reward == pytest.approx(1.1) for g in groups for t in g.trajectories)
    assert len(done) == 8
    assert await store.seq(ADA) == 0


async def test_only_so_many_rollouts_are_in_flight(store: LanceMemoryStore) -> None:
    scripted, most = engine(Trouble(hold=asyncio.Event())), 0
    running = asyncio.create_task(
        rollouts(store, scripted, concurrency=3).groups([dialogue()] * 4, 2, policy=BASE, sampling=lambda *_: Sampling())
    )
    while scripted.in_flight < 3:  # noqa: ASYNC110 (the engine has no event for it)
        await asyncio.sleep(0)
    for _ in range(50):
        await asyncio.sleep(0)
        most = max(most, scripted.in_flight)
    assert most == 3
    assert scripted.trouble.hold is not None
    scripted.trouble.hold.set()
    assert len(await running) == 4


async def test_one_failed_rollout_is_data_and_all_failed_is_an_error(store: LanceMemoryStore) -> None:
    some = await rollouts(store, engine(Trouble(fail=EngineError("x"), failures=1))).groups(
        [dialogue()], 4, policy=BASE, sampling=lambda *_: Sampling()
    )
    assert sum(t.error is not None for t in some[0].trajectories) == 1
    with pytest.raises(EngineError, match="all 2 rollouts failed"):
        await rollouts(store, engine(Trouble(fail=EngineError("x")))).groups([dialogue()], 2, policy=BASE, sampling=lambda *_: Sampling())


async def test_held_out_tasks_are_asked_with_the_same_seeds_each_time_and_once_greedily(store: LanceMemoryStore) -> None:
    seen: list[set[int | None]] = []

    async def measured() -> Evaluation:
        scripted = engine()
        found = await evaluate(
            rollouts(store, scripted), [dialogue(), reading()], BASE, samples_per_task=3, temperature=1.0, max_tokens=16, seed=5
        )
        seen.append({call.sampling.seed for call in scripted.calls})
        assert {call.sampling.temperature for call in scripted.calls} == {0.0, 1.0}
        return found

    await measured()
    found = await measured()
    assert seen[0] == seen[1]
    assert len(seen[0]) == 7
    assert (found.accuracy, found.greedy_accuracy, found.num_errors) == (1.0, 1.0, 0)
    assert found.by_kind() == {"dialogue": 1.0, "reading": 1.0}


async def test_what_failed_because_the_engine_was_gone_is_not_recorded_and_what_failed_by_itself_is(
    store: MemoryStore, tmp_path: Path
) -> None:
    def answer(call: ScriptedCall) -> str:
        if "gone" in call.prompt:
            raise EngineUnavailable("the engine is gone")
        if "broken" in call.prompt:
            raise EngineError("the engine broke")
        return "yes"

    recorded = Recorded(tmp_path / "rollouts", lambda _: True)
    asked = [
        Task(id=text, kind="dialogue", agent="memory", request=(user(text),), gold=("yes",), source="generated")
        for text in ("gone", "broken", "whole")
    ]
    staged = replace(rollouts(store, ScriptedEngine(answer=answer)), stage=recorded.stage("before"))
    await staged.groups(asked, 1, policy=BASE, sampling=lambda *_: Sampling())
    recorded.close()
    assert sorted(one.trajectory.session for one in recorded_rollouts(tmp_path / "rollouts")) == ["broken", "whole"]


async def test_a_group_that_a_dead_run_had_rolled_out_further_has_all_that_is_on_the_disk(store: MemoryStore, tmp_path: Path) -> None:
    """One of the first had failed when the run died: tried again it agrees with the other, but the rest is recorded already."""
    root = tmp_path / "rollouts"
    recorded = Recorded(root, lambda _: True)
    [whole] = await rollouts(store, engine()).groups([dialogue()], 4, policy=BASE, sampling=lambda *_: Sampling())
    for sibling in (0, 2, 3):
        await recorded.stage("0001").add(0, sibling, whole.trajectories[sibling])
    recorded.close()
    recorded = Recorded(root, lambda _: True)
    staged = replace(rollouts(store, engine()), stage=recorded.stage("0001"))
    [group] = await staged.groups([dialogue()], 4, policy=BASE, sampling=lambda *_: Sampling(), decided_after=2)
    [fresh] = await rollouts(store, engine()).groups([dialogue()], 4, policy=BASE, sampling=lambda *_: Sampling(), decided_after=2)
    recorded.close()
    assert [t.id for t in group.trajectories] == [one.trajectory.id for one in sorted(recorded_rollouts(root), key=lambda one: one.sibling)]
    assert (len(group.trajectories), len(fresh.trajectories)) == (4, 2)
