"""RULER's tasks: a reader that searches the text is always right, lengths are those asked for, and a seed gives the same tasks."""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from recollect.errors import ConfigurationError, InvalidRequest
from recollect.settings import SEED_MODEL
from trainer.environments.longcontext.fit import most_that_fits
from trainer.environments.longcontext.ruler import ANSWER_TOKENS, SYNTHETIC, TASKS, ruler_tasks
from trainer.environments.tasks import Task
from trainer.seed.world import World

TOKENIZER = Tokenizer.from_file(str(SEED_MODEL / "tokenizer.json"))
DATA = Path(__file__).parents[2] / "data"
FILES = {"qa_1": DATA / "squad_small.json", "qa_2": DATA / "hotpotqa_small.json"}


def length(text: str) -> int:
    return len(TOKENIZER.encode(text).ids)


@pytest.fixture
def essays(tmp_path: Path) -> Path:
    world = World(random.Random("essays"))
    (tmp_path / "one.txt").write_text(" ".join(world.filler() for _ in range(60)), "utf-8")
    (tmp_path / "two.txt").write_text(" ".join(world.filler() for _ in range(60)), "utf-8")
    return tmp_path


def make(name: str, essays: Path, *, tokens: int = 2500, count: int = 3, seed: str = "0") -> list[Task]:
    return ruler_tasks(name, tokens=tokens, count=count, seed=seed, length=length, essays=essays, file=FILES.get(name))


def needles(document: str, question: str) -> list[str]:
    asked = re.split(r", and |, ", re.findall(r" for (.+) mentioned in ", question)[0])
    return [value for key in asked for value in re.findall(rf"magic \w+ for {key} is: (\S+)\.", document)]


def variables(document: str, question: str) -> list[str]:
    found = {re.findall(r"value (\d+) ", question)[0]}
    for name, value in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)", document):
        found |= {name} if value in found else set()
    return sorted(found)


def common(document: str, _: str) -> list[str]:
    return [word for word, _ in Counter(re.findall(r"\d+\. (\S+)", document)).most_common(10)]


def frequent(document: str, _: str) -> list[str]:
    listed = document.partition("\n")[2].split()
    return [word for word, _ in Counter(word for word in listed if word != "...").most_common(3)]


def read_perfectly(task: Task) -> str:
    solve = {"vt": variables, "cwe": common, "fwe": frequent}.get(task.labels["type"], needles)
    document, question = (message.content for message in task.request)
    return ", ".join(solve(document, question))


@pytest.mark.parametrize("tokens", [2500, 6000])
@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_reader_that_searches_the_text_has_all_answers_and_no_more(name: str, tokens: int, essays: Path) -> None:
    for task in make(name, essays, tokens=tokens):
        answer = read_perfectly(task)
        assert [gold for gold in task.gold if gold.lower() in answer.lower()] == list(task.gold)
        assert len(answer.split(", ")) == len(task.gold) + (name == "vt")
        assert task.metric == "contains_all"
        assert all(line in task.request[0].content for line in task.evidence)


@pytest.mark.parametrize("tokens", [2500, 6000])
@pytest.mark.parametrize("name", TASKS)
def test_the_length_with_the_answers_budget_is_at_most_five_percent_below_what_was_asked(name: str, tokens: int, essays: Path) -> None:
    wanted = min(tokens, 2500) if name == "qa_1" else tokens  # the small SQuAD file holds no more
    for task in make(name, essays, tokens=wanted):
        assert task.answer_tokens == ANSWER_TOKENS[name]
        used = sum(length(message.content) for message in task.request) + ANSWER_TOKENS[name]
        assert 0.95 * wanted <= used <= wanted


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_tasks_and_another_one_others(name: str, essays: Path) -> None:
    tokens = 1200
    assert make(name, essays, tokens=tokens) == make(name, essays, tokens=tokens)
    first, second = make(name, essays, tokens=tokens, count=1), make(name, essays, tokens=tokens, count=1, seed="1")
    assert first[0].request != second[0].request
    assert len({task.request[0].content for task in make(name, essays, tokens=tokens)}) == 3


@pytest.mark.parametrize(("name", "counts"), [("niah_multivalue", (4, 1)), ("niah_multiquery", (4, 4)), ("vt", (5, 1)), ("cwe", (10, 1))])
def test_there_are_as_many_answers_as_ruler_asks_for(name: str, counts: tuple[int, int], essays: Path) -> None:
    task = make(name, essays)[0]
    asked = re.findall(r" for (.+) mentioned in ", task.request[1].content)
    assert (len(set(task.gold)), asked[0].count("-") if asked else 1) == counts


def test_common_words_come_ten_times_as_often_as_the_others(essays: Path) -> None:
    task = make("cwe", essays, tokens=6000)[0]
    counts = Counter(re.findall(r"\d+\. (\S+)", task.request[0].content))
    assert {counts[word] for word in task.gold} == {30}
    assert {count for word, count in counts.items() if word not in task.gold} == {3}


def test_coded_words_follow_zipfs_law_with_alpha_two(essays: Path) -> None:
    task = make("fwe", essays, tokens=6000)[0]
    ordered = [count for _, count in Counter(task.request[0].content.partition("\n")[2].split()).most_common(4)]
    assert [round(ordered[0] / count) for count in ordered] == [1, 4, 9, 16]


@pytest.mark.parametrize("name", ["qa_1", "qa_2"])
def test_documents_are_numbered_and_hold_the_answer(name: str, essays: Path) -> None:
    for task in make(name, essays, tokens=1200):
        document = task.request[0].content
        assert re.findall(r"Document (\d+):", document) == [str(i + 1) for i in range(document.count("Document "))]
        assert document.count("Document ") > len(task.evidence) >= 1
        assert task.gold[0] in document
        assert all(f"{line}:" in document for line in task.evidence)
        assert task.metric == "contains_any"


def test_what_is_missing_is_named(essays: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no task 'niah'; its tasks: niah_single_1"):
        make("niah", essays)
    with pytest.raises(ConfigurationError, match="`essays`"):
        ruler_tasks("niah_single_2", tokens=2000, count=1, seed="0", length=length)
    with pytest.raises(ConfigurationError, match="SQuAD file"):
        ruler_tasks("qa_1", tokens=2000, count=1, seed="0", length=length)
    with pytest.raises(InvalidRequest, match="too short"):
        make("niah_single_1", essays, tokens=150)
    with pytest.raises(InvalidRequest, match=r"all documents of the file fill \d+ of 7968 tokens"):
        make("qa_1", essays, tokens=8000)
    with pytest.raises(InvalidRequest, match="coded words"):
        make("fwe", essays, tokens=200)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="holds no text"):
        make("niah_single_2", tmp_path / "empty")


@pytest.mark.parametrize(("per_unit", "limit"), [(1, 100), (7, 10), (7, 1000), (25, 100_000), (2.5, 333)])
def test_no_more_units_fit_or_the_limit_is_nearly_reached(per_unit: float, limit: int) -> None:
    def size(units: int) -> int:
        return 5 + int(per_unit * units)

    found = most_that_fits(size, limit)
    assert size(found) <= limit
    assert size(found + 1) > limit or size(found) >= 0.99 * limit
