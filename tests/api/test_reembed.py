"""A server whose embedder was changed says so, and makes the vectors anew while it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace
from tests.api.conftest import serving


async def _before(home: Path, *users: str) -> None:
    store = LanceMemoryStore(home / "memory", HashEmbedder(64))
    for user in users:
        await store.apply(Namespace(parts=(("user", user),)), [MemoryWrite(op="add", id="m", text=f"the zebra of {user}")])
    await store.close()


async def test_all_namespaces_get_vectors_of_the_embedder_in_use(tmp_path: Path) -> None:
    await _before(tmp_path, "ada", "bob")
    async with serving(tmp_path, embedder={"kind": "hash"}) as served:
        refused = await served.http.get("/v1/memories", params={"namespace": "user/ada"})
        assert refused.status_code == 500
        assert "recollect memory reembed" in refused.json()["error"]["message"]
        begun = await served.http.post("/v1/memories/reembed", json={})
        assert begun.json()["data"] == [{"namespace": "user/ada", "without_vector": 1}, {"namespace": "user/bob", "without_vector": 1}]

        async with asyncio.timeout(20):
            while True:
                found = await served.http.get("/v1/memories/stats", params={"namespace": "user/bob"})
                if not found.json()["without_vector"]:
                    break
                await asyncio.sleep(0.02)
        found = await served.http.post("/v1/memories/search", json={"query": "zebra", "mode": "dense", "namespace": "user/bob"})
        assert [hit["id"] for hit in found.json()["data"]] == ["m"]


async def test_one_namespace_alone_and_bad_names(tmp_path: Path) -> None:
    await _before(tmp_path, "ada", "bob")
    async with serving(tmp_path, embedder={"kind": "hash"}) as served:
        begun = await served.http.post("/v1/memories/reembed", json={"namespace": "user/bob"})
        assert [item["namespace"] for item in begun.json()["data"]] == ["user/bob"]
        bad = await served.http.post("/v1/memories/reembed", json={"namespace": "bob/"})
        assert (bad.status_code, bad.json()["error"]["param"]) == (400, "namespace")


async def test_without_an_embedder_it_is_refused(tmp_path: Path) -> None:
    await _before(tmp_path, "ada")
    async with serving(tmp_path) as served:
        refused = await served.http.post("/v1/memories/reembed", json={})
        assert refused.json()["error"]["param"] == "embedder.kind"


async def test_without_an_embedder_there_is_nothing_to_make_them_with(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        refused = await served.http.post("/v1/memories/reembed", json={"namespace": "5"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "embedder.kind")
