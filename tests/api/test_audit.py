"""The audit of a namespace over HTTP: what it finds, that it changes nothing, and what mending changes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recollect.audit import AuditOptions
from recollect.memory import MemoryWrite, Namespace, Provenance
from server.engines.scripted import ScriptedEngine
from server.service import audit as auditing
from tests.api.conftest import Served, serving
from tests.promises.test_forgetting_leaves_no_text import holding

ADA = Namespace(parts=(("user", "ada"),))
WHOSE = {"namespace": "user/ada"}
KEY = "AKIAIOSFODNN7EXAMPLE"


async def remember(served: Served, *texts: str, kind: str = "semantic") -> None:
    for number, text in enumerate(texts):
        body = {"text": text, "id": f"{kind}-{number}", "kind": kind, **WHOSE}
        assert (await served.http.post("/v1/memories", json=body)).status_code < 300


async def audited(served: Served, **params: Any) -> dict[str, Any]:
    answer = await served.http.get("/v1/memories/audit", params={**WHOSE, **params})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_audit_finds_what_was_put_there_and_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, kind="none", embedder={"kind": "hash"}) as served:
        await remember(served, "Ada lives in Lisbon", "Ada lives in Oslo", "Ada likes tea", "ada  likes TEA", f"The key is {KEY}")
        found = await audited(served)
        store = found["store"]
        assert (found["object"], found["namespace"], store["memories"], store["seq"]) == ("memory.audit", "user/ada", 5, 5)
        [group] = store["exact"]
        assert (group["stays"]["id"], [o["memory"]["id"] for o in group["others"]]) == ("semantic-3", ["semantic-2"])
        [pair] = store["contradictions"]
        assert (pair["newer"]["id"], pair["older"]["id"], pair["differ_in"]) == ("semantic-1", "semantic-0", "value")
        assert pair["cosine"] > 0.5
        secret = {"id": "semantic-4", "kinds": ["AWS Access Key"], "places": ["text"], "versions": 1, "current": True}
        assert store["secrets"] == [secret]
        assert KEY not in json.dumps(found)
        assert store["sizes"]["by_kind"][0]["memories"] == 5
        assert store["without_vector"] == 0
        assert (found["loops"]["count"], found["loops"]["traced"]) == (0, 0)
        assert (found["unused"]["judged"], found["unused"]["count"]) == (False, 0)
        again = await audited(served)
        assert again | {"at": "", "seconds": 0} == found | {"at": "", "seconds": 0}
        assert (await served.http.get("/v1/memories/stats", params=WHOSE)).json()["seq"] == 5


async def test_near_duplicates_are_those_whose_vectors_are_alike(tmp_path: Path) -> None:
    async with serving(tmp_path, kind="none", embedder={"kind": "hash"}) as served:
        await remember(served, "Ada has a small green garden behind her house", "Ada has a small green garden behind her house too")
        assert (await audited(served, cosine=0.999))["store"]["near"] == []
        [group] = (await audited(served, cosine=0.8))["store"]["near"]
        assert (group["stays"]["id"], len(group["others"])) == ("semantic-1", 1)
        assert 0.8 <= group["others"][0]["cosine"] < 0.999


async def test_an_empty_namespace_and_one_without_an_embedder_can_be_audited(served: Served) -> None:
    assert (await audited(served))["store"]["memories"] == 0
    await remember(served, "Ada lives in Lisbon", "Ada lives in Oslo")
    store = (await audited(served))["store"]
    assert (store["without_vector"], store["near"], store["contradictions"][0]["cosine"]) == (2, [], None)


async def test_bad_requests_are_refused_by_name(served: Served) -> None:
    for params, param in (({"cosine": 2}, "cosine"), ({"unused_days": 0}, "unused_days"), ({"colour": "red"}, "colour")):
        answer = await served.http.get("/v1/memories/audit", params={**WHOSE, **params})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    answer = await served.http.post("/v1/memories/audit", json=WHOSE)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "duplicates")


async def test_a_streamed_audit_tells_how_far_it_is(served: Served) -> None:
    await remember(served, "Ada likes tea")
    answer = await served.http.get("/v1/memories/audit", params={**WHOSE, "stream": True})
    *steps, last = [json.loads(line) for line in answer.text.strip().split("\n")]
    assert {step["part"] for step in steps} >= {"secrets", "near duplicates", "contradictions"}
    assert last["audit"]["store"]["memories"] == 1


async def test_mending_deletes_what_repeats_and_forgets_what_holds_a_secret(tmp_path: Path) -> None:
    async with serving(tmp_path, kind="none") as served:
        await remember(served, "Ada likes tea", "ada likes tea", f"The key is {KEY}", "Ada likes milk")
        ids = {"duplicates": ["semantic-0", "semantic-1", "semantic-3"], "secrets": ["semantic-2", "semantic-3"]}
        mended = (await served.http.post("/v1/memories/audit", json={**ids, **WHOSE})).json()
        assert (mended["deleted"], mended["forgotten"]) == (["semantic-0"], ["semantic-2"])
        assert mended["left"] == ["semantic-1", "semantic-3"]
        listed = (await served.http.get("/v1/memories", params=WHOSE)).json()["data"]
        assert {memory["id"] for memory in listed} == {"semantic-1", "semantic-3"}
        history = (await served.http.get("/v1/memories/semantic-0/history", params=WHOSE)).json()["data"]
        assert [version["text"] for version in history] == ["Ada likes tea"]
        assert (await served.http.get("/v1/memories/semantic-2/history", params=WHOSE)).status_code == 404
        found = await audited(served)
        assert (found["store"]["exact"], found["store"]["secrets"]) == ([], [])
    assert holding(tmp_path, KEY.lower()) == []


async def test_a_secret_of_a_deleted_version_is_found_and_forgotten(served: Served) -> None:
    await remember(served, f"The key is {KEY}")
    await served.http.delete("/v1/memories/semantic-0", params=WHOSE)
    [secret] = (await audited(served))["store"]["secrets"]
    assert secret["current"] is False
    assert (await served.service.auditing.mend(ADA, secrets=[secret["id"]])).forgotten == ("semantic-0",)
    assert (await audited(served))["store"]["secrets"] == []


async def test_conversations_leave_no_recall_loop_and_the_log_shows_it(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        for text in (
            "I like green tea.",
            "I live in Oslo.",
            "I like green tea.",
            "What do I like?",
            "<memory>\n[1] I like milk\n</memory>\nHi",
        ):
            await served.ask(text, user="ada")
        await served.logged()
        loops = (await audited(served))["loops"]
        assert (loops["count"], loops["untraced"]) == (0, 0)
        assert loops["traced"] >= 4


async def test_a_memory_that_says_what_was_recalled_is_a_loop(tmp_path: Path) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        await served.ask("I like green tea.", user="ada")
        await served.ask("What tea do I like?", user="ada")
        logged = (await served.logged())[-1].trajectory
        assert any(step.retrieved for step in logged.steps)
        origin = Provenance(trajectory_id=logged.id, step=0)
        texts = ("I like  green tea.", "I like black tea.", "<memory>\n[1] I like tea\n</memory>", "the <memory> tag")
        writes = [MemoryWrite(op="add", id=f"loop-{i}", text=text, provenance=origin) for i, text in enumerate(texts)]
        await served.service._store.apply(
            ADA, [*writes, MemoryWrite(op="add", id="old", text="x", provenance=Provenance(trajectory_id="gone"))]
        )
        loops = (await audited(served))["loops"]
        assert {(loop["memory"]["id"], loop["reason"]) for loop in loops["found"]} == {("loop-0", "recalled"), ("loop-2", "fence")}
        assert (loops["count"], loops["untraced"]) == (2, 1)


async def test_only_a_log_that_is_long_enough_condemns_memories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path, ScriptedEngine()) as served:
        await served.ask("I like green tea.", user="ada")
        await served.ask("Is tea green?", user="ada")
        await served.ask("Kelbo!", user="ada")
        await served.logged()
        assert (await audited(served, unused_days=1))["unused"]["judged"] is False
        monkeypatch.setattr(auditing, "now", lambda: datetime.now(UTC) + timedelta(days=31))
        found = await served.service.auditing.audit(ADA, AuditOptions(unused_days=30))
        assert found.unused.judged
        assert 31 <= found.unused.log_days < 32
        recalled = {ref.id for item in await served.logged() for step in item.trajectory.steps for ref in step.retrieved}
        records = await served.service.memories.list(ADA, limit=9)
        assert {memory.id for memory in found.unused.memories} == {record.id for record in records} - recalled
        assert found.unused.count > 0
        assert recalled
