"""Tasks by name: every source gives the same tasks for the same options, and names what is wrong with them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import ConfigurationError, InvalidRequest
from recollect.policy import Policy
from recollect.settings import SEED_MODEL, AgentSettings
from server.agents.registry import build_agents
from server.engines.base import Sampling
from server.engines.scripted import ScriptedEngine
from trainer.environments.base import Environment
from trainer.environments.sources import SOURCES, load_tasks
from trainer.environments.tasks import Task
from trainer.seed.world import part_of

DATA = Path(__file__).parents[2] / "data"
OPTIONS: dict[str, dict[str, Any]] = {
    "dialogue": {"count": 3, "difficulty": "hard"},
    "reading": {"count": 3, "difficulty": "hard"},
    "frequent": {"count": 3},
    "ruler": {"count": 1, "length": 1500, "tasks": ["niah_single_1", "vt", "cwe", "fwe"]},
    "babilong": {"file": str(DATA / "babi_small.txt"), "filler": str(DATA / "squad_small.json"), "length": 800, "count": 2},
    "hotpotqa": {"file": str(DATA / "hotpotqa_small.json"), "num_documents": 20, "count": 2},
    "prepared": {"file": str(DATA / "memagent_small.json")},
    "locomo": {"file": str(DATA / "locomo_small.json"), "form": "stored"},
    "longmemeval": {"file": str(DATA / "longmemeval_small.json")},
    "rerank": {"count": 3},
    "fact_consolidation": {"file": str(DATA / "facts_small.json"), "hops": "multi", "count": 2},
}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_gives_the_same_tasks_each_time_with_ids_of_their_own(name: str) -> None:
    tasks = load_tasks(name, OPTIONS[name])
    assert tasks
    assert tasks == load_tasks(name, OPTIONS[name])
    assert len({task.id for task in tasks}) == len(tasks)
    assert all(task.labels["type"] and task.labels["dataset"] for task in tasks)


@pytest.mark.parametrize("name", ["dialogue", "reading", "frequent", "rerank"])
def test_another_seed_gives_other_generated_tasks(name: str) -> None:
    first, second = (load_tasks(name, OPTIONS[name] | {"seed": seed}) for seed in (0, 1))
    assert not {task.model_dump_json() for task in first} & {task.model_dump_json() for task in second}
    assert all(part_of(task.gold[0]) == "held_out" for task in first + second)


def texts(task: Task) -> list[str]:
    return [turn.messages[0].content for turn in task.conversation] + [memory.text for memory in task.memories]


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_the_last_word_on_what_a_dialogue_asks_for_is_the_answer(difficulty: str) -> None:
    for task in load_tasks("dialogue", {"count": 40, "difficulty": difficulty}):
        question = task.request[0].content
        told = [text for text in texts(task) if " my " in f" {text.lower()}"]
        about = [text for text in told if any(word in question for word in _attribute(text))]
        assert task.gold[0] in about[-1]


def _attribute(text: str) -> list[str]:
    """What a statement of the user is about: the words after `my`."""
    after = text.lower().split("my ", 1)[1].rstrip(".").split()
    return [" ".join(after[:2]), after[0]] if len(after) > 1 and after[1] in ("code", "number") else [after[0]]


def test_hard_dialogues_have_more_facts_and_changes() -> None:
    easy, hard = (load_tasks("dialogue", {"count": 40, "difficulty": difficulty}) for difficulty in ("easy", "hard"))
    assert max(len(task.conversation) for task in easy) < min(len(task.conversation) for task in hard)
    assert {task.labels["difficulty"] for task in hard} == {"hard"}


def test_hard_documents_change_twice_and_have_the_last_value_as_answer() -> None:
    tokenizer = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))
    for task in load_tasks("reading", {"count": 10, "difficulty": "hard"}):
        document = task.request[0].content
        places = [document.index(line) for line in task.evidence]
        assert (len(places), places) == (3, sorted(places))
        assert task.evidence[-1].endswith(f" is now {task.gold[0]}.")
        assert 5 * 80 < len(tokenizer.encode(document).ids) <= 6 * 80  # the reader needs six sections for it


def test_the_frequent_value_is_named_three_times_and_the_others_once() -> None:
    for task in load_tasks("frequent", {"count": 10}):
        head = task.evidence[0].rpartition(" is ")[0]
        named = Counter(part.split(".")[0] for part in task.request[0].content.split(f"{head} is ")[1:])
        assert named.most_common() == [(task.gold[0], 3), *((value, 1) for value in list(named) if value != task.gold[0])]
        assert len(named) == 3


@pytest.mark.parametrize("candidates", [3, 8, 20])
def test_generated_candidates_hold_one_that_answers(candidates: int) -> None:
    for task in load_tasks("rerank", {"count": 30, "candidates": candidates}):
        assert len(task.memories) == candidates
        assert [task.gold[0] in memory.text for memory in task.memories if memory.id in task.evidence] == [True]


async def _asked(task: Task, folder: Path) -> list[object]:
    """What a model is asked in one rollout of the task on a new store."""
    store, engine = LanceMemoryStore(folder, HashEmbedder()), ScriptedEngine()
    fork = await store.fork(task.namespace, as_of=0)
    environment = Environment(task=task, fork=fork, engine=engine, policies={"memory": Policy(base="scripted")}, sampling=Sampling())
    try:
        trajectory = await environment.run(build_agents(AgentSettings(), "compact")[task.agent])
        assert trajectory.error is None
    finally:
        await store.close()
    return [(call.messages, call.prompt) for call in engine.calls]


@pytest.mark.parametrize("name", ["dialogue", "reading", "rerank", "locomo", "fact_consolidation"])
async def test_the_same_task_gives_the_same_environment(name: str, tmp_path: Path) -> None:
    first, second = (load_tasks(name, OPTIONS[name])[0] for _ in range(2))
    asked = await _asked(first, tmp_path / "first")
    assert asked
    assert asked == await _asked(second, tmp_path / "second")


def test_unknown_names_and_options_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no task source 'rulers'; did you mean 'ruler'\? Known sources: babilong, dialogue"):
        load_tasks("rulers", {})
    with pytest.raises(ConfigurationError, match=r"'ruler': lenght: .*; its options: tokenizer, seed, tasks, length") as caught:
        load_tasks("ruler", {"length": 1000, "lenght": 5})
    assert caught.value.param == "lenght"
    with pytest.raises(ConfigurationError, match="'babilong': file: Field required"):
        load_tasks("babilong", {})
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_tasks("prepared", {"file": "nowhere.json"})
    with pytest.raises(ConfigurationError, match="is no tokenizer"):
        load_tasks("frequent", {"tokenizer": "nowhere"})
    with pytest.raises(InvalidRequest, match="LongMemEval, not of LoCoMo"):
        load_tasks("locomo", OPTIONS["longmemeval"])


def test_a_given_counter_counts_instead_of_the_tokenizer() -> None:
    (task,) = load_tasks("ruler", {"length": 1000, "tasks": ["vt"], "count": 1}, lambda text: len(text.split()))
    words = sum(len(message.content.split()) for message in task.request)
    assert 0.95 * 1000 <= words + 30 <= 1000


def test_numbers_of_yaml_are_taken_as_names_of_categories() -> None:
    tasks = load_tasks("locomo", {"file": str(DATA / "locomo_small.json"), "categories": [1, 4]})
    assert {task.labels["type"] for task in tasks} == {"1", "4"}
