"""Reading operations and citations from whatever a policy writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect.memory import MAX_TEXT
from server.agents.answerer import citations
from server.agents.operations import Operation, parse

WELL_FORMED = [
    ("ADD User's dog is Brann.", Operation("add", None, "User's dog is Brann.")),
    ("  UPDATE 12  User's dog is Timo. ", Operation("update", 12, "User's dog is Timo.")),
    ("DELETE 3", Operation("delete", 3)),
    ("NOOP", Operation("noop")),
]
ILL_FORMED = ["", "ADD", "UPDATE User's dog", "UPDATE 2", "DELETE", "DELETE 2 now", "NOOP because", "add x", "DELETE 99999", "REMOVE 1"]


@pytest.mark.parametrize(("line", "operation"), WELL_FORMED)
def test_a_line_is_read_as_it_was_taught(line: str, operation: Operation) -> None:
    assert parse(line, "lines") == [operation]


@pytest.mark.parametrize("line", ILL_FORMED[1:])
def test_a_line_of_another_form_is_kept_as_text(line: str) -> None:
    assert parse(line, "lines") == [Operation("noop", None, line, well_formed=False)]


def test_lines_are_read_one_by_one_after_what_was_thought() -> None:
    text = "<think>ADD nothing</think>\n\nADD a b\n\nnonsense\nDELETE 1\n"
    assert [(o.op, o.well_formed) for o in parse(text, "lines")] == [("add", True), ("noop", False), ("delete", True)]


@pytest.mark.parametrize(
    "text",
    [
        '{"operations": [{"op": "UPDATE", "id": 2, "text": "x"}]}',
        '[{"op": "update", "id": "2", "text": " x "}]',
        'Here {it} is: ```json\n{"operations": [{"op": "UPDATE", "id": 2, "text": "x"}]}\n``` done {"operations": []}',
    ],
)
def test_json_is_found_in_what_stands_around_it(text: str) -> None:
    assert parse(text, "json") == [Operation("update", 2, "x")]


@pytest.mark.parametrize(
    "item",
    [
        {"op": "UPDATE", "text": "x"},
        {"op": "UPDATE", "id": 2},
        {"op": "UPDATE", "id": -1, "text": "x"},
        {"op": "UPDATE", "id": 1.5, "text": "x"},
        {"op": "DELETE", "id": True},
        {"op": "DELETE", "id": [1]},
        {"op": "ADD", "text": ["x"]},
        {"op": "ADD", "text": "\ud83d"},
        {"op": "MERGE"},
        {"op": None},
        {"op": ["ADD"], "text": "x"},
        {},
        "ADD x",
        7,
        None,
    ],
)
def test_an_item_of_another_form_is_kept_as_text(item: object) -> None:
    (operation,) = parse(json.dumps({"operations": [item]}), "json")
    assert (operation.op, operation.well_formed) == ("noop", False)
    operation.text.encode()


@pytest.mark.parametrize("text", ["no json", "{", '{"operations": "ADD"}', "[" * 50_000, "[{" * 50_000, '{"a": 1}'])
def test_a_text_without_a_list_is_one_ill_formed_operation(text: str) -> None:
    assert parse(text, "json") == [Operation("noop", None, text[:MAX_TEXT], well_formed=False)]


@pytest.mark.parametrize("form", ["lines", "json"])
def test_nothing_said_is_nothing_asked_for(form: str) -> None:
    assert parse("  \n", form) == []


@given(st.text(), st.sampled_from(["lines", "json"]))
def test_no_text_raises(text: str, form: str) -> None:
    for operation in parse(text, form):
        assert operation.well_formed == bool(operation.op != "noop" or operation == Operation("noop"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["op", "id", "text", "operations"]) | st.text(), inner),
)


@given(JSON, st.text(max_size=5), st.text(max_size=5))
def test_no_json_raises(value: object, before: str, after: str) -> None:
    for operation in parse(before + json.dumps(value) + after, "json"):
        assert not operation.well_formed or operation.op in ("add", "update", "delete", "noop")


@given(st.lists(st.sampled_from([*ILL_FORMED[1:], *(line for line, _ in WELL_FORMED)])))
def test_every_line_becomes_one_operation(lines: list[str]) -> None:
    assert len(parse("\n".join(lines), "lines")) == len(lines)


@pytest.mark.parametrize(
    ("answer", "numbers"),
    [
        ("Timo [2]", [2]),
        ("Timo [2], not Brann[1]; again [2].", [2, 1]),
        ("Both [1, 3] and [2;1]", [1, 3, 2]),
        ("None of [0], [4], [12345] or [x]", []),
        ("See [1](https://example.org) and `a[1]`\n```\nb[2]\n```", []),
        ("<think>maybe [1]</think>It is [3]", [3]),
        ("", []),
    ],
)
def test_citations_are_the_numbers_of_memories_in_the_answer_itself(answer: str, numbers: list[int]) -> None:
    assert citations(answer, 3) == numbers


@given(st.text(), st.integers(0, 5))
def test_citations_are_always_numbers_of_memories_and_each_once(answer: str, count: int) -> None:
    found = citations(answer, count)
    assert len(set(found)) == len(found)
    assert set(found) <= set(range(1, count + 1))
