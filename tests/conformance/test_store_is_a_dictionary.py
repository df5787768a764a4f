"""The store on disk against a dictionary a `seq`: random writes, erasures, restarts and a second reader, every state at every step."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memory_store.embedders.hash import HashEmbedder
from memory_store.store import LanceMemoryStore
from recollect.errors import Conflict, NotFound
from recollect.memory import MemoryWrite, Namespace
from recollect.stores import MemoryStore
from tests.conftest import scaled
from tests.dictionary import IDS, WRITES, after

NS = Namespace.parse("user/1")
T = TypeVar("T")


class Store(RuleBasedStateMachine):
    """`past[seq]` is what was current at that `seq`."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="recollect-store-"))
        self.past: list[dict[str, str]] = [{}]

    @initialize(view_rows=st.sampled_from([0, 3, 1000]))
    def opens(self, view_rows: int) -> None:
        self.view_rows = view_rows
        self.store, self.other = self.opened(), self.opened()

    def opened(self) -> LanceMemoryStore:
        return LanceMemoryStore(self.root, HashEmbedder(8), view_rows=self.view_rows)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(batch=st.lists(WRITES, min_size=1, max_size=3), by_other=st.booleans())
    def writes(self, batch: list[MemoryWrite], by_other: bool) -> None:
        try:
            applied = self.run((self.other if by_other else self.store).apply(NS, batch))
        except (Conflict, NotFound):
            assert after(self.past[-1], batch) is None
            return
        state = after(self.past[-1], batch)
        assert state is not None
        if applied.seq == len(self.past):
            self.past.append(state)
        assert (applied.seq, state) == (len(self.past) - 1, self.past[-1])

    @rule(memory_id=st.sampled_from(IDS))
    def erases(self, memory_id: str) -> None:
        erased = self.run(self.store.erase(NS, lambda record: record.id == memory_id))
        assert {record.id for record in erased} <= {memory_id}
        assert bool(erased) == any(memory_id in state for state in self.past)
        if erased:
            self.past = [{name: text for name, text in state.items() if name != memory_id} for state in [*self.past, self.past[-1]]]

    @rule()
    def restarts(self) -> None:
        self.run(self.store.close())
        self.store = self.opened()

    @rule(seq=st.integers(0, 30), by_other=st.booleans())
    def forks(self, seq: int, by_other: bool) -> None:
        fork = self.run((self.other if by_other else self.store).fork(NS, as_of=seq))
        state = self.past[min(seq, len(self.past) - 1)]
        self.reads(fork, None, state)

    @invariant()
    def every_state_reads_as_it_was(self) -> None:
        for store in (self.store, self.other):
            assert self.run(store.seq(NS)) == len(self.past) - 1
            for seq in {0, len(self.past) // 2, len(self.past) - 1}:
                self.reads(store, seq, self.past[seq])

    def reads(self, store: MemoryStore, seq: int | None, state: dict[str, str]) -> None:
        assert {r.id: r.text for r in self.run(store.list(NS, as_of=seq))} == state
        found = self.run(store.search(NS, "red", mode="text", as_of=seq))
        assert {hit.record.id for hit in found} == {name for name, text in state.items() if "red" in text}
        assert {name: r.text for name in IDS if (r := self.run(store.get(NS, name, as_of=seq)))} == state

    def teardown(self) -> None:
        for store in (self.store, self.other):
            self.run(store.close())
        self.loop.close()
        shutil.rmtree(self.root)


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=scaled(8), stateful_step_count=20, deadline=None)
