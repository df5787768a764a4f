"""`/v1/memories` over HTTP: every write is committed when it is answered, and namespaces are kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.conftest import Served, serving


async def add(served: Served, text: str, **more: object) -> dict[str, object]:
    answer = await served.http.post("/v1/memories", json={"text": text, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_memory_is_added_read_found_listed_and_deleted(served: Served) -> None:
    added = await add(
        served, "Ada plays the cello.", kind="episodic", metadata={"source": "talk", "sure": True}, valid_at="2026-01-02T03:04:05Z"
    )
    assert added["object"] == "memory"
    assert (added["namespace"], added["kind"], added["trust"]) == ("user/default", "episodic", "user")
    assert (await served.http.get(f"/v1/memories/{added['id']}")).json() == added
    found = (await served.http.post("/v1/memories/search", json={"query": "cello"})).json()["data"]
    assert [hit["id"] for hit in found] == [added["id"]]
    assert found[0]["score"] > 0
    assert [memory["id"] for memory in (await served.http.get("/v1/memories")).json()["data"]] == [added["id"]]
    deleted = await served.http.delete(f"/v1/memories/{added['id']}")
    assert deleted.json() == {"object": "memory.deleted", "id": added["id"], "deleted": True}
    assert (await served.http.get(f"/v1/memories/{added['id']}")).status_code == 404
    assert (await served.http.get("/v1/memories")).json() == {"object": "list", "data": [], "has_more": False, "seq": 2}


async def test_a_repeated_add_with_the_same_id_changes_nothing(served: Served) -> None:
    first = await add(served, "Ada is 30.", id="age")
    assert await add(served, "Ada is 30.", id="age") == first
    other = await served.http.post("/v1/memories", json={"text": "Ada is 31.", "id": "age"})
    assert other.status_code == 409
    assert "age" in other.json()["error"]["message"]


async def test_pages_are_newest_first_and_say_whether_there_are_more(served: Served) -> None:
    for number in range(3):
        await add(served, f"fact {number}", id=f"m{number}")
    first = (await served.http.get("/v1/memories", params={"limit": 2})).json()
    assert ([m["id"] for m in first["data"]], first["has_more"]) == (["m2", "m1"], True)
    rest = (await served.http.get("/v1/memories", params={"limit": 2, "offset": 2})).json()
    assert ([m["id"] for m in rest["data"]], rest["has_more"]) == (["m0"], False)


@pytest.mark.parametrize(
    ("path", "headers", "body", "namespace"),
    [
        ("/v1/memories", {}, {}, "user/default"),
        ("/v1/memories", {}, {"user": "ada"}, "user/ada"),
        ("/v1/memories", {}, {"namespace": "ada"}, "user/ada"),
        ("/v1/memories", {}, {"namespace": "user/ada:agent/coach", "user": "ben"}, "user/ada:agent/coach"),
        ("/v1/memories", {"X-Memory-Scope": "ada"}, {"user": "ben"}, "user/ada"),
        ("/v1/memories", {"X-OpenWebUI-User-Id": "7"}, {}, "user/7"),
        ("/ns/carl/v1/memories", {"X-Memory-Scope": "ada"}, {"user": "ben"}, "user/carl"),
        ("/ns/user%2Fcarl%3Aagent%2Fx/v1/memories", {}, {}, "user/carl:agent/x"),
        ("/ns/user/carl:agent/x/v1/memories", {}, {}, "user/carl:agent/x"),
        ("/ns/user/carl%20b:agent/x/v1/memories", {}, {}, "user/carl%20b:agent/x"),
        ("/ns/Ada%20Lovelace/v1/memories", {}, {}, "user/Ada%20Lovelace"),
        ("/ns/a%3Ab/v1/memories", {}, {}, "user/a%3Ab"),
        ("/ns/user/a%3Ab/v1/memories", {}, {}, "user/a%3Ab"),
        ("/ns/user%2Fa%253Ab/v1/memories", {}, {}, "user/a%3Ab"),
        ("/v1/memories", {"X-Memory-Scope": "Ada Lovelace"}, {}, "user/Ada%20Lovelace"),
    ],
)
async def test_the_namespace_is_the_first_that_the_request_names(
    served: Served, path: str, headers: dict[str, str], body: dict[str, str], namespace: str
) -> None:
    answer = await served.http.post(path, json={"text": "x", **body}, headers=headers)
    assert answer.json()["namespace"] == namespace


async def test_a_namespace_never_shows_what_another_holds(served: Served) -> None:
    memory = await add(served, "The code is 1234.", namespace="ada")
    for namespace in ("ben", "user/ada:agent/x"):
        assert (await served.http.get("/v1/memories", params={"namespace": namespace})).json()["data"] == []
        assert (await served.http.get(f"/v1/memories/{memory['id']}", params={"namespace": namespace})).status_code == 404
        assert (await served.http.delete(f"/v1/memories/{memory['id']}", params={"namespace": namespace})).status_code == 404
        body = {"query": "code 1234", "namespace": namespace}
        assert (await served.http.post("/v1/memories/search", json=body)).json()["data"] == []


@pytest.mark.parametrize("namespace", ["user/a%3Aagent%2Fb", "user/a:agent/b", "user/a%3Ab", "user/100%25"])
async def test_the_url_means_the_namespace_that_it_is_written_as(served: Served, namespace: str) -> None:
    await served.http.post("/v1/memories", json={"text": "another's", "id": "m1"}, headers={"X-Memory-Scope": "user/a:agent/b:x/y"})
    added = await served.http.post("/v1/memories", json={"text": "x", "id": "m1"}, headers={"X-Memory-Scope": namespace})
    assert added.json()["namespace"] == namespace
    listed = await served.http.get(f"/ns/{namespace}/v1/memories")
    assert [memory["namespace"] for memory in listed.json()["data"]] == [namespace]
    assert (await served.http.get(f"/ns/{namespace}/v1/memories/m1")).json()["text"] == "x"


async def test_a_name_that_looks_like_two_parts_is_not_those_parts(served: Served) -> None:
    await add(served, "The code is 1234.", namespace="user/a:agent/b")
    assert (await served.http.get("/ns/user/a%3Aagent%2Fb/v1/memories")).json()["data"] == []
    assert len((await served.http.get("/ns/user/a:agent/b/v1/memories")).json()["data"]) == 1


async def test_what_was_added_is_there_after_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path / "home") as served:
        await add(served, "Ada plays the cello.", id="m1")
    async with serving(tmp_path / "home") as served:
        assert (await served.http.get("/v1/memories/m1")).json()["text"] == "Ada plays the cello."


async def test_memories_are_served_without_an_engine(tmp_path: Path) -> None:
    async with serving(tmp_path / "home", kind="none") as served:
        assert (await served.http.get("/ready")).json()["ready"]
        await add(served, "Ada plays the cello.", id="m1")
        assert (await served.http.get("/v1/models")).json()["data"] == []
        answer = await served.http.post("/v1/chat/completions", json={"model": "memory", "messages": [{"role": "user", "content": "x"}]})
        assert answer.status_code == 404
        assert "engine.kind is none" in answer.json()["error"]["message"]
        assert (await served.http.get("/v1/admin/adapters")).json()["data"] == []
