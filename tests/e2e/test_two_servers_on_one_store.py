"""Two servers with homes of their own and one store, on a shared folder and in an object storage: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from clients.client import RecollectClient
from memory_store.location import Location
from recollect.errors import Conflict
from tests.api.process import ServerProcess, started
from tests.conformance.object_storage import bucket, object_storage
from tests.conftest import scaled

__all__ = ["bucket", "object_storage"]
WHOSE = "user/ada"


def _overrides(place: Location) -> Sequence[str]:
    options = (f"memory.storage_options.{name}={value}" for name, value in place.options)
    return ("engine.kind=none", "embedder.kind=hash", f"memory.uri={place.uri}", *options)


@pytest.mark.parametrize("where", ["shared folder", "object storage"])
async def test_two_servers_lose_and_double_nothing(tmp_path: Path, bucket: Location, where: str) -> None:
    place = bucket if where == "object storage" else Location.of(tmp_path / "shared")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with started(tmp_path / "a" / "home", *_overrides(place)) as a, started(tmp_path / "b" / "home", *_overrides(place)) as b:
        both = [*await asyncio.gather(*(_write(server, number) for number, server in enumerate((a, b)) for _ in range(4)))]
        acknowledged = {memory_id for lane in both for memory_id in lane}
        for server in (a, b):
            async with RecollectClient(server.url) as client:
                found = [record.id async for record in client.export_memories(namespace=WHOSE)]
                assert len(found) == len(set(found))
                assert set(found) == acknowledged
                assert (await client.memory_stats(namespace=WHOSE)).memories == len(acknowledged)
                assert [hit.record.id for hit in await client.search_memories("only one zebra 0", namespace=WHOSE, limit=1)] == ["common-0"]


async def _write(server: ServerProcess, number: int) -> list[str]:
    """Memories of this lane alone, and some that every lane adds, with the same text or, refused for all but one, with another."""
    done: list[str] = []
    async with RecollectClient(server.url) as client:
        for i in range(scaled(6)):
            record = await client.add_memory(f"memory {i} of server {number}", namespace=WHOSE)
            done.append(record.id)
            done.append((await client.add_memory(f"only one zebra {i}", namespace=WHOSE, memory_id=f"common-{i}")).id)
            try:
                done.append((await client.add_memory(f"{i} as {number} tells it", namespace=WHOSE, memory_id=f"disputed-{i}")).id)
            except Conflict:
                continue
    return done
