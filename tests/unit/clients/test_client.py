"""The Python client against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from clients.client import RecollectClient
from clients.connection import error_of
from clients.import_formats import Imported
from clients.remote_memory import RemoteMemory
from clients.running import recorded_server, running_server
from recollect.errors import Conflict, EmbedderError, EngineUnavailable, InvalidRequest, NotFound, RecollectError, StorageFull
from recollect.memory import Filters, Namespace, Ranking, content_hash
from recollect.trajectory import Feedback

ANN = "user/ann"


@pytest.fixture
async def client(server_home: Path) -> AsyncIterator[RecollectClient]:
    """A client of the server."""
    server = recorded_server(server_home)
    assert server is not None
    async with RecollectClient(server.url) as client:
        yield client


async def test_a_memory_is_added_found_read_and_deleted(client: RecollectClient) -> None:
    added = await client.add_memory("Ann keeps bees in Évora", namespace=ANN, memory_id="bees", metadata={"year": 2026})
    assert (added.id, added.namespace, added.metadata) == ("bees", ANN, {"year": 2026})
    assert added.content_hash == content_hash("Ann keeps bees in Évora")
    assert await client.add_memory("Ann keeps bees in Évora", namespace=ANN, memory_id="bees", metadata={"year": 2026}) == added
    await client.add_memory("Ann sails", namespace=ANN, memory_id="sails", kind="episodic")
    [hit] = await client.search_memories("who keeps bees", namespace=ANN, limit=1)
    assert hit.record == added
    assert hit.score > 0
    assert [record.id for record in await client.list_memories(namespace=ANN)] == ["sails", "bees"]
    assert [record.id for record in await client.list_memories(namespace=ANN, kind="episodic")] == ["sails"]
    assert await client.get_memory("bees", namespace=ANN) == added
    await client.delete_memory("bees", namespace=ANN)
    with pytest.raises(NotFound, match="bees"):
        await client.get_memory("bees", namespace=ANN)


async def test_errors_of_the_server_are_the_types_of_the_vocabulary(client: RecollectClient) -> None:
    await client.add_memory("one text", namespace="user/errors", memory_id="m")
    with pytest.raises(Conflict):
        await client.add_memory("another text", namespace="user/errors", memory_id="m")
    with pytest.raises(InvalidRequest) as refused:
        await client.add_memory(" ", namespace="user/errors")
    assert refused.value.param == "text"
    with pytest.raises(InvalidRequest):
        await client.add_memory("x", namespace="NO/x")
    with pytest.raises(NotFound):
        await client.send_feedback(Feedback(id="0" * 32, label="up"))
    with pytest.raises(NotFound):
        await client.promote("memory", 7)


async def test_what_is_known_of_a_memory_is_sent_changed_and_taken_away(client: RecollectClient) -> None:
    whose, when = "user/fields", datetime(2026, 1, 31, 12, tzinfo=UTC)
    added = await client.add_memory(
        "Ann sails", namespace=whose, memory_id="m", tags=["sea"], importance=0.5, trust="tool", valid_at=when, session="s", kind="episodic"
    )
    assert (added.tags, added.importance, added.trust, added.valid_at) == (("sea",), 0.5, "tool", when)
    assert added.provenance.session == "s"
    changed = await client.update_memory("m", namespace=whose, tags=[], clear=["valid_at"], if_seq=1)
    assert (changed.text, changed.tags, changed.importance, changed.valid_at) == ("Ann sails", (), 0.5, None)
    assert (await client.update_memory("m", "Ann rows", namespace=whose)).text == "Ann rows"
    assert (await client.undo("m", namespace=whose)).text == "Ann sails"
    assert (await client.get_memory("m", namespace=whose, as_of=3)).text == "Ann rows"
    assert await client.list_memories(namespace=whose, as_of=1) == [added.model_copy(update={"seq_to": 2})]


async def test_a_search_takes_filters_neighbours_and_a_budget(client: RecollectClient) -> None:
    whose = "user/searching"
    turns = [Imported(id=f"t{i}", text=f"turn {i} of the sea", kind="episodic", session="s", tags=(f"tag{i % 2}",)) for i in range(5)]
    await client.add_memories(turns, namespace=whose)
    [first, second] = await client.search_memories("sea", namespace=whose, filters=Filters(tags=("tag1",)), neighbours=1)
    assert (first.record.id, second.record.id) == ("t3", "t1")
    assert first.context is not None
    assert [record.id for record in first.context.before] == ["t2"]
    assert [record.id for record in first.context.after] == ["t4"]
    assert [record.id for record in await client.neighbours("t0", namespace=whose, reach=1)] == ["t0", "t1"]
    assert len(await client.search_memories("sea", namespace=whose, max_tokens=10)) == 2
    [hit] = await client.search_memories("sea", namespace=whose, ranking=Ranking(importance=1), limit=1)
    assert hit.parts["importance"] == 0
    with pytest.raises(InvalidRequest) as refused:
        await client.search_memories("sea", namespace=whose, neighbours=21)
    assert refused.value.param == "neighbours"


async def test_an_id_is_one_part_of_the_path(client: RecollectClient) -> None:
    await client.add_memory("one", namespace="user/paths", memory_id="stats")
    assert (await client.get_memory("stats", namespace="user/paths")).text == "one"
    for odd in ("stats/history", "../memories", "a?b", "a b"):
        with pytest.raises(InvalidRequest, match="no memory id"):
            await client.get_memory(odd, namespace="user/paths")


async def test_a_remote_store_is_of_one_tenant_and_takes_no_other_error_for_nothing(server_home: Path) -> None:
    server = recorded_server(server_home)
    assert server is not None
    remote = RemoteMemory(RecollectClient(server.url))
    with pytest.raises(InvalidRequest) as refused:
        await remote.list(Namespace(tenant="acme"))
    assert refused.value.param == "tenant"
    await remote.close()
    elsewhere = RemoteMemory(RecollectClient(f"{server.url}/elsewhere"))
    for call in (elsewhere.get(Namespace(), "a"), elsewhere.history(Namespace(), "a"), elsewhere.neighbours(Namespace(), "a")):
        with pytest.raises(NotFound):
            await call
    await elsewhere.close()
    nowhere = RemoteMemory(RecollectClient("http://127.0.0.1:9"))
    for call in (
        nowhere.get(Namespace(), "a"),
        nowhere.search(Namespace(), "a"),
        nowhere.seq(Namespace()),
        anext(nowhere.export(Namespace())),
    ):
        with pytest.raises(RecollectError, match="recollect serve"):
            await call
    await nowhere.close()


async def test_adapters_and_status_are_told(client: RecollectClient) -> None:
    assert [state.versions for state in await client.adapters()] in ([], [[]])
    status = await client.status()
    assert status["ready"] is True
    assert status["memory"]["ready"] is True


async def test_no_server_is_an_error_that_says_what_to_do() -> None:
    async with RecollectClient("http://127.0.0.1:9") as client:
        with pytest.raises(RecollectError, match="recollect serve") as failed:
            await client.status()
    assert failed.value.code == "unreachable"


async def test_a_dead_process_is_no_running_server(tmp_path: Path) -> None:
    assert await running_server(tmp_path) is None
    (tmp_path / "server.json").write_text('{"pid": 4194304, "url": "http://127.0.0.1:9", "engine_url": null}')
    assert recorded_server(tmp_path) is None
    (tmp_path / "server.json").write_text('{"pid": 1, "url": "http://127.0.0.1:9", "engine_url": null}')
    assert recorded_server(tmp_path) is not None
    assert await running_server(tmp_path) is None
    (tmp_path / "server.json").write_text("{")
    assert recorded_server(tmp_path) is None


def answer(status: int, **content: object) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://127.0.0.1/v1/memories"), **content)  # type: ignore[arg-type]


def test_every_status_has_its_type_and_odd_bodies_have_a_message() -> None:
    body = {"error": {"message": "full", "type": "server_error", "param": "home", "code": "storage_full"}}
    error = error_of(answer(507, json=body))
    assert (type(error), error.message, error.param, error.code) == (StorageFull, "full", "home", "storage_full")
    waiting = error_of(answer(503, json=body, headers={"retry-after": "7"}))
    assert isinstance(waiting, EngineUnavailable)
    assert waiting.retry_after_s == 7
    embedder = {"error": {"message": "no vector", "type": "server_error", "param": None, "code": "embedder_error"}}
    assert type(error_of(answer(502, json=embedder))) is EmbedderError
    for odd in (answer(500, text="<html>"), answer(500, json=["x"]), answer(500, json={"error": "x"})):
        assert error_of(odd).message.startswith("the server answered 500")
