"""Promise 1 at the store: whatever ids, namespaces and queries a tenant forges, it reads only what is its own."""

from __future__ import annotations

import random
from pathlib import Path

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import RecollectError
from recollect.memory import MemoryRecord, MemoryWrite, Namespace
from recollect.stores import MemoryStore
from tests.conftest import scaled

TENANTS = [f"tenant{number}" for number in range(10)]
FORGED = [
    *("../tenant1/user-x", "' OR 1=1 --", '"; drop table', "user/a:agent/b", "%2e%2e%2f", "tenant0", "*", "m1' OR id LIKE '%"),
    *("seq_to > 0", "\x00", "🦜", "user%2Fx", ".", "_versions"),
]
USERS = ["ada", "a:b", "../tenant0", "x' OR '1'='1", "tenant0"]


def canary(tenant: str) -> str:
    """A word that only this tenant's memories hold."""
    return f"canary{TENANTS.index(tenant)}song"


class Reader:
    """One tenant's random operations; every record that it is given is checked."""

    def __init__(self, store: MemoryStore, rng: random.Random, ids: list[str]) -> None:
        self._store = store
        self._rng = rng
        self._ids = ids
        self.reads = 0

    async def once(self, tenant: str) -> None:
        whose = Namespace(tenant=tenant, parts=(("user", self._rng.choice(USERS)),))
        other = self._rng.choice(TENANTS)
        memory_id = self._rng.choice([*self._ids, *FORGED]) if self._ids else "none"
        query = self._rng.choice([canary(other), canary(tenant), *FORGED])
        match self._rng.randrange(7):
            case 0 | 1:
                await self._add(whose, tenant)
            case 2:
                self._see(whose, await self._store.search(whose, query, limit=20))
            case 3:
                found = await self._store.get(whose, memory_id)
                self._see(whose, [found] if found else [])
            case 4:
                self._see(whose, await self._store.list(whose, limit=50, as_of=self._rng.choice([None, 1, 5])))
            case 5:
                self._see(whose, await self._store.history(whose, memory_id))
            case _:
                fork = await self._store.fork(whose)
                self._see(whose, await fork.search(whose, query))
                await self._refused(fork, Namespace(tenant=other, parts=whose.parts), own=other == tenant)

    async def _add(self, whose: Namespace, tenant: str) -> None:
        # Ids are chosen by callers, so tenants may well choose the same one.
        memory_id = self._rng.choice([f"m{self._rng.randrange(40)}", f"{tenant}-{self._rng.randrange(10**6)}"])
        text = f"{canary(tenant)} in {whose} {memory_id}"
        await self._store.apply(whose, [MemoryWrite(op="add", id=memory_id, text=text)])
        self._ids.append(memory_id)

    def _see(self, whose: Namespace, found: object) -> None:
        assert isinstance(found, list)
        for item in found:  # pyright: ignore[reportUnknownVariableType]
            record = item if isinstance(item, MemoryRecord) else item.record  # pyright: ignore
            assert canary(whose.tenant) in record.text
            assert record.namespace == str(whose)
            self.reads += 1

    async def _refused(self, fork: MemoryStore, namespace: Namespace, *, own: bool) -> None:
        try:
            found = await fork.list(namespace)
        except RecollectError:
            assert not own
        else:
            assert own
            self._see(namespace, found)


async def test_no_forged_id_namespace_or_query_reads_another_tenants_memory(tmp_path: Path) -> None:
    rng = random.Random(7)
    store = LanceMemoryStore(tmp_path, HashEmbedder(), view_rows=12)  # small: both ways of searching are met
    reader = Reader(store, rng, [])
    try:
        for _ in range(scaled(600)):
            await reader.once(rng.choice(TENANTS))
        assert reader.reads > scaled(300)
        for tenant in TENANTS:
            assert {namespace.tenant for namespace in await store.namespaces(tenant)} <= {tenant}
    finally:
        await store.close()
