"""Several memories at once, the history of one, and all of a namespace as JSON lines."""

from __future__ import annotations

import json
from typing import Any

from tests.api.conftest import Served

WHOSE = {"namespace": "user/ada"}


def item(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"m{number}", "text": f"memory {number}", **more}


async def batch(served: Served, *items: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = await served.http.post("/v1/memories/batch", json={"memories": items, **WHOSE})
    return answer.status_code, answer.json()


async def test_a_batch_is_one_commit_and_can_be_sent_again(served: Served) -> None:
    for _ in range(2):
        status, body = await batch(served, item(1, kind="episodic", session="monday"), item(2, metadata={"topic": "tea"}))
        assert status == 201
        assert [(m["id"], m["seq_from"]) for m in body["data"]] == [("m1", 1), ("m2", 1)]
        assert body["data"][0]["provenance"] == {"trajectory_id": None, "step": None, "session": "monday", "channel": "import"}


async def test_a_bad_memory_refuses_the_whole_batch_and_is_named(served: Served) -> None:
    for bad, param in (
        (item(2, id="no id!"), "memories[1].id"),
        (item(2, text=" "), "memories[1].text"),
        (item(2, valid_at="2026-01-01T00:00:00"), "memories[1].valid_at"),
        (item(2, valid_at="2026-01-02T00:00:00Z", invalid_at="2026-01-01T00:00:00Z"), "memories[1].invalid_at"),
        (item(2, colour="red"), "memories[1].colour"),
    ):
        status, body = await batch(served, item(1), bad)
        assert (status, body["error"]["param"]) == (400, param)
    assert (await batch(served))[0] == 400
    await batch(served, item(1))
    status, body = await batch(served, item(3), item(1, text="another text"))
    assert (status, body["error"]["param"]) == (409, "memories[1].id")
    listed = (await served.http.get("/v1/memories", params=WHOSE)).json()["data"]
    assert [memory["id"] for memory in listed] == ["m1"]


async def test_the_history_of_a_memory_goes_on_after_its_end(served: Served) -> None:
    await batch(served, item(1))
    assert (await served.http.delete("/v1/memories/m1", params=WHOSE)).status_code == 200
    versions = (await served.http.get("/v1/memories/m1/history", params=WHOSE)).json()["data"]
    assert [(v["text"], v["seq_from"], v["seq_to"]) for v in versions] == [("memory 1", 1, 2)]
    unknown = await served.http.get("/v1/memories/m9/history", params=WHOSE)
    assert unknown.status_code == 404


async def test_an_update_is_a_new_version_and_overwrites_nobodys_change(served: Served) -> None:
    await batch(served, item(1, metadata={"topic": "tea"}, kind="episodic", session="monday"))

    async def update(**body: Any) -> tuple[int, dict[str, Any]]:
        answer = await served.http.patch("/v1/memories/m1", params=WHOSE, json=body)
        return answer.status_code, answer.json()

    status, body = await update(text="green tea", if_seq=1)
    assert (status, body["text"], body["seq_from"], body["metadata"]) == (200, "green tea", 2, {"topic": "tea"})
    assert (body["kind"], body["provenance"]["session"]) == ("episodic", "monday")
    status, body = await update(text="black tea", if_seq=1)
    assert (status, body["error"]["param"]) == (409, "if_seq")
    assert "its version is of seq 2, not 1" in body["error"]["message"]
    assert (await update(text="white tea"))[0] == 200
    for bad, param in (({"text": " "}, "text"), ({"text": "x", "if_seq": 0}, "if_seq"), ({"colour": "red", "text": "x"}, "colour")):
        status, body = await update(**bad)
        assert (status, body["error"]["param"]) == (400, param)
    versions = (await served.http.get("/v1/memories/m1/history", params=WHOSE)).json()["data"]
    assert [version["text"] for version in versions] == ["memory 1", "green tea", "white tea"]
    assert (await served.http.patch("/v1/memories/m9", params=WHOSE, json={"text": "x"})).status_code == 404


async def test_the_size_of_a_namespace_is_told(served: Served) -> None:
    assert (await served.http.get("/v1/memories/stats", params=WHOSE)).json()["memories"] == 0
    await batch(served, item(1), item(2, kind="episodic"))
    await served.http.delete("/v1/memories/m1", params=WHOSE)
    found = (await served.http.get("/v1/memories/stats", params=WHOSE)).json()
    assert (found["namespace"], found["memories"], found["versions"], found["seq"]) == ("user/ada", 1, 2, 2)
    assert (found["by_kind"], found["without_vector"]) == ({"episodic": 1}, 0)
    assert found["bytes"] > 0
    assert found["fragments"] >= 1


async def test_an_export_is_all_of_one_moment_oldest_first(served: Served) -> None:
    for number in range(3):
        await batch(served, item(number))
    await batch(served, item(7, text="one\u2028line"))
    await served.http.delete("/v1/memories/m1", params=WHOSE)
    answer = await served.http.get("/v1/memories/export", params=WHOSE)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line)["id"] for line in answer.text.strip().split("\n")] == ["m0", "m2", "m7"]
    assert (await served.http.get("/v1/memories/export", params={"namespace": "user/nobody"})).text == ""
    assert (await served.http.get("/v1/memories/export", params={"namespace": "user/"})).status_code == 400
