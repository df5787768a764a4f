"""Files of other systems become memories: each once, with ids that make a second import harmless."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from clients.import_formats import read_memories
from recollect.errors import InvalidRequest

DATA = Path(__file__).parents[2] / "data" / "imports"


def test_mem0s_export_keeps_ids_times_and_metadata() -> None:
    cello, moved = read_memories(DATA / "mem0.json")
    assert (cello.id, cello.text, cello.metadata) == ("b9f1c0de-0001", "Bo plays the cello", {"topic": "music", "user_id": "bo"})
    assert cello.valid_at == datetime(2025, 3, 1, 18, tzinfo=UTC)
    assert moved.id.startswith("imp_")
    assert moved.valid_at == datetime(2025, 4, 1, 10, tzinfo=UTC)


def test_the_mcp_memory_servers_entities_and_relations_become_texts() -> None:
    found = read_memories(DATA / "mcp.jsonl")
    assert [memory.text for memory in found] == ["Bo: plays the cello", "Bo: moved to Kelbo", "Tarvo: is brown", "Bo owns Tarvo"]
    assert found[0].metadata == {"entity": "Bo", "entity_type": "person"}
    assert found[3].metadata == {"relation": "owns"}


def test_a_folder_of_markdown_becomes_paragraphs_and_bullets_under_their_headings() -> None:
    found = read_memories(DATA / "notes")
    assert [memory.text for memory in found] == [
        "Bo: Bo plays the cello and sings.",
        "Bo: moved to Kelbo",
        "Bo: owns a dog",
        "Dates: birthday in May",
        "A note without a heading.",
    ]
    assert found[0].metadata == {"file": "people.md", "heading": "Bo"}
    assert found[4].metadata == {"file": "work/plain.md"}
    assert [memory.id for memory in read_memories(DATA / "notes")] == [memory.id for memory in found]


def test_the_same_text_twice_is_one_memory(tmp_path: Path) -> None:
    file = tmp_path / "twice.md"
    file.write_text("- tea\n- tea\n", "utf-8")
    assert len(read_memories(file)) == 1


def test_an_export_keeps_tags_importance_and_trust_but_makes_nobody_an_operator(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(
        '{"id": "a", "text": "one", "tags": ["x"], "importance": 0.5, "trust": "tool", "provenance": {"session": "s"}}\n'
        '{"id": "b", "text": "two", "tags": [], "importance": null, "trust": "operator"}\n',
        "utf-8",
    )
    one, two = read_memories(file)
    assert (one.tags, one.importance, one.trust, one.session) == (("x",), 0.5, "tool", "s")
    assert (two.tags, two.importance, two.trust) == ((), None, None)


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    file = tmp_path / "odd.jsonl"
    file.write_text('{"id": "a", "text": "one\u2028two"}\n{"id": "b", "text": "three\x85four"}\n', "utf-8")
    assert [memory.text for memory in read_memories(file)] == ["one\u2028two", "three\x85four"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"[]", ["holds no memories"]),
        ("a.json", b"[3]", ["[0] is int, not an object"]),
        ("a.json", b'[{"note": "x"}]', ["none of the fields 'memory', 'text', 'type'"]),
        ("a.json", b'[{"memory": "  "}]', ["a memory needs a text"]),
        ("a.jsonl", b'{"memory": "x"}\n{"memory": \n', ["a.jsonl:2 is not JSON"]),
        ("a.jsonl", b'{"type": "entity", "name": "Bo"}', ["neither an entity"]),
        ("a.jsonl", b'{"text": "x", "kind": "odd"}', ["kind"]),
        ("a.json", b"\xff", ["is no UTF-8"]),
        ("a.jsonl", b'{"id": "m", "text": "one"}\n{"id": "m", "text": "two"}', ["two memories of id 'm'"]),
    ],
)
def test_a_bad_file_is_one_error_that_names_the_place(tmp_path: Path, name: str, content: bytes, words: list[str]) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InvalidRequest) as caught:
        read_memories(file)
    assert all(word in caught.value.message for word in [str(file), *words]), caught.value.message


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read: No such file"):
        read_memories(tmp_path / "nowhere.json")
