"""Reading the manager's one operation, and the facts of a turn, from whatever a policy writes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cases import context, engine, request
from hypothesis import given
from hypothesis import strategies as st

from server.agents.memory_r1.decision import parse
from server.agents.memory_r1.facts import MAX_FACTS, FactExtractor, facts_in
from server.agents.modules import Fact
from server.agents.operations import Operation
from server.agents.prompts import load_prompt

FACT = "Ida has a cat."


@pytest.mark.parametrize(
    ("text", "form", "operation"),
    [
        ("ADD", "lines", Operation("add", None, FACT)),
        ("ADD Ida has a dog.", "lines", Operation("add", None, FACT)),
        ("UPDATE 2 Ida has two cats.", "lines", Operation("update", 2, "Ida has two cats.")),
        ("DELETE 1", "lines", Operation("delete", 1)),
        ("<think>ADD?</think>\nNOOP\n", "lines", Operation("noop")),
        ('{"op": "ADD"}', "json", Operation("add", None, FACT)),
        ('{"op": "add", "text": "Ida has a dog."}', "json", Operation("add", None, FACT)),
        ('Sure {it} is: ```json\n{"op": "UPDATE", "id": "2", "text": " x "}\n```', "json", Operation("update", 2, "x")),
        ('{"operations": [{"op": "DELETE", "id": 1}]}', "json", Operation("delete", 1)),
        ('{"op": "NOOP"}', "json", Operation("noop")),
    ],
)
def test_one_operation_is_read_and_an_add_is_of_the_fact_itself(text: str, form: str, operation: Operation) -> None:
    assert parse(text, form, FACT) == [operation]


@pytest.mark.parametrize("form", ["lines", "json"])
@pytest.mark.parametrize(
    "text", ["", "  ", "maybe", "UPDATE", '{"op": "MERGE"}', '{"op": "UPDATE", "id": 1}', '{"op": "DELETE"}', "{" * 10_000]
)
def test_what_cannot_be_read_is_one_ill_formed_operation(text: str, form: str) -> None:
    (operation,) = parse(text, form, FACT)
    assert (operation.op, operation.well_formed) == ("noop", False)


@pytest.mark.parametrize(("text", "form"), [("ADD\nDELETE 1", "lines"), ('[{"op": "NOOP"}, {"op": "DELETE", "id": 1}]', "json")])
def test_a_fact_has_one_operation_and_what_follows_is_an_error_of_form(text: str, form: str) -> None:
    first, second = parse(text, form, FACT)
    assert (first.well_formed, second.op, second.well_formed) == (True, "noop", False)


@given(st.text() | st.builds(json.dumps, st.dictionaries(st.sampled_from(["op", "id", "text"]), st.text() | st.integers() | st.none())))
def test_no_text_raises(text: str) -> None:
    for form in ("lines", "json"):
        assert parse(text, form, FACT)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("none", []),
        ("None.\n", []),
        ("", []),
        ("- Ida has a cat.\n2) Ida  works.\n* Ida has a cat.\n", ["Ida has a cat.", "Ida works."]),
        ("<think>Ida lies.</think>Ida has 2 cats.", ["Ida has 2 cats."]),
        ("42. is a year", ["is a year"]),
        ("\n".join(f"fact {i}" for i in range(40)), [f"fact {i}" for i in range(MAX_FACTS)]),
    ],
)
def test_facts_are_lines_each_once_and_not_too_many(text: str, facts: list[str]) -> None:
    assert facts_in(text) == facts


async def test_a_fact_holds_from_the_day_that_it_names_else_from_when_it_was_said() -> None:
    said = datetime(2026, 11, 22, 15, tzinfo=UTC)
    told = "Ida went hiking yesterday.\nIda likes tea."
    extractor = FactExtractor("memory-manager", load_prompt("compact", "extract"))
    ctx = context(engine(lambda prompt: told))
    assert await extractor.extract("a", request("a"), ctx) == [Fact(text="Ida went hiking yesterday."), Fact(text="Ida likes tea.")]
    found = await extractor.extract("a", request("a"), replace(ctx, at=said))
    day = datetime(2026, 11, 21, tzinfo=UTC)
    assert found == [Fact(text="Ida went hiking yesterday (21 November 2026).", valid_at=day), Fact(text="Ida likes tea.", valid_at=said)]
    assert len(ctx.recorder.steps) == 1
