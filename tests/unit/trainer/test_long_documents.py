"""bAbI's facts in filler and questions on many documents, from small files of the public formats."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from recollect.errors import InvalidRequest
from trainer.environments.longcontext.babilong import ANSWER_TOKENS, babilong_tasks, read_babi
from trainer.environments.longcontext.documents import read_squad
from trainer.environments.longcontext.hotpotqa import hotpotqa_tasks, needing_context, prepared_tasks
from trainer.environments.tasks import Task
from trainer.seed.world import World

DATA = Path(__file__).parents[2] / "data"
BABI, HOTPOTQA, MEMAGENT, SQUAD = (
    DATA / name for name in ("babi_small.txt", "hotpotqa_small.json", "memagent_small.json", "squad_small.json")
)


def length(text: str) -> int:
    return len(text.split())


@pytest.fixture
def filler(tmp_path: Path) -> Path:
    file = tmp_path / "filler.txt"
    world = World(random.Random("filler"))
    file.write_text(" ".join(world.filler() for _ in range(100)), "utf-8")
    return file


def babilong(filler: Path, tokens: int = 1000, seed: str = "0") -> list[Task]:
    return babilong_tasks(BABI, filler, tokens=tokens, count=6, seed=seed, length=length)


def test_facts_are_hidden_in_their_order_and_hold_the_answer(filler: Path) -> None:
    for task, story in zip(babilong(filler), read_babi(BABI), strict=False):
        document = task.request[0].content
        places = []
        for fact in story.facts:
            places.append(document.index(fact, places[-1] + 1 if places else 0))
        assert places == sorted(places)
        assert task.gold[0] in task.evidence[-1]
        assert set(task.evidence) <= set(story.facts)
        assert task.gold[0] in task.choices
        assert set(task.choices) <= {"greenhouse", "workshop", "cellar", "library", "pier"}
        assert (task.metric, task.request[1].content) == ("first_label", story.question)


def test_a_story_begins_again_where_numbers_do() -> None:
    stories = read_babi(BABI)
    assert [len(story.facts) for story in stories] == [2, 4, 6] * 4


@pytest.mark.parametrize("tokens", [400, 1000, 4000])
def test_babilong_lengths_are_those_asked_for_and_a_seed_gives_the_same_text(filler: Path, tokens: int) -> None:
    for task in babilong(filler, tokens):
        used = sum(length(message.content) for message in task.request) + ANSWER_TOKENS
        assert 0.95 * tokens <= used <= tokens
    assert babilong(filler, tokens) == babilong(filler, tokens)
    assert babilong(filler, tokens) != babilong(filler, tokens, seed="1")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Mary went home.\n", "line 1: a number and a text"),
        ("1 Mary went home.\n2 Where is Mary?\thome\n", "line 2: a question, its answer and its supporting facts"),
        ("1 Mary went home.\n2 Where is Mary?\thome\t7\n", "line 2: '7' names a fact"),
        ("1 Mary went home.\n1 Tom went home.\n2 Where?\thome\t1 2\n", "line 3: '1 2' names a fact"),
        ("1 Mary went home.\n", "holds no question"),
    ],
)
def test_a_bad_babi_file_is_an_error_that_names_the_line(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(content, "utf-8")
    with pytest.raises(InvalidRequest, match=words):
        read_babi(file)


def test_hotpotqa_documents_fill_the_length_among_them_the_two_that_answer() -> None:
    tasks = hotpotqa_tasks(HOTPOTQA, count=4, seed="0", length=length, tokens=900)
    for task in tasks:
        document, question = (message.content for message in task.request)
        assert 0.95 * 900 <= length(document) + length(question) <= 900
        parts = dict(part.split(":\n", 1) for part in document.split("\n\n"))
        assert len(task.evidence) == 2
        assert all(parts[name] for name in task.evidence)
        assert task.gold[0] in " ".join(parts[name] for name in task.evidence)
        assert (task.metric, task.labels["length"]) == ("boxed", "900")
    assert tasks == hotpotqa_tasks(HOTPOTQA, count=4, seed="0", length=length, tokens=900)
    assert tasks != hotpotqa_tasks(HOTPOTQA, count=4, seed="1", length=length, tokens=900)


def test_hotpotqa_documents_may_be_counted_instead() -> None:
    for task in hotpotqa_tasks(HOTPOTQA, count=2, seed="0", length=length, num_documents=40):
        assert task.request[0].content.count("Document ") == 40
        assert len(set(task.request[0].content.split("\n\n"))) == 40
    with pytest.raises(InvalidRequest, match="num_documents is 99; from 2 to 60 fit"):
        hotpotqa_tasks(HOTPOTQA, count=1, seed="0", length=length, num_documents=99)
    with pytest.raises(InvalidRequest, match="one of `length` and `num_documents`"):
        hotpotqa_tasks(HOTPOTQA, count=1, seed="0", length=length)
    with pytest.raises(InvalidRequest, match="too short for question h0"):
        hotpotqa_tasks(HOTPOTQA, count=1, seed="0", length=length, tokens=20)
    with pytest.raises(InvalidRequest, match="holds 6 questions, 7 are asked for"):
        hotpotqa_tasks(HOTPOTQA, count=7, seed="0", length=length, num_documents=10)


def test_prepared_contexts_are_taken_as_they_are() -> None:
    tasks = prepared_tasks(MEMAGENT)
    assert [(task.id, task.gold, task.labels["documents"]) for task in tasks] == [
        ("prepared-memagent_small-0", ("Aldowick",), "10"),
        ("prepared-memagent_small-1", ("Brinewick",), "10"),
    ]
    assert tasks[0].request[0].content == json.loads(MEMAGENT.read_text("utf-8"))[0]["context"]
    assert len(prepared_tasks(MEMAGENT, count=1)) == 1


def test_bad_elements_are_named(tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"context": "x", "input": "y", "answers": ["z"]}\n\n{"context": "x"}\n', "utf-8")
    with pytest.raises(InvalidRequest, match=r"1\.input: Field required"):
        prepared_tasks(file)
    file.write_text("{}\n{oops\n", "utf-8")
    with pytest.raises(InvalidRequest, match="line 2 is not JSON"):
        prepared_tasks(file)
    records = json.loads(HOTPOTQA.read_text("utf-8"))
    records[1]["supporting_facts"].append(["Nowhere", 0])
    other = tmp_path / "bad.json"
    other.write_text(json.dumps(records), "utf-8")
    with pytest.raises(InvalidRequest, match=r"1\.supporting_facts: no paragraph has the title 'Nowhere'"):
        hotpotqa_tasks(other, count=1, seed="0", length=length, num_documents=10)
    other.write_text('{"data": [{"paragraphs": 3}]}', "utf-8")
    with pytest.raises(InvalidRequest, match=r"data\.0\.paragraphs"):
        read_squad(other)


def test_squad_questions_without_an_answer_are_left_out() -> None:
    library = read_squad(SQUAD)
    assert len(library.asked) == 36
    assert len(library.documents) == 36
    assert all(asked.answers and asked.answers[0] in asked.gold[0].text and len(asked.tempting) == 2 for asked in library.asked)


async def test_what_is_known_without_the_documents_is_dropped() -> None:
    tasks = hotpotqa_tasks(HOTPOTQA, count=4, seed="0", length=length, num_documents=10)
    seen: list[Task] = []

    async def known(task: Task) -> bool:
        seen.append(task)
        return task.gold in (("Brinewick",), ("Delfwick",))

    assert await needing_context(tasks, known) == [tasks[0], tasks[2]]
    assert [[message.content for message in task.request] for task in seen] == [[task.request[1].content] for task in tasks]
