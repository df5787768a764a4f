"""Workers through races: nothing that was said is lost, nothing is done twice, and what was forgotten does not come back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from recollect.errors import EngineUnavailable, RecollectError, StorageFull, TooManyRequests
from recollect.memory import Namespace
from server.delegation.plan import Limits
from server.service.ids import new_id
from server.service.worker_files import Worker
from server.service.workers import Change, Workers

HERE = Namespace()


class Bench:
    """Workers whose work is to wait for `go` and to answer with all that they were told."""

    def __init__(self, root: Path, running: int = 4) -> None:
        self.go = asyncio.Event()
        self.root = root / "workers"
        self.workers = Workers(self.root, Limits(running=running), self._work)
        self.begun = 0
        self.working = asyncio.Event()

    async def _work(self, worker: Worker, change: Change) -> None:
        self.begun += 1
        self.working.set()
        await self.go.wait()
        await change({"answer": " ".join(message.content for message in worker.messages if message.role == "user")})

    async def made(self, task: str | None = None, **more: str) -> str:
        worker = Worker(id=f"worker_{new_id()}", tenant="local", namespace=str(HERE), **more)  # pyright: ignore[reportArgumentType]
        return (await self.workers.spawn(worker, task)).id

    async def ended(self, worker_id: str) -> Worker:
        return await self.workers.wait(HERE, worker_id, 10)

    def file(self, worker_id: str) -> Path:
        return self.root / "local" / f"{worker_id}.json"


async def test_two_who_speak_at_once_are_both_heard(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    worker_id = await bench.made()
    await asyncio.gather(*(bench.workers.send(HERE, worker_id, text, None) for text in ("A", "B", "C")))
    bench.go.set()
    done = await bench.ended(worker_id)
    assert (done.state, sorted(done.answer.split())) == ("done", ["A", "B", "C"])


async def test_what_comes_as_a_worker_ends_is_done(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.go.set()
    worker_id = await bench.made("0")
    for number in range(1, 30):
        await bench.workers.send(HERE, worker_id, str(number), None)
        await asyncio.sleep(0.001 * (number % 4))
    done = await bench.ended(worker_id)
    assert (done.state, done.answer.split()) == ("done", [str(number) for number in range(30)])
    assert done.inbox == []


async def test_no_more_work_at_once_than_may(tmp_path: Path) -> None:
    bench = Bench(tmp_path, running=2)
    found = await asyncio.gather(*(bench.made("go") for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(one, TooManyRequests) for one in found) == 4
    bench.go.set()
    for one in found:
        if isinstance(one, str):
            await bench.ended(one)
    assert bench.begun == 2


async def test_one_that_is_closed_as_it_begins_stays_closed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for delay in (None, 0.0, 0.002):
        worker_id = await bench.made()
        sending = asyncio.create_task(bench.workers.send(HERE, worker_id, "A", None))
        if delay is not None:
            await asyncio.sleep(delay)
        await bench.workers.close_one(HERE, worker_id)
        await asyncio.gather(sending, return_exceptions=True)
        if sending.exception() is None:  # it came first
            assert (await bench.workers.close_one(HERE, worker_id)).state == "closed"
        assert (await bench.workers.get(HERE, worker_id)).state == "closed"


@pytest.mark.parametrize("how", ["forget", "interrupt"])
async def test_a_write_in_flight_does_not_bring_back_what_was_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    bench = Bench(tmp_path)
    bench.go.set()
    save = bench.workers._files.save  # pyright: ignore[reportPrivateUsage]

    writing: list[str] = []

    def slow(worker: Worker) -> None:
        writing.append(worker.state)
        time.sleep(0.1)
        save(worker)
        writing.pop()

    worker_id = await bench.made("the canary 7731")
    monkeypatch.setattr(bench.workers._files, "save", slow)  # pyright: ignore[reportPrivateUsage]
    if how == "forget":
        await bench.workers.forget("local", "*", set(), set())
    else:
        await bench.workers.interrupt("local", HERE)
        await bench.workers.forget("local", None, set(), {"the canary 7731"})
    assert (writing, bench.file(worker_id).exists()) == ([], False)


@pytest.mark.parametrize("where", ["description", "inbox", "messages"])
async def test_forgetting_looks_at_all_that_a_worker_holds(tmp_path: Path, where: str) -> None:
    bench = Bench(tmp_path)
    text = "the canary 7731 sings"
    worker_id = await bench.made(None if where == "description" else text, description=text if where == "description" else "")
    kept = await bench.made("something else")
    (bench.root / "local" / ".left.json.tmp").write_text(text)
    await bench.workers.forget("local", None, set(), {text})
    assert [worker.id for worker in await bench.workers.list(HERE)] == [kept]
    assert not bench.file(worker_id).exists()
    assert text not in "".join(file.read_text() for file in bench.root.rglob("*") if file.is_file())


async def test_a_file_that_cannot_be_read_is_no_empty_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    worker_id = await bench.made("A")
    await bench.workers.close()
    bench.file(worker_id).write_text("{")
    with pytest.raises(RecollectError, match="cannot be read"):
        await bench.workers.forget("local", None, set(), {"anything at all"})
    await bench.workers.forget("local", "*", set(), set())
    assert not bench.file(worker_id).exists()


async def test_the_servers_end_interrupts_and_a_new_one_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    worker_id = await bench.made("A")
    await bench.working.wait()
    await bench.workers.close()
    with pytest.raises(EngineUnavailable):
        await bench.workers.send(HERE, worker_id, "B", None)
    later = Bench(tmp_path)
    assert (await later.workers.get(HERE, worker_id)).state == "interrupted"
    later.go.set()
    await later.workers.send(HERE, worker_id, "", None)
    done = await later.ended(worker_id)
    assert (done.state, done.answer) == ("done", "A")


async def test_a_full_disk_leaves_no_worker_that_seems_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    worker_id = await bench.made("A")

    def full(_: Worker) -> None:
        raise StorageFull("no space")

    with monkeypatch.context() as patched:
        patched.setattr(bench.workers._files, "save", full)  # pyright: ignore[reportPrivateUsage]
        bench.go.set()
        await bench.ended(worker_id)
        assert (await bench.workers.get(HERE, worker_id)).state == "interrupted"
    await bench.workers.send(HERE, worker_id, "", None)
    assert (await bench.ended(worker_id)).state == "done"


async def test_what_is_sent_counts_for_who_sent_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.go.set()
    worker_id = await bench.made("A", key_id="key_a")
    assert (await bench.ended(worker_id)).key_id == "key_a"
    await bench.workers.send(HERE, worker_id, "B", "key_b")
    assert (await bench.ended(worker_id)).key_id == "key_b"
