"""Tasks from files of the LoCoMo and the LongMemEval format: turns, dates, speakers, evidence, and questions without an answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import InvalidRequest
from recollect.policy import Policy
from recollect.settings import AgentSettings
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.scripted import ScriptedCall, ScriptedEngine
from trainer.environments.base import Environment
from trainer.environments.dialogue_memory import ABSTAINED, Form, dialogue_tasks
from trainer.environments.rerank import rerank_tasks
from trainer.environments.tasks import Task

DATA = Path(__file__).parents[2] / "data"
LOCOMO, LONGMEMEVAL = DATA / "locomo_small.json", DATA / "longmemeval_small.json"
FORMS: list[Form] = ["told", "stored"]


def test_people_are_told_turn_by_turn_with_name_session_and_date() -> None:
    tasks = dialogue_tasks(LOCOMO)
    assert len(tasks) == 6
    assert all(task.conversation == tasks[0].conversation and task.namespace == tasks[0].namespace for task in tasks)
    turn = tasks[0].conversation[0]
    assert (turn.id, turn.speaker, turn.session, turn.reply) == ("D1:1", "Mira", "session_1", "")
    assert turn.messages[0].content == "Mira: Good morning! I finally planted the quince tree behind the shed."
    assert turn.at is not None
    assert turn.at.isoformat() == "2031-03-04T09:15:00+00:00"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", [LOCOMO, LONGMEMEVAL])
def test_evidence_names_turns_or_memories_of_the_task(file: Path, form: Form) -> None:
    tasks = dialogue_tasks(file, form=form)
    for task in tasks:
        assert bool(task.conversation) == (form == "told")
        assert bool(task.memories) == (form == "stored")
        assert set(task.evidence) <= {turn.id for turn in task.conversation} | {memory.id for memory in task.memories}
    assert sum(bool(task.evidence) for task in tasks) == len(tasks) - (file == LOCOMO)
    assert len({task.id for task in tasks}) == len(tasks)


def test_categories_are_labels_and_adversarial_questions_are_apart() -> None:
    tasks = dialogue_tasks(LOCOMO)
    assert [task.labels["type"] for task in tasks] == ["4", "2", "1", "3", "5", "4"]
    (adversarial,) = (task for task in tasks if task.labels["split"] == "adversarial")
    assert (adversarial.labels["type"], adversarial.gold, adversarial.metric) == ("5", ABSTAINED, "contains_any")
    assert {task.metric for task in tasks if task is not adversarial} == {"f1"}
    assert [task.gold for task in tasks][2:4] == [("Ilka and a cousin",), ("2",)]
    assert [task.labels["type"] for task in dialogue_tasks(LOCOMO, categories=["4"])] == ["4", "4"]
    with pytest.raises(InvalidRequest, match=r"no category '9'; its categories: 1, 2, 3, 4, 5"):
        dialogue_tasks(LOCOMO, categories=["9"])


def test_a_seeded_part_of_the_questions_is_the_same_each_time() -> None:
    assert dialogue_tasks(LOCOMO, count=3, seed="1") == dialogue_tasks(LOCOMO, count=3, seed="1")
    chosen = {tuple(task.id for task in dialogue_tasks(LOCOMO, count=3, seed=str(seed))) for seed in range(5)}
    assert len(chosen) > 1
    with pytest.raises(InvalidRequest, match="gives 6 questions, 7 are asked for"):
        dialogue_tasks(LOCOMO, count=7)


def test_a_reply_of_the_assistant_belongs_to_what_the_user_said() -> None:
    lamp, kayak = dialogue_tasks(LONGMEMEVAL)
    assert (lamp.conversation[0].id, lamp.conversation[0].reply) == ("S1:1", "A warm bulb would suit it well.")
    assert lamp.conversation[0].messages[0].content == "I bought a green lamp for the reading corner today."
    assert lamp.at is not None
    assert lamp.at.isoformat() == "2031-05-02T10:00:00+00:00"
    assert (lamp.evidence, kayak.evidence, kayak.gold, kayak.labels["type"]) == (("S1:1",), ("S1:1", "S2:1"), ("five",), "knowledge-update")


def test_what_only_the_assistant_said_is_evidence_too_and_abstention_is_adversarial(tmp_path: Path) -> None:
    record = {
        "question_id": "q_abs",
        "question_type": "single-session-assistant",
        "question": "What did you suggest?",
        "answer": "You said nothing of it.",
        "haystack_dates": ["2031/04/01 (Tue) 09:30", "2031/04/02 (Wed) 09:30"],
        "haystack_sessions": [
            [{"role": "user", "content": "Soup?"}, {"role": "assistant", "content": "Lentils.", "has_answer": True}],
            [{"role": "assistant", "content": "Welcome back.", "has_answer": True}, {"role": "user", "content": "Hello."}],
        ],
    }
    file = tmp_path / "abs.json"
    file.write_text(json.dumps([record]), "utf-8")
    (task,) = dialogue_tasks(file)
    assert task.evidence == ("S1:1", "S2:1")
    assert [(turn.messages[0].content, turn.reply) for turn in task.conversation] == [
        ("Soup?", "Lentils."),
        ("assistant: Welcome back.", ""),
        ("Hello.", ""),
    ]
    assert (task.labels["split"], task.gold) == ("adversarial", ABSTAINED)


def test_a_question_without_an_answer_is_an_error_that_names_it(tmp_path: Path) -> None:
    sample = json.loads(LOCOMO.read_text("utf-8"))
    del sample[0]["qa"][1]["answer"]
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(sample), "utf-8")
    with pytest.raises(InvalidRequest, match="question garden-1-1 has no `answer`"):
        dialogue_tasks(file)


def test_rerank_tasks_hold_the_evidence_among_other_turns_of_the_conversation() -> None:
    tasks = rerank_tasks(LOCOMO, candidates=5)
    assert [task.labels["type"] for task in tasks] == ["4", "2", "1", "3"]
    for task in tasks:
        ids = [memory.id for memory in task.memories]
        assert (task.kind, len(set(ids)), ids) == ("rerank", 5, sorted(ids))
        assert task.evidence
        assert set(task.evidence) < set(ids)
    assert tasks == rerank_tasks(LOCOMO, candidates=5)
    assert tasks != rerank_tasks(LOCOMO, candidates=5, seed="1")
    with pytest.raises(InvalidRequest, match="raise `candidates`"):
        rerank_tasks(LOCOMO, candidates=0)


async def test_stored_turns_are_found_and_shown_to_the_answerer(tmp_path: Path) -> None:
    def answer(call: ScriptedCall) -> str:
        return "a quince tree [1]" if "quince tree behind the shed" in call.messages[-1].content else "I do not know."

    task = dialogue_tasks(LOCOMO, form="stored")[0]
    store = LanceMemoryStore(tmp_path / "memory", HashEmbedder())
    try:
        told = await _answered(task, store, ScriptedEngine(answer=answer))
    finally:
        await store.close()
    assert told == "a quince tree [1]"


async def _answered(task: Task, store: LanceMemoryStore, engine: ScriptedEngine) -> str:
    environment = Environment(
        task=task,
        fork=await store.fork(task.namespace, as_of=0),
        engine=engine,
        policies={"memory": Policy(base="scripted")},
        sampling=Sampling(),
    )
    return (await environment.run(build_agents(AgentSettings(), "compact")["memory"])).answer
