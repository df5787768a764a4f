"""One namespace on disk: reads that see every process's commits, and the snapshot that both reads and commits stand on."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from memory_store.context import around
from memory_store.faults import CommitConflict, transient, translated
from memory_store.location import Location, generation_of
from memory_store.query import Query
from memory_store.rows import Space
from memory_store.view import View
from recollect.errors import RecollectError
from recollect.memory import Kind, MemoryRecord, SearchHit

if TYPE_CHECKING:
    from memory_store import disk

INLINE_ROWS = 4000
"""A search of a view this large takes about 1 ms; a longer one leaves the event loop."""

ATTEMPTS = 7
A = TypeVar("A")
T = TypeVar("T")


@dataclass(slots=True)
class Held:
    """How many rows the views of several tables hold together."""

    rows: int = 0


class NamespaceTable:
    """Reads of one table. Lance is imported with the first of them, in a thread, because that takes a second."""

    def __init__(
        self, location: Location, connect: Callable[[], Awaitable[Any]], namespace: str, space: Space, view_rows: int, held: Held
    ) -> None:
        """`connect` gives LanceDB's connection to the tenant's database. `held` is told of the rows that this table's views hold."""
        self.location = location
        self.namespace = namespace
        self.space = space
        self._connect = connect
        self.view_rows = view_rows
        self._held = held
        self._lock = asyncio.Lock()
        self._indexing = asyncio.Lock()
        self._handle: Any = None
        self._generation = b""
        self._checked: Space | None = None
        self._snapshot: disk.Snapshot | None = None
        self._whole: disk.Snapshot | None = None
        self._committing: asyncio.Event | None = None

    async def snapshot(self) -> disk.Snapshot | None:
        """The newest state, read again only if somebody committed; None while the table does not exist. Raises RecollectError."""
        return await self._steadily(self._newest)

    async def _newest(self) -> disk.Snapshot | None:
        async with self._lock:
            committing, space = self._committing, self.space
            state = await self._held_if_newest()
            if state is None and committing is not None:
                # Most likely the newest version is the one that this process is about to take over.
                await committing.wait()
                state = await self._held_if_newest()
            if state is not None:
                return state
            generation = await self._look(generation_of, self.location)
            if self._generation != generation:
                self.close()  # another process dropped the table, and may have begun one of the same name
                self._generation = generation
            if not await self._look(_disk().exists, self.location):
                return None
            # What is held may be given back while this waits, hence the local name.
            state = await asyncio.to_thread(self._read, self._snapshot, self.view_rows)
            if state.generation != generation:
                raise CommitConflict("the table was dropped while it was read")
            self._hold(state, self._whole)
            self._checked = space
            return state

    async def _held_if_newest(self) -> disk.Snapshot | None:
        state, checked = self._snapshot, self._checked == self.space
        return state if state and checked and await self._look(_disk().is_newest, state) else None

    async def _look(self, question: Callable[[A], T], of: A) -> T:
        """The answer to a question that on a disk takes 30 microseconds, a third of handing it to a thread, and elsewhere a round trip."""
        return question(of) if self.location.path is not None else await asyncio.to_thread(question, of)

    async def view(self) -> View:
        """The whole namespace in memory, however large: what forks stand on."""
        return await self._steadily(self._view)

    async def _view(self) -> View:
        state = await self._newest()
        if state is None:
            return View.of(())
        if state.view is not None:
            return state.view
        async with self._lock:
            whole = self._whole
            if whole is None or whole.version != state.version:
                whole = await asyncio.to_thread(self._read, whole, None)
                self._hold(self._snapshot, whole)
            assert whole.view is not None
            return whole.view

    async def get(self, memory_id: str, as_of: int | None) -> MemoryRecord | None:
        """The version that is current, or was at `as_of`."""

        async def read() -> MemoryRecord | None:
            state = await self._newest()
            if state is None:
                return None
            if state.view is not None:
                return state.view.get(memory_id, as_of)
            return await asyncio.to_thread(_disk().get, state, memory_id, _at(state, as_of))

        return await self._steadily(read)

    async def history(self, memory_id: str) -> builtins.list[MemoryRecord]:
        """Every version that was ever current, oldest first."""

        async def read() -> builtins.list[MemoryRecord]:
            state = await self._newest()
            if state is None:
                return []
            return state.view.history(memory_id) if state.view is not None else await asyncio.to_thread(_disk().history, state, memory_id)

        return await self._steadily(read)

    async def neighbours(self, memory_id: str, reach: int, as_of: int | None) -> builtins.list[MemoryRecord]:
        """An episodic memory with up to `reach` memories of its session before and after it, in their order."""

        async def read() -> builtins.list[MemoryRecord]:
            state = await self._newest()
            if state is None:
                return []
            if state.view is not None:
                return state.view.neighbours(memory_id, reach, as_of)
            record = await asyncio.to_thread(_disk().get, state, memory_id, _at(state, as_of))
            if record is None or record.kind != "episodic" or record.provenance.session is None:
                return [] if record is None else [record]
            session = await asyncio.to_thread(_disk().session, state, record, _at(state, as_of))
            return around([row.record for row in session], memory_id, reach)

        return await self._steadily(read)

    async def export(self) -> AsyncGenerator[MemoryRecord]:
        """All current records, oldest first, as of one moment."""
        state = await self.snapshot()
        if state is None:
            return
        if state.view is not None:
            for record in state.view.oldest():
                yield record
            return
        pages = await asyncio.to_thread(_disk().pages, state)
        while page := await asyncio.to_thread(next, pages, None):
            for record in page:
                yield record

    async def list(self, limit: int, offset: int, kind: Kind | None, as_of: int | None) -> builtins.list[MemoryRecord]:
        """Records, newest first."""

        async def read() -> builtins.list[MemoryRecord]:
            state = await self._newest()
            if state is None:
                return []
            if state.view is not None:
                return state.view.newest(limit, offset, kind, as_of)
            return await asyncio.to_thread(_disk().newest, state, limit, offset, kind, _at(state, as_of))

        return await self._steadily(read)

    async def search(self, query: Query) -> builtins.list[SearchHit]:
        """The best records, best first."""

        async def read() -> builtins.list[SearchHit]:
            state = await self._newest()
            if state is None:
                return []
            if state.view is None:
                from memory_store import native

                async with self._indexing:
                    await native.indexed(await self._opened(), self.location, query)
                return await native.search(await self._opened(), self.namespace, query, _at(state, query.as_of))
            if len(state.view) <= INLINE_ROWS:
                return state.view.search(query)
            return await asyncio.to_thread(state.view.search, query)

        return await self._steadily(read)

    async def _steadily(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives; tried again where another process dropped, erased or cleaned up what it was reading.

        Raises RecollectError for what stays wrong.
        """
        failure: Exception | None = None
        for attempt in range(ATTEMPTS):
            try:
                return await read()
            except RecollectError:
                raise
            except CommitConflict as exc:
                failure = exc
            except (OSError, ValueError, RuntimeError) as exc:
                if not transient(exc):
                    raise translated(exc, "the memory store") from exc
                failure = exc
            self.close()
            await asyncio.sleep(0.01 * 2**attempt)
        raise RecollectError(f"the memories of {self.namespace} could not be read: {failure}", code="storage_error") from failure

    async def commit(self, write: Callable[[], disk.Snapshot]) -> None:
        """Run a commit in a thread and take its state over. Raises CommitConflict, StorageFull."""
        self._committing = ended = asyncio.Event()
        try:
            self.advance(await asyncio.to_thread(write))
        finally:
            self._committing = None
            ended.set()

    def advance(self, snapshot: disk.Snapshot) -> None:
        """Take over a state that this process wrote itself, unless a newer one was read meanwhile."""
        self._generation = snapshot.generation
        if self._snapshot is None or snapshot.version > self._snapshot.version:
            too_large = snapshot.view is not None and len(snapshot.view) > self.view_rows
            self._hold(replace(snapshot, view=None) if too_large else snapshot, self._whole)

    def reset(self, space: Space) -> None:
        """From now on the table's vectors are of `space`."""
        self.space = space

    def forget_view(self) -> None:
        """Give the memory of the view back; the next read builds it again."""
        self._hold(None, None)

    def close(self) -> None:
        """The table is gone: the next read looks whether there is one of this name again."""
        self._hold(None, None)
        self._handle = None

    def detach(self) -> None:
        """The store lets go of it. Whoever still uses it may, and what it then holds is counted no more."""
        self.close()
        self._held = Held()

    def _hold(self, snapshot: disk.Snapshot | None, whole: disk.Snapshot | None) -> None:
        self._held.rows += _rows(snapshot, whole) - _rows(self._snapshot, self._whole)
        self._snapshot, self._whole = snapshot, whole

    async def _opened(self) -> Any:
        if self._handle is None:
            self._handle = await (await self._connect()).open_table(self.location.name)
        return self._handle

    def _read(self, older: disk.Snapshot | None, view_rows: int | None) -> disk.Snapshot:
        from memory_store import space

        return space.checked(_disk().read(self.location, older, view_rows), self.space)


def _rows(*states: disk.Snapshot | None) -> int:
    return sum(len(state.view) for state in states if state and state.view is not None)


def _disk() -> Any:
    from memory_store import disk

    return disk


def _at(state: disk.Snapshot, as_of: int | None) -> int:
    return state.seq if as_of is None else min(as_of, state.seq)
