"""A fork against a dictionary: whatever is written, every past state reads as it was."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from memory_store.embedders.hash import HashEmbedder
from memory_store.fork import ForkedMemory
from memory_store.view import View
from recollect.errors import Conflict, NotFound
from recollect.memory import MemoryWrite, Namespace
from tests.dictionary import WRITES, State, after

NS = Namespace.parse("user/1")


async def states(fork: ForkedMemory, seq: int) -> tuple[State, State, State]:
    """The state at `seq`, by list, by get and by an unlimited search."""
    listed = {r.id: r.text for r in await fork.list(NS, as_of=seq)}
    got = {memory_id: r.text for memory_id in "abcd" if (r := await fork.get(NS, memory_id, as_of=seq))}
    found = {h.record.id: h.record.text for h in await fork.search(NS, "red", mode="dense", as_of=seq)}
    return listed, got, found


async def check(batches: list[list[MemoryWrite]]) -> None:
    fork = ForkedMemory(NS, View.of(()), HashEmbedder(16))
    past: list[State] = [{}]
    for batch in batches:
        expected = after(past[-1], batch)
        try:
            applied = await fork.apply(NS, batch)
        except (Conflict, NotFound):
            assert expected is None
            continue
        assert expected is not None
        if applied.seq == len(past):
            past.append(expected)
        assert (applied.seq, expected) == (len(past) - 1, past[-1])
    for seq, state in enumerate(past):
        assert await states(fork, seq) == (state, state, state)
        again = await fork.fork(NS, as_of=seq)
        assert await states(again, seq) == (state, state, state)
        matching = {h.record.id for h in await again.search(NS, "red", mode="text")}
        assert matching == {memory_id for memory_id, text in state.items() if "red" in text}
    for memory_id in "abcd":
        versions = await fork.history(NS, memory_id)
        assert all(older.seq_to is not None and older.seq_to <= newer.seq_from for older, newer in pairwise(versions))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(WRITES, min_size=1, max_size=4), max_size=12))
def test_every_state_reads_as_a_dictionary_would(batches: list[list[MemoryWrite]]) -> None:
    asyncio.run(check(batches))
