"""The one writer of a table in this process: batches that wait are committed together, each all or nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from memory_store.faults import CommitConflict
from memory_store.plan import Planned, Vector, plan
from memory_store.rows import Row
from memory_store.table import NamespaceTable
from recollect.errors import Conflict, RecollectError
from recollect.memory import Applied, MemoryWrite

if TYPE_CHECKING:
    from memory_store import disk

ATTEMPTS = 50
MOST_AT_ONE_VERSION = 8
COMPACT_EVERY = 64
"""Commits."""
TIERS = (1024, 16 * 1024, 1024 * 1024)
"""Rows of a fragment that is left alone, by what compacts: a batch of commits, every sixteenth such batch, and an idle table that
still has too many. So a row is rewritten a few times, not at every compaction."""
IDLE_FRAGMENTS = 8
log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """Writes that wait for their commit."""

    writes: Sequence[MemoryWrite]
    vectors: Mapping[str, Vector]
    done: asyncio.Future[Applied]


@dataclass(slots=True)
class Stuck:
    """Tells a table that is damaged from one that others write to: there a conflict comes with a newer version."""

    version: int = -1
    times: int = 0

    def at(self, version: int, failure: Exception) -> None:
        """Note a conflict. Raises RecollectError when the same version fails again and again."""
        self.times = self.times + 1 if version == self.version else 0
        self.version = version
        if self.times == MOST_AT_ONE_VERSION:
            raise RecollectError(f"the memory store cannot be written: {failure}", code="storage_error") from failure


class Writer:
    """Queue, commit, acknowledge; keep fragments few."""

    def __init__(self, table: NamespaceTable, *, idle_s: float, keep: timedelta, gate: AbstractAsyncContextManager[object]) -> None:
        """`gate` is held for each commit; it may be shared with the writers of other tables."""
        self._table = table
        self._gate = gate
        self._idle_s = idle_s
        self._keep = keep
        self._waiting: list[Batch] = []
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since_compaction = 0
        self._compactions = 0
        self._cleaned = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a batch waits or is being committed."""
        return self._task is not None and not self._task.done()

    async def apply(self, writes: Sequence[MemoryWrite], vectors: Mapping[str, Vector]) -> Applied:
        """Commit the writes; returns after the commit."""
        done: asyncio.Future[Applied] = asyncio.get_running_loop().create_future()
        self._waiting.append(Batch(writes, vectors, done))
        if not self.busy:
            self._task = asyncio.create_task(self._work())
        return await done

    async def alone(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread while nothing is committed; what is written meanwhile waits."""
        while self._task is not None and not self._task.done():
            await asyncio.wait({self._task})
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._alone(work, done))
        return await asyncio.shield(done)

    async def _alone(self, work: Callable[[], T], done: asyncio.Future[T]) -> None:
        try:
            done.set_result(await asyncio.to_thread(work))
        except asyncio.CancelledError:
            done.cancel()
            raise
        except BaseException as exc:  # noqa: BLE001 - the failure is the caller's, not this task's; a panic of Lance is no Exception
            done.set_exception(exc)
        await self._work()

    async def close(self) -> None:
        """Commit what waits, then leave few fragments."""
        if self._task:
            await self._task
        if self._since_compaction:
            await self._settle()
        if self._timer:
            self._timer.cancel()
            self._timer = None
            await self._clean()

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do, upkeep included."""
        return not self.busy and self._timer is None

    async def _work(self) -> None:
        """Commit until nothing waits; then wake up again after a while, to compact, and once more when old versions may go."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            batches, self._waiting = self._waiting, []
            try:
                await self._commit(batches)
            except asyncio.CancelledError:
                _fail(batches, RecollectError(f"the writer of {self._table.namespace} was stopped"))
                raise
            except BaseException as exc:  # noqa: BLE001 - the failure is every waiting caller's; a panic of Lance is no Exception
                _fail(batches, exc)
            if self._since_compaction >= COMPACT_EVERY:
                self._compactions += 1
                await self._compact(TIERS[self._compactions % 16 == 0])
                if time.monotonic() - self._cleaned > self._keep.total_seconds() / 2:
                    await self._clean()
        if self._since_compaction:
            self._wake(self._idle_s, self._settle)

    def _wake(self, after_s: float, upkeep: Callable[[], Awaitable[None]]) -> None:
        self._timer = asyncio.get_running_loop().call_later(after_s, self._tidy, upkeep)

    def _tidy(self, upkeep: Callable[[], Awaitable[None]]) -> None:
        self._timer = None
        if not self.busy:
            self._task = asyncio.create_task(self._tidied(upkeep))

    async def _tidied(self, upkeep: Callable[[], Awaitable[None]]) -> None:
        await upkeep()
        if self._waiting or self._since_compaction:
            await self._work()
        elif upkeep == self._settle:
            self._wake(self._keep.total_seconds() + 1, self._clean)

    async def _commit(self, batches: Sequence[Batch]) -> None:
        from memory_store import disk

        stuck = Stuck()
        for attempt in range(ATTEMPTS):
            snapshot = await self._table.snapshot()
            current = await asyncio.to_thread(disk.current, snapshot, _ids(batches)) if snapshot else {}
            outcome = _outcome(self._table.namespace, batches, snapshot.seq if snapshot else 0, current)
            if outcome.rows:
                try:
                    async with self._gate:
                        await self._table.commit(partial(self._write, snapshot, outcome))
                except CommitConflict as exc:
                    stuck.at(snapshot.version if snapshot else 0, exc)
                    await asyncio.sleep(random.uniform(0, 0.005 * 2 ** min(attempt, 6)))
                    continue
                self._since_compaction += 1
            _acknowledge(batches, outcome)
            return
        raise Conflict(f"other processes write to {self._table.namespace} all the time; {ATTEMPTS} attempts to commit failed")

    def _write(self, snapshot: disk.Snapshot | None, outcome: Outcome) -> disk.Snapshot:
        from memory_store import disk

        if snapshot is None:
            return disk.create(self._table.location, self._table.namespace, self._table.space, outcome.rows, self._table.view_rows)
        return disk.commit(snapshot, outcome.rows, outcome.seq)

    async def _settle(self) -> None:
        """Leave few fragments, without rewriting a large table after every single write."""
        from memory_store import upkeep

        snapshot = await self._compact(TIERS[1])
        if snapshot is not None and upkeep.fragments(snapshot) > IDLE_FRAGMENTS:
            await self._compact(TIERS[2])

    async def _compact(self, rows_per_fragment: int) -> disk.Snapshot | None:
        """Join small fragments."""
        from memory_store import upkeep

        snapshot = await self._kept_up("compaction", lambda snapshot: upkeep.compact(snapshot, rows_per_fragment))
        if snapshot is not None:
            self._table.advance(snapshot)
            self._since_compaction = 0
        return snapshot

    async def _clean(self) -> None:
        """Remove the versions that no other reader needs any more."""
        from memory_store import upkeep

        self._cleaned = time.monotonic()
        await self._kept_up("clean-up", lambda snapshot: upkeep.clean(snapshot, self._keep))

    async def _kept_up(self, what: str, work: Callable[[disk.Snapshot], T]) -> T | None:
        """Do some upkeep. What fails here is tried again later; no write depends on it."""

        try:
            snapshot = await self._table.snapshot()
            return None if snapshot is None else await asyncio.to_thread(work, snapshot)
        except CommitConflict:
            log.info("%s of %s gave way to another process", what, self._table.namespace)
        except Exception as exc:  # noqa: BLE001 - the end of a background task; the writes themselves are safe
            log.warning("%s of %s failed: %s", what, self._table.namespace, exc)
        return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a commit of several batches writes, the `seq` after it, and each batch's own result."""

    rows: Sequence[Row]
    seq: int
    results: Sequence[tuple[int, Planned] | RecollectError]


def _outcome(namespace: str, batches: Sequence[Batch], seq: int, current: Mapping[str, Row]) -> Outcome:
    """Plan the batches one upon the other; one that is refused changes nothing for the others."""
    state = dict(current)
    merged: dict[int, Row] = {}
    results: list[tuple[int, Planned] | RecollectError] = []
    now = datetime.now(UTC)
    for batch in batches:
        try:
            planned = plan(namespace, batch.writes, batch.vectors, seq + 1, state, now)
        except RecollectError as exc:
            results.append(exc)
            continue
        seq += bool(planned.rows)
        merged |= {row.key: row for row in planned.rows}
        for write, row in zip(batch.writes, planned.results, strict=True):
            if row is None:
                state.pop(write.id, None)
            else:
                state[write.id] = row
        results.append((seq, planned))
    return Outcome(list(merged.values()), seq, results)


def _acknowledge(batches: Sequence[Batch], outcome: Outcome) -> None:
    for batch, result in zip(batches, outcome.results, strict=True):
        if batch.done.done():
            continue
        if isinstance(result, RecollectError):
            batch.done.set_exception(result)
        else:
            batch.done.set_result(Applied(seq=result[0], records=result[1].records))


def _fail(batches: Sequence[Batch], exc: BaseException) -> None:
    for batch in batches:
        if not batch.done.done():
            batch.done.set_exception(exc)


def _ids(batches: Sequence[Batch]) -> set[str]:
    return {write.id for batch in batches for write in batch.writes}
