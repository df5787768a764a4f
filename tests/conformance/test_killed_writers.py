"""Two processes that write to one namespace and are killed amid their writes, on a disk and in an object storage (promise 2)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from memory_store.disk import opened
from memory_store.embedders.hash import HashEmbedder
from memory_store.location import Location
from memory_store.naming import table_name
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace
from tests.conftest import scaled

NS = Namespace.parse("user/42")
WRITER = Path(__file__).parent / "write_until_killed.py"
STAGES = ("add", "update", "delete")


async def test_two_writers_that_are_killed_lose_double_and_halve_nothing(tmp_path: Path) -> None:
    await _check(Location.of(tmp_path), scaled(5))


async def test_the_same_in_an_object_storage(bucket: Location) -> None:
    await _check(bucket, scaled(2))


async def _written_until_killed(place: Location, writer: str, acknowledgements: int) -> list[tuple[str, str]]:
    """What a writing process acknowledged, as (operation, pair), before it was killed amid its writes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(WRITER), place.uri, writer, json.dumps(dict(place.options))),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    lines = [await asyncio.wait_for(process.stdout.readline(), 60) for _ in range(acknowledgements)]
    process.send_signal(signal.SIGKILL)
    rest = (await process.stdout.read()).split(b"\n")
    await process.wait()
    whole = [line.decode().split() for line in [*lines, *rest[:-1]] if line.strip()]
    return [(operation, pair) for operation, pair in whole]


@pytest.mark.parametrize("where", ["disk", "object storage"])
async def test_of_two_that_begin_a_namespace_at_once_neither_loses_its_first_memory(tmp_path: Path, bucket: Location, where: str) -> None:
    place = Location.of(tmp_path) if where == "disk" else bucket
    stores = [LanceMemoryStore(place.uri, HashEmbedder(8), storage_options=dict(place.options)) for _ in range(2)]
    for number in range(scaled(12)):
        whose = Namespace.parse(f"user/{number}")
        writes = ([MemoryWrite(op="add", id=f"m{i}", text=f"the first of {i}")] for i in range(2))
        applied = await asyncio.gather(*(store.apply(whose, batch) for store, batch in zip(stores, writes, strict=True)))
        assert sorted(one.seq for one in applied) == [1, 2]
        for store in stores:
            assert {record.id for record in await store.list(whose)} == {"m0", "m1"}
    for store in stores:
        await store.close()


async def _check(place: Location, rounds: int) -> None:
    """Two writers, killed again and again, lose nothing that was acknowledged, double nothing, store no batch in part."""
    reached: dict[str, int] = {}
    for round_ in range(rounds):
        writers = (_written_until_killed(place, f"r{round_}{process}", 12) for process in "ab")
        for acknowledged in await asyncio.gather(*writers):
            for operation, pair in acknowledged:
                reached[pair] = max(reached.get(pair, 0), STAGES.index(operation))
    store = LanceMemoryStore(place.uri, HashEmbedder(8), storage_options=dict(place.options))
    current = [record.id async for record in store.export(NS)]
    assert len(current) == len(set(current)), "a memory is there twice"
    everything = opened(place / NS.tenant / f"{table_name(NS)}.lance").to_table(columns=["id", "text", "seq_from", "seq_to"]).to_pylist()
    halves: dict[tuple[str, int, str], set[str]] = {}
    for row in everything:
        pair, _, half = row["id"].rpartition("-")
        halves.setdefault((pair, row["seq_from"], row["text"]), set()).add(half)
    assert all(found == {"left", "right"} for found in halves.values()), "a batch was stored in part"
    assert len(halves) == len({(pair, text) for pair, _, text in halves}), "an operation was done twice"
    for pair, stage in reached.items():
        done = {text.removeprefix(f"{pair} ") or "delete" for name, _, text in halves if name == pair}
        assert any(STAGES.index(operation) >= stage for operation in done), f"{STAGES[stage]} of {pair} was acknowledged and is lost"
        assert (f"{pair}-left" in current) == ("delete" not in done)
    assert await store.seq(NS) == len(halves)
    await store.close()
