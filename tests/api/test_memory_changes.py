"""Changing memories: mixed batches, updates of some fields, and taking the last change back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.conftest import Served


async def batch(served: Served, *items: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = await served.http.post("/v1/memories/batch", json={"memories": items})
    return answer.status_code, answer.json()


async def patch(served: Served, memory_id: str, **body: Any) -> tuple[int, dict[str, Any]]:
    answer = await served.http.patch(f"/v1/memories/{memory_id}", json=body)
    return answer.status_code, answer.json()


async def undo(served: Served, memory_id: str) -> tuple[int, dict[str, Any]]:
    answer = await served.http.post(f"/v1/memories/{memory_id}/undo")
    return answer.status_code, answer.json()


async def texts(served: Served) -> list[str]:
    return [memory["text"] for memory in (await served.http.get("/v1/memories")).json()["data"]]


async def test_a_memory_is_added_with_all_that_is_known_of_it(served: Served) -> None:
    body = {"text": "Bo plays", "tags": ["music", "bo"], "importance": 0.7, "trust": "document", "session": "monday", "kind": "episodic"}
    added = (await served.http.post("/v1/memories", json=body)).json()
    assert {name: added[name] for name in body if name != "session"} == {name: body[name] for name in body if name != "session"}
    assert added["provenance"]["session"] == "monday"


async def test_a_mixed_batch_is_one_commit_and_answers_in_order(served: Served) -> None:
    await batch(served, {"id": "a", "text": "one", "tags": ["x"]}, {"id": "b", "text": "two"})
    mixed = (
        {"op": "delete", "id": "b"},
        {"op": "update", "id": "a", "text": "three", "if_seq": 1},
        {"op": "add", "id": "c", "text": "four"},
        {"op": "update", "id": "c", "importance": 0.5},
        {"op": "update", "id": "a", "kind": "procedural"},
    )
    status, body = await batch(served, *mixed)
    assert (status, body["seq"]) == (201, 2)
    gone, a, c, same_c, same_a = body["data"]
    assert gone is None
    assert (a["text"], a["tags"], a["kind"], a["seq_from"]) == ("three", ["x"], "procedural", 2)
    assert (c["text"], c["importance"]) == ("four", 0.5)
    assert (same_a, same_c) == (a, c)
    assert sorted(await texts(served)) == ["four", "three"]


@pytest.mark.parametrize(
    ("bad", "status", "param", "says"),
    [
        ({"op": "update", "id": "zz", "text": "x"}, 404, "memories[1].id", "no memory 'zz'"),
        ({"op": "update", "id": "zz", "tags": ["x"]}, 404, "memories[1].id", "no memory 'zz'"),
        ({"op": "delete", "id": "zz"}, 404, "memories[1].id", "no memory 'zz'"),
        ({"op": "delete", "id": "a", "text": "one"}, 400, "memories[1].text", "leave text out"),
        ({"op": "delete", "id": "a", "if_seq": 7}, 409, "memories[1].if_seq", "read it again"),
        ({"op": "update", "id": "a", "tags": ["x"], "if_seq": 7}, 409, "memories[1].if_seq", "read it again"),
        ({"op": "replace", "id": "a"}, 400, "memories[1].op", "'add', 'update' or 'delete'"),
        ({"id": "b"}, 400, "memories[1].text", "needs a text"),
        ({"id": "b", "text": "x", "trust": "operator"}, 400, "memories[1].trust", "use user, assistant, tool, document or unknown"),
        ({"id": "b", "text": "x", "trust": "friend"}, 400, "memories[1].trust", "'user'"),
        ({"id": "b", "text": "x", "tags": ["ok", " "]}, 400, "memories[1].tags[1]", "1 to 64 characters"),
        ({"id": "b", "text": "x", "tags": "ok"}, 400, "memories[1].tags", "list"),
        ({"id": "b", "text": "x", "importance": 2}, 400, "memories[1].importance", "from 0 to 1"),
        ({"op": "update", "id": "a", "invalid_at": "2025-01-01T00:00:00Z"}, 400, "memories[1].invalid_at", "not after valid_at"),
    ],
)
async def test_a_bad_operation_refuses_the_whole_batch_and_is_named(
    served: Served, bad: dict[str, Any], status: int, param: str, says: str
) -> None:
    await batch(served, {"id": "a", "text": "kept", "valid_at": "2026-01-01T00:00:00Z"})
    found, body = await batch(served, {"id": "new", "text": "never seen"}, bad)
    assert (found, body["error"]["param"]) == (status, param), body
    assert says in body["error"]["message"]
    assert await texts(served) == ["kept"]


async def test_an_update_changes_what_it_names_and_leaves_the_rest(served: Served) -> None:
    first = {"tags": ["x"], "importance": 0.5, "metadata": {"a": 1}, "valid_at": "2026-01-01T00:00:00Z", "trust": "tool"}
    await batch(served, {"id": "a", "text": "one", "kind": "episodic", "session": "monday", **first})
    status, body = await patch(served, "a", tags=["y", "z"], metadata={}, kind="procedural")
    assert status == 200
    assert {name: body[name] for name in first} == {**first, "tags": ["y", "z"], "metadata": {}}
    assert (body["text"], body["kind"], body["provenance"]["session"], body["seq_from"]) == ("one", "procedural", "monday", 2)
    _, body = await patch(served, "a", valid_at=None, importance=None, invalid_at="2026-05-01T00:00:00Z")
    assert (body["valid_at"], body["importance"], body["invalid_at"]) == (None, None, "2026-05-01T00:00:00Z")
    _, body = await patch(served, "a", text="two", metadata=None)
    assert (body["text"], body["trust"], body["tags"], body["metadata"]) == ("two", "user", ["y", "z"], {})


@pytest.mark.parametrize(
    ("body", "status", "param", "says"),
    [
        ({}, 400, "text", "nothing is to be changed"),
        ({"if_seq": 1}, 400, "text", "nothing is to be changed"),
        ({"text": None}, 400, "text", "nothing is to be changed"),
        ({"trust": "operator"}, 400, "trust", "operator"),
        ({"tags": [""]}, 400, "tags[0]", "1 to 64"),
        ({"importance": -1}, 400, "importance", "from 0 to 1"),
        ({"invalid_at": "2025-01-01T00:00:00Z"}, 400, "invalid_at", "not after valid_at"),
        ({"session": "monday"}, 400, "session", "unknown field"),
        ({"tags": ["x"], "if_seq": 7}, 409, "if_seq", "read it again"),
    ],
)
async def test_a_bad_update_names_its_field(served: Served, body: dict[str, Any], status: int, param: str, says: str) -> None:
    await batch(served, {"id": "a", "text": "kept", "valid_at": "2026-01-01T00:00:00Z"})
    found, told = await patch(served, "a", **body)
    assert (found, told["error"]["param"]) == (status, param), told
    assert says in told["error"]["message"]


async def test_updates_of_different_fields_at_the_same_time_all_count(served: Served) -> None:
    await batch(served, {"id": "a", "text": "one"})
    changes: list[dict[str, Any]] = [{"tags": ["x"]}, {"importance": 0.5}, {"kind": "procedural"}, {"metadata": {"a": 1}}, {"text": "two"}]
    answers = await asyncio.gather(*(patch(served, "a", **change) for change in changes))
    assert [status for status, _ in answers] == [200] * 5
    found = (await served.http.get("/v1/memories/a")).json()
    assert {name: found[name] for change in changes for name in change} == {k: v for change in changes for k, v in change.items()}


async def test_undo_makes_the_earlier_version_current_and_keeps_the_history(served: Served) -> None:
    await batch(served, {"id": "a", "text": "one", "tags": ["x"], "trust": "tool", "kind": "episodic", "session": "monday"})
    await patch(served, "a", text="two", tags=["y"])
    status, body = await undo(served, "a")
    assert (status, body["text"], body["tags"], body["trust"], body["seq_from"]) == (200, "one", ["x"], "tool", 3)
    assert body["provenance"]["session"] == "monday"
    assert (await undo(served, "a"))[1]["text"] == "two"
    versions = (await served.http.get("/v1/memories/a/history")).json()["data"]
    assert [version["text"] for version in versions] == ["one", "two", "one", "two"]


async def test_undo_brings_a_deleted_memory_back(served: Served) -> None:
    await batch(served, {"id": "a", "text": "one", "importance": 0.5})
    await served.http.delete("/v1/memories/a")
    status, body = await undo(served, "a")
    assert (status, body["text"], body["importance"], body["seq_from"]) == (200, "one", 0.5, 3)
    assert await texts(served) == ["one"]


async def test_there_is_nothing_to_undo_of_a_first_version_or_an_unknown_memory(served: Served) -> None:
    await batch(served, {"id": "a", "text": "one"})
    status, body = await undo(served, "a")
    assert (status, body["error"]["param"], body["error"]["code"]) == (409, "id", "nothing_to_undo")
    assert (await undo(served, "zz"))[0] == 404
    assert (await undo(served, "no id"))[0] == 400
