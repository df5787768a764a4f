"""Every prompt of every pack loads and has the fields that its module fills in."""

from __future__ import annotations

import pytest

from recollect.errors import ConfigurationError
from server.agents.fence import Fence
from server.agents.operations import parse
from server.agents.prompts import PACKS, load_prompt

FIELDS = {
    "operations": {"memories", "turn"},
    "extract": {"turn"},
    "answer": {"memories", "question"},
    "read_section": {"question", "memory", "section"},
    "read_answer": {"question", "memory"},
    "read_section_first": {"question", "section", "memory"},
    "read_recall": {"question", "recalled", "memory", "section"},
    "read_question_free": {"memory", "section"},
    "manage": {"memories", "fact"},
    "distill": {"memories", "question"},
    "rmm_answer": {"memories", "question"},
    "rmm_topics": {"speaker", "turns"},
    "rmm_merge": {"memories", "summary"},
    "rmm_rerank": {"memories", "question", "limit"},
}
ALL_PACKS = sorted(path.name for path in PACKS.iterdir() if path.is_dir() and not path.name.startswith("_"))
PROMPTS = [(path.parent.name, path.stem) for path in sorted(PACKS.glob("*/*.yaml"))]


def test_there_are_two_packs_and_every_prompt_is_known() -> None:
    assert ALL_PACKS == ["compact", "default"]
    assert {name for _, name in PROMPTS} == set(FIELDS)


@pytest.mark.parametrize(("pack", "name"), PROMPTS)
def test_a_prompt_has_exactly_its_fields_each_once(pack: str, name: str) -> None:
    prompt = load_prompt(pack, name)
    assert sorted(prompt.fields) == sorted(FIELDS[name])
    assert prompt.system is None or "{" not in prompt.system


@pytest.mark.parametrize(("pack", "name"), PROMPTS)
def test_values_are_inserted_as_they_are(pack: str, name: str) -> None:
    tricky = "{question} {0} {{x}} \\boxed{y} %s"
    rendered = load_prompt(pack, name).render(**dict.fromkeys(FIELDS[name], tricky))
    assert rendered[-1].content.count(tricky) == len(FIELDS[name])


@pytest.mark.parametrize("pack", ALL_PACKS)
def test_a_pack_says_what_an_empty_memory_is_and_fences_memories(pack: str) -> None:
    assert load_prompt(pack, "read_section").empty_memory == load_prompt(pack, "read_answer").empty_memory != ""
    assert load_prompt(pack, "read_answer").format == "boxed"
    assert load_prompt(pack, "answer").system is None
    assert Fence.of(load_prompt(pack, "answer")).tag


def test_the_examples_in_the_default_operations_prompt_can_be_parsed() -> None:
    shown = load_prompt("default", "operations").render(memories="none", turn="hello")[-1].content
    examples = [line for line in shown.splitlines() if line.startswith('{"operations"')]
    assert [[(o.op, o.number) for o in parse(example, "json")] for example in examples] == [[("add", None), ("update", 1), ("delete", 2)]]
    assert [o.op for o in parse('{"operations": [{"op": "NOOP"}]}', "json")] == ["noop"]


def test_an_unknown_pack_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="known packs: compact, default"):
        load_prompt("missing", "answer")


def test_the_literal_box_reaches_the_model() -> None:
    assert "in \\boxed{}." in load_prompt("default", "read_answer").render(question="q", memory="m")[-1].content
