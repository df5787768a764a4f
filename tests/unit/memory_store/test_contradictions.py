"""Facts that may contradict each other, and those that only look like it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_store.audit.contradictions import contradictions, differ
from memory_store.audit.statement import statement
from recollect.memory import MemoryRecord, content_hash

OPPOSED = (
    ("I live in Lisbon", "I live in Oslo", "value"),
    ("Ada lives in Lisbon.", "Ada moved from Lisbon to Oslo.", "value"),
    ("The user lives in Lisbon", "I moved to New York", "value"),
    ("Ada has one dog", "Ada has two dogs", "number"),
    ("Ada likes tea", "Ada does not like tea", "negation"),
    ("Ada likes tea", "Ada doesn’t like tea.", "negation"),
    ("I love fish", "I hate fish", "negation"),
    ("I eat meat", "I no longer eat meat", "negation"),
    ("My name is Bo", "My name is Al", "value"),
    ("My dog is called Rex", "My dog is called Max", "value"),
    ("Ada's favourite colour is blue", "Ada's favorite colour is red", "value"),
    ("Ada works as a nurse", "Ada works as a teacher", "value"),
    ("Ada was born in Rome", "Ada was born in Oslo", "value"),
    ("The author of Kelbo is Bo Smith", "The author of Kelbo is Al", "value"),
    ("Bo is associated with the sport of chess", "Bo is associated with the sport of golf", "value"),
    ("Ada was born in 1980", "Ada was born in 1981", "date"),
    ("The meeting is on Monday", "The meeting is on Friday", "date"),
    ("My phone number is 555-1234", "My phone number is 555-9876", "number"),
    ("I am 30 years old", "I am thirty-one years old", None),
    ("I am 30 years old", "I am 31 years old", "number"),
)
AGREEING = (
    ("Ada lives in Lisbon", "Bob lives in Oslo"),
    ("My dog is called Rex", "My cat is called Tom"),
    ("My sister lives in Lisbon", "My brother lives in Oslo"),
    ("My sister likes tea", "My brother does not like tea"),
    ("Ada likes tea", "Bob does not like tea"),
    ("Ada likes tea", "Ada likes coffee"),
    ("Ada likes tea", "Ada does not like coffee"),
    ("Ada has a dog", "Ada has a cat"),
    ("Ada has one dog", "Ada has two cats"),
    ("Ada is tall", "Ada is kind"),
    ("I went to Rome in May", "I went to Rome in June"),
    ("I have a dog called Rex", "I have a dog called Max"),
    ("Ada lives in Oslo", "Ada lives in Oslo, Norway"),
    ("Ada lived in Rome", "Ada lives in Oslo"),
    ("I used to live in Lisbon", "I live in Oslo"),
    ("Room 12 is blue", "Room 14 is blue"),
    ("Ada works as a nurse", "Ada works at Acme"),
    ("I live in Oslo and like tea", "I live in Oslo and have dogs"),
    ("Ada's favourite colour is blue", "Ada's favourite food is sushi"),
    ("", "Ada"),
)


def record(number: int, text: str, **more: object) -> MemoryRecord:
    fields = {"id": f"m{number}", "namespace": "user/a", "kind": "semantic", "text": text, "seq_from": number + 1}
    return MemoryRecord.model_validate({**fields, "created_at": datetime.now(UTC), "content_hash": content_hash(text), **more})


@pytest.mark.parametrize(("one", "other", "differ_in"), OPPOSED)
def test_facts_that_differ_in_one_place_are_candidates(one: str, other: str, differ_in: str | None) -> None:
    assert differ(statement(one), statement(other)) == differ_in
    assert differ(statement(other), statement(one)) == differ_in
    found = contradictions([record(0, one), record(1, other)], None)
    assert [(pair.newer, pair.older, pair.differ_in) for pair in found] == ([(1, 0, differ_in)] if differ_in else [])


@pytest.mark.parametrize(("one", "other"), AGREEING)
def test_facts_about_others_or_of_another_time_are_none(one: str, other: str) -> None:
    assert differ(statement(one), statement(other)) is None
    assert contradictions([record(0, one), record(1, other)], None) == []


texts = st.builds(
    " ".join,
    st.tuples(
        st.sampled_from(("Ada", "Bo", "My sister", "I")),
        st.sampled_from(("lives in", "likes", "does not like", "has", "moved to", "was born in")),
        st.sampled_from(("Oslo", "Rome", "tea", "one", "two", "2", "1980", "Monday", "New York")),
        st.sampled_from(("", "dogs", "with Cy", "now")),
    ),
)


@given(st.lists(texts, max_size=8))
def test_sorting_finds_what_comparing_all_pairs_finds(given: list[str]) -> None:
    records = [record(number, text) for number, text in enumerate(given)]
    said = [statement(text) for text in given]
    pairs = {(i, j, differ(said[i], said[j])) for i in range(len(said)) for j in range(i)}
    found = contradictions(records, None)
    assert {(pair.newer, pair.older, pair.differ_in) for pair in found} == {pair for pair in pairs if pair[2]}
    assert found == sorted(found, key=lambda pair: (-pair.newer, -pair.older))


def test_facts_of_different_times_and_of_other_meanings_do_not_contradict() -> None:
    ends = {"invalid_at": datetime(2026, 1, 1, tzinfo=UTC)}
    begins = {"valid_at": datetime(2026, 1, 1, tzinfo=UTC)}
    assert contradictions([record(0, "I live in Rome", **ends), record(1, "I live in Oslo", **begins)], None) == []
    facts = [record(0, "I live in Rome"), record(1, "I live in Oslo", **begins)]
    assert len(contradictions(facts, None)) == 1
    [pair] = contradictions(facts, np.array([[1, 0], [0.8, 0.6]], np.float32))
    assert pair.cosine == pytest.approx(0.8)
    assert contradictions(facts, np.array([[1, 0], [0, 1]], np.float32)) == []
    [pair] = contradictions(facts, np.array([[1, 0], [0, 0]], np.float32))
    assert pair.cosine is None


def test_many_values_of_one_thing_are_each_compared_with_a_few_earlier_ones() -> None:
    assert len(contradictions([record(i, f"I live in Town{'x' * i}") for i in range(40)], None)) <= 40 * 8
