"""The Python client against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from clients.client import RecollectClient, error_of
from clients.running import recorded_server, running_server
from recollect.errors import Conflict, EngineUnavailable, InvalidRequest, NotFound, RecollectError, StorageFull
from recollect.memory import content_hash
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
    for odd in (answer(500, text="<html>"), answer(500, json=["x"]), answer(500, json={"error": "x"})):
        assert error_of(odd).message.startswith("the server answered 500")
