"""The rewards of a rollout by name: which are scored, with which weight, and what was not scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp.test_utils import TestServer

from recollect.errors import ConfigurationError
from recollect.memory import MemoryWrite
from recollect.messages import user
from recollect.policy import Policy
from recollect.settings_read import load
from recollect.trajectory import MemoryOp, MemoryRef, Reward, Step, Trajectory, TrajectoryGroup, Usage
from tests.unit.trainer.judge_stub import JudgeStub
from trainer.batches import Batch
from trainer.cli import training_config
from trainer.credit import credit
from trainer.environments.tasks import Metric, Task, Turn
from trainer.inputs import check_settings
from trainer.iteration import Timing, iteration_metrics
from trainer.rewards.case import Scoring
from trainer.rewards.catalogue import NAMES
from trainer.rewards.judge import JudgeSettings, opened_judge
from trainer.rewards.matches import METRICS
from trainer.rewards.score import score
from trainer.rewards.weights import RewardWeights
from trainer.run_folder import RunFolder
from trainer.task_pool import TaskPool

POLICY = Policy(base="scripted")


def task(kind: str = "dialogue", **changed: object) -> Task:
    values = {"id": "t", "kind": kind, "agent": "memory", "request": [user("?")], "gold": ["Tarvo"], "source": "generated"}
    return Task.model_validate(values | changed)


def trajectory(answer: str, *steps: Step, error: str | None = None) -> Trajectory:
    return Trajectory(
        id="x",
        tenant="local",
        namespace="user/a",
        session="s",
        agent="memory",
        agent_config_hash="",
        request=[],
        answer=answer,
        steps=[step.model_copy(update={"index": index}) for index, step in enumerate(steps)],
        error=error,
    )


def called(role: str, **fields: object) -> Step:
    return Step.model_validate({"index": 0, "role": role, "policy": POLICY, **fields})


def updater(*ops: MemoryOp) -> Step:
    return called("updater", memory_ops=list(ops))


def answerer(*retrieved: tuple[str, float], cited: tuple[str, ...] = (), **fields: object) -> Step:
    refs = [MemoryRef(id=name, score=points, content_hash="") for name, points in retrieved]
    return called("answerer", retrieved=refs, cited=list(cited), **fields)


async def only(name: str, of: Task, done: Trajectory, **options: Any) -> Reward | None:
    """The reward `name`, with a weight of 0.5 beside a match that weighs nothing."""
    weights = RewardWeights.model_validate({"match": 0, "format": 0, name: 0.5})
    found = await score(of, done, weights, **options)
    assert all(r.weight == 0.5 for r in found if r.name == name)
    return next((r for r in found if r.name == name), None)


async def value(name: str, of: Task, done: Trajectory, **options: Any) -> float | None:
    found = await only(name, of, done, **options)
    assert found is not None
    return found.score


async def test_a_rollout_is_scored_by_its_answer_and_its_operations() -> None:
    done = trajectory("Tarvo [1]", updater(MemoryOp(op="noop", text="?", applied=False)))
    assert [(r.name, r.score, r.weight) for r in await score(task(), done)] == [("exact_match", 1.0, 1.0), ("format", 0.0, 0.1)]
    assert [(r.name, r.score) for r in await score(task(), trajectory("Tarvo"))] == [("exact_match", 1.0)]
    read = await score(task("reading"), trajectory("\\boxed{Tarvo}"))
    assert [(r.name, r.score) for r in read] == [("exact_match", 1.0), ("format", 1.0)]


async def test_a_failed_rollout_is_not_scored_and_not_zero() -> None:
    failed = trajectory("", error="EngineError: gone")
    failed = failed.model_copy(update={"rewards": await score(task("reading"), failed)})
    assert [r.score for r in failed.rewards] == [None, None]
    assert failed.reward is None


def test_every_metric_of_a_task_has_its_comparison() -> None:
    assert set(get_args(Metric)) == set(METRICS)


@pytest.mark.parametrize(
    ("metric", "answer", "gold", "expected"),
    [
        ("exact_match", "Tarvo", ["Tarvo"], 1.0),
        ("boxed", "\\boxed{\\frac12}", ["0.5"], 1.0),
        ("contains_all", "the keys are a1 and b2", ["a1", "b2", "c3", "d4"], 0.5),
        ("contains_all", "of a1, b2 and c3 it is \\boxed{a1}", ["a1", "b2"], 0.5),
        ("contains_any", "it is Tarvo", ["Mira", "Tarvo"], 1.0),
        ("f1", "Tarvo Brum", ["Tarvo"], 2 / 3),
        ("first_label", "In the kitchen. Not the garden.", ["kitchen"], 1.0),
    ],
)
async def test_the_match_that_stands_first_is_the_one_that_the_task_names(
    metric: str, answer: str, gold: list[str], expected: float
) -> None:
    of = task(metric=metric, gold=gold, choices=("kitchen", "garden"))
    first = (await score(of, trajectory(answer), RewardWeights(match=0.7)))[0]
    assert (first.name, first.score, first.weight) == (metric, pytest.approx(expected), 0.7)


async def test_a_task_without_choices_has_no_label_to_be_first() -> None:
    [found] = await score(task(metric="first_label"), trajectory("kitchen"))
    assert (found.score, found.metadata) == (None, {"reason": "the task names no choices"})


async def test_what_was_thought_is_no_part_of_the_answer() -> None:
    assert (await score(task(), trajectory("<think>Mira? No.</think>\n\nTarvo")))[0].score == 1.0
    thinking = trajectory("<think>It is Tarvo, I")
    assert (await score(task(metric="contains_any"), thinking))[0].score == 0.0


async def test_a_metric_that_has_a_weight_of_its_own_too_is_scored_once_with_both() -> None:
    weights = RewardWeights.model_validate({"f1": 0.5, "bleu1": 0.25})
    found = await score(task(metric="f1"), trajectory("Tarvo"), weights)
    assert [(r.name, r.score, r.weight) for r in found] == [("f1", 1.0, 1.5), ("bleu1", 1.0, 0.25)]


def noted(name: str, text: str, op: str = "add", *, applied: bool = True) -> MemoryOp:
    return MemoryOp.model_validate({"op": op, "id": name, "text": text, "applied": applied})


async def test_citations_are_those_of_the_answering_call() -> None:
    done = trajectory("Tarvo [2]", updater(noted("m1", "a")), answerer(("m1", 0.2), ("m2", 0.9), cited=("m2",)))
    assert await value("citation", task(), done) == 0.0
    assert await value("citation_bonus", task(), done) == 0.125
    assert await value("citation_bonus", task(gold=["Mira"]), done) == 0.0
    assert await only("citation", task(), trajectory("Tarvo", answerer())) is None
    assert await value("valid_operation", task(), done) == 1.0


async def test_a_reader_earns_what_each_section_added_to_its_memory() -> None:
    of = task("reading", gold=["Tarvo Brum"])
    texts = ("nothing", "Tarvo is one", "<think>and", "<think>so</think>Tarvo Brum")
    steps = [called("reader", text=text) for text in texts]
    found = await only("information_gain", of, trajectory("\\boxed{Tarvo Brum}", *steps, called("reader_answer")))
    assert found is not None
    assert (found.score, found.by_step) == (1.0, {0: 0.0, 1: 0.5, 2: 0.0, 3: 0.5})
    assert await only("information_gain", task(), trajectory("Tarvo", answerer())) is None


async def test_a_step_that_writes_earns_what_of_the_gold_answer_the_memories_gained_by_it() -> None:
    steps = (
        updater(MemoryOp(op="add", id="m1", text="User's cat is Brum.")),
        updater(MemoryOp(op="add", id="m2", text="User's dog is Tarvo.")),
        updater(MemoryOp(op="update", id="m2", text="User's dog is gone.", applied=False)),
        updater(MemoryOp(op="delete", id="m2")),
    )
    found = await only("information_gain", task(), trajectory("Tarvo", *steps, answerer()))
    assert found is not None
    assert (found.score, list(found.by_step.values())) == (0.0, [0.0, 1.0, 0.0, -1.0])


async def test_the_match_is_attributed_to_the_steps_that_wrote_what_was_retrieved() -> None:
    steps = (updater(noted("m1", "a")), updater(), updater(noted("m2", "b"), noted("m1", "a2", "update")))
    done = trajectory("Tarvo", *steps, answerer(("m1", 0.5), ("from before", 0.4)))
    found = await only("evidence_attribution", task(), done)
    assert found is not None
    assert found.by_step == pytest.approx({0: 0.25, 1: 0.25, 2: 0.5})
    assert found.score == pytest.approx(1.0)
    assert await only("evidence_attribution", task(), trajectory("Tarvo", answerer())) is None
    whole = await only("evidence_attribution", task(), done, scoring=Scoring(beta=0.0))
    assert whole is not None
    assert whole.by_step == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3})


async def test_retrieval_is_measured_by_rank_against_memories_or_the_turns_they_came_from() -> None:
    memories = [MemoryWrite(op="add", id=name, text=name) for name in ("m1", "m2", "m3")]
    done = trajectory("Tarvo", answerer(("m1", 0.1), ("m2", 0.9), ("m3", 0.5)))
    of = task("rerank", memories=memories, evidence=["m1", "m2"])
    assert await value("evidence_recall", of, done, scoring=Scoring(k=2)) == 0.5
    assert await value("evidence_ndcg", of, done, scoring=Scoring(k=1)) == 1.0
    said = task(conversation=[Turn(messages=(user("x"),), id="D1:1"), Turn(messages=(user("y"),), id="D1:2")], evidence=["D1:2"])
    assert await value("evidence_recall", said, done, origins={"m3": {"D1:2"}}) == 1.0
    assert await value("evidence_recall", said, done) == 0.0


async def test_evidence_that_names_nothing_of_the_task_is_not_a_recall_of_zero() -> None:
    done = trajectory("Tarvo", answerer(("m1", 0.1)))
    found = await only("evidence_recall", task(evidence=["D9:9"]), done)
    assert found is not None
    assert (found.score, found.metadata) == (None, {"reason": "the evidence names no memory and no turn of the task"})
    assert await only("evidence_ndcg", task(), done) is None


async def test_compression_compares_what_is_kept_in_the_end_with_what_was_told() -> None:
    told = [Turn(messages=(user("x" * 60),)), Turn(messages=(user("y" * 40),))]
    first = [noted("a", "1" * 50), noted("b", "2" * 50), noted("c", "4", applied=False)]
    ops = [*first, noted("b", "", "delete"), noted("a", "3" * 20, "update")]
    assert await value("compression", task(conversation=told), trajectory("Tarvo", updater(*ops))) == 0.8
    assert await only("compression", task(), trajectory("Tarvo")) is None
    document = task("reading", request=[user("z" * 100), user("?")])
    assert await value("compression", document, trajectory("x", called("reader", text="m" * 10), called("reader_answer"))) == 0.9


async def test_costs_are_shares_of_their_budgets_over_all_calls() -> None:
    first = called("updater", usage=Usage(prompt_tokens=50, completion_tokens=10), duration_s=1.5, text="NOOP")
    last = answerer(usage=Usage(prompt_tokens=30, completion_tokens=10), duration_s=0.5, text="Tarvo")
    done, scoring = trajectory("Tarvo", first, last), Scoring(answer_tokens=40, seconds=4.0, tokens=200)
    assert await value("length", task(), done, scoring=scoring) == 0.75
    assert await value("latency", task(), done, scoring=scoring) == 0.5
    assert await value("token_cost", task(), done, scoring=scoring) == 0.5


@pytest.mark.parametrize("name", ["length", "latency", "token_cost"])
async def test_a_cost_that_nobody_measured_is_not_free(name: str) -> None:
    found = await only(name, task(), trajectory("Tarvo", answerer(text="Tarvo")))
    assert found is not None
    assert found.score is None
    assert found.metadata["reason"]


async def test_a_judge_that_does_not_know_drops_the_rollout_and_is_counted(tmp_path: Path) -> None:
    stub, of = JudgeStub(), task("reading", request=[user("A long document."), user("Who?")])
    stub.replies = ["WRONG", "UNKNOWN", "CORRECT"]
    weights = RewardWeights.model_validate({"match": 0, "format": 0, "judge": 1})
    done: list[Trajectory] = []
    async with TestServer(stub.app()) as server:
        settings = JudgeSettings(url=str(server.make_url("/v1")), model="m")
        async with opened_judge(settings, tmp_path) as judge:
            for answer in ("\\boxed{Mira}", "\\boxed{T.}", "so \\boxed{Tarvo the dog}"):
                made = trajectory(answer)
                done.append(made.model_copy(update={"rewards": await score(of, made, weights, judge=judge)}))
    assert [t.reward for t in done] == [0.0, None, 1.0]
    assert done[1].rewards[-1].metadata == {"reason": "unknown"}
    sent = stub.bodies[2]["messages"][0]["content"]
    assert "<question>\nWho?\n</question>" in sent
    assert "<answer>\nTarvo the dog\n</answer>" in sent
    assert "A long document" not in sent
    groups = [TrajectoryGroup(task_id="t", trajectories=done)]
    credited = credit(groups)
    batch = Batch([], credited, 0)
    assert (credited.num_unscored, credited.num_failed) == (1, 0)
    row = iteration_metrics(1, tasks=[of], groups=groups, group_size=3, batch=batch, update={}, lag=0.0, timing=Timing())
    assert (row["reward/judge"], row["unscored/judge"]) == (0.5, 1)
    assert "unscored/exact_match" not in row


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"exact_match": 1.0, "format": 0.1}),
        ({"format": 0.5}, {"exact_match": 1.0, "format": 0.5}),
        ({"exact_match": 0.5, "f1": "0.25"}, {"exact_match": 0.5, "format": 0.1, "f1": 0.25}),
        ({"match": 2, "format": 0, "citation": 0}, {"exact_match": 2.0}),
    ],
)
def test_weights_are_given_by_name_and_old_names_go_on_working(given: Mapping[str, Any], expected: dict[str, float]) -> None:
    assert RewardWeights.model_validate(given).of("exact_match") == expected


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rewards.citatoin=1", r"unknown reward 'citatoin'; did you mean 'citation'\? known are match, exact_match, .*judge"),
        ("rewards.zzz=1", r"unknown reward 'zzz'; known are match"),
        ("rewards.f1=-1", "f1 is -1.0; a weight must be 0 or more"),
        ("rewards.f1=nan", "a weight must be 0 or more"),
        ("rewards.match=-1", r"'rewards\.match'.*greater than or equal to 0"),
        ("rewards.f1=much", r"'rewards\.f1'.*number"),
        ("judge.url=localhost", "write http://"),
        ("scoring.k=0", r"'scoring\.k'"),
    ],
)
def test_a_wrong_weight_is_named_with_how_to_mend_it(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        training_config(None, [override])


def test_the_old_and_the_new_name_of_the_match_are_not_given_together() -> None:
    with pytest.raises(ConfigurationError, match="not both"):
        training_config(None, ["rewards.match=1", "rewards.exact_match=1"])


def test_a_weight_for_a_judge_asks_for_the_judge_before_anything_runs() -> None:
    with pytest.raises(ConfigurationError, match=r"judge\.url names no judge"):
        check_settings(training_config(None, ["rewards.judge=1"]), load(None, [], {}))


def test_the_configuration_of_a_run_keeps_the_weights_and_not_the_judges_key(tmp_path: Path) -> None:
    config = training_config(None, ["rewards.judge=1", "judge.url=http://j", "judge.model=m", "judge.api_key=sesame"])
    run = RunFolder.create(tmp_path)
    run.save_tasks(TaskPool((), (), (), {}))
    run.save_config(config, load(None, [], {}), pool="local", parent=None, replaces=None, window=512)
    kept = (run.path / "config.yaml").read_text()
    assert "judge: 1.0" in kept
    assert "sesame" not in kept


def test_the_page_names_every_reward() -> None:
    page = (Path(__file__).parents[3] / "docs" / "rewards.md").read_text("utf-8")
    assert [name for name in NAMES if f"`{name}`" not in page] == []
