"""How many tables of a store commit at once: a commit takes a core from those who wait for a search."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from memory_store import disk
from memory_store.store import LanceMemoryStore
from recollect.memory import MemoryWrite, Namespace

SPACES = [Namespace(parts=(("user", f"user-{number}"),)) for number in range(6)]


class Overlap:
    """How many calls of a function were in progress at once, at most."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._now = 0
        self.calls = 0
        self.most = 0

    def __call__(self, *arguments: Any) -> Any:
        with self._lock:
            self._now += 1
            self.calls += 1
            self.most = max(self.most, self._now)
        try:
            return self._function(*arguments)
        finally:
            with self._lock:
                self._now -= 1


async def test_tables_wait_for_each_other_to_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LanceMemoryStore(tmp_path, None, commits_at_once=1)
    for space in SPACES:
        await store.apply(space, [MemoryWrite(op="add", id="first", text="Rex is a dog.")])
    commits = Overlap(disk.commit)
    monkeypatch.setattr(disk, "commit", commits)

    await asyncio.gather(*(store.apply(space, [MemoryWrite(op="add", id="second", text="Ada has a cat.")]) for space in SPACES))

    assert (commits.calls, commits.most) == (len(SPACES), 1)
    for space in SPACES:
        assert {record.id for record in await store.list(space)} == {"first", "second"}
    await store.close()


async def test_a_commit_that_fails_lets_the_others_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LanceMemoryStore(tmp_path, None, commits_at_once=1)
    for space in SPACES[:2]:
        await store.apply(space, [MemoryWrite(op="add", id="first", text="Rex is a dog.")])

    def failing(*_: object) -> None:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "commit", failing)
        with pytest.raises(RuntimeError, match="a defect"):
            await store.apply(SPACES[0], [MemoryWrite(op="add", id="second", text="Ada has a cat.")])

    await store.apply(SPACES[1], [MemoryWrite(op="add", id="second", text="Ada has a cat.")])
    assert await store.get(SPACES[1], "second") is not None
    await store.close()
