"""Lists of facts in MemoryAgentBench's format: the latest fact wins, for one hop and for several."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from recollect.errors import InvalidRequest
from trainer.environments.fact_consolidation import fact_tasks, facts_of
from trainer.environments.tasks import Task

FACTS = Path(__file__).parents[2] / "data" / "facts_small.json"


def latest(facts: list[str], pattern: str) -> dict[str, str]:
    """The last value of each subject."""
    return {match[1]: match[2] for fact in facts if (match := re.fullmatch(pattern, fact))}


def solved(task: Task) -> str:
    facts = [fact for _, fact in facts_of(FACTS, 0, task.request[0].content)]
    club = latest(facts, r"(\w+) plays for the (\w+)\.")
    sport = latest(facts, r"The (\w+) are associated with the sport of (\w+)\.")
    country = latest(facts, r"(\w+) was created in the country of (\w+)\.")
    asked = task.request[1].content
    if match := re.search(r"Which club does (\w+) play", asked):
        return club[match[1]]
    if match := re.search(r"Which sport does (\w+) play", asked):
        return sport[club[match[1]]]
    match = re.search(r"sport of the (\w+) created", asked)
    assert match is not None
    return country[sport[match[1]]]


def test_a_reader_that_lets_the_latest_fact_win_is_always_right() -> None:
    tasks = fact_tasks(FACTS)
    assert {task.labels["type"] for task in tasks} == {"single", "multi"}
    assert [solved(task) for task in tasks] == [task.gold[0] for task in tasks]
    assert all((task.kind, task.agent, task.metric) == ("reading", "reader", "contains_any") for task in tasks)


def test_facts_may_be_told_or_stored_under_their_numbers() -> None:
    read, told, stored = (fact_tasks(FACTS, form=form, hops="single") for form in ("read", "told", "stored"))
    assert len(read) == len(told) == len(stored) > 0
    facts = facts_of(FACTS, 0, read[0].request[0].content)
    assert len(facts) == 60
    assert [memory.id for memory in stored[0].memories] == [f"fact-{number}" for number in range(60)]
    lines = [f"{number}. {fact}" for number, fact in facts]
    assert [memory.text for memory in stored[0].memories] == lines
    assert "\n".join(turn.messages[0].content for turn in told[0].conversation) == "\n".join(lines)
    assert (told[0].kind, told[0].agent, len(told[0].request)) == ("dialogue", "memory", 1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"answers": [["x"]]}, r"0\.answers: 2 questions need as many answers"),
        ({"answers": [["x"], []]}, r"0\.answers\.1: a right answer"),
        ({"context": "no facts"}, r"0\.context: holds no numbered fact"),
        ({"context": "Facts:\n3. a is b.\n2. a is c."}, r"0\.context: line 3: a fact with a larger number"),
        ({"context": 3}, r"0\.context"),
    ],
)
def test_a_bad_list_is_an_error_that_names_the_place(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    record = {"context": "Facts:\n0. a is b.", "questions": ["q", "r"], "answers": [["x"], ["y"]]} | changed
    file = tmp_path / "bad.json"
    file.write_text(json.dumps([record]), "utf-8")
    with pytest.raises(InvalidRequest, match=words):
        fact_tasks(file)
