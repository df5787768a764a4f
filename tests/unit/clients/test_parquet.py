"""Memories as Parquet files: the columns, and the way out and in again by the commands."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clients import parquet
from clients.client import RecollectClient
from clients.import_formats import read_memories
from clients.running import recorded_server
from recollect.errors import InvalidRequest, RecollectError
from recollect.memory import MemoryRecord, Provenance, content_hash
from tests.unit.clients.test_commands import run

MEMORIES: list[dict[str, Any]] = [
    {"id": "a", "text": "Ada likes tea\u2028\n", "kind": "semantic", "metadata": {"topic": "tea", "n": 3, "x": 0.5, "sure": True}},
    {"id": "b", "text": "Hello", "kind": "episodic", "session": "monday", "trust": "tool", "tags": ["x", "ö"], "importance": 0.25},
    {"id": "c", "text": "It rains", "valid_at": "2026-01-01T10:00:00.123456Z", "invalid_at": "2026-02-01T00:00:00Z"},
]
KEPT = {"id", "text", "kind", "metadata", "tags", "importance", "trust", "valid_at", "invalid_at"}


def record(number: int) -> MemoryRecord:
    return MemoryRecord(
        id=f"m{number}",
        namespace="user/ada",
        kind="episodic",
        text=f"memory {number}",
        metadata={"n": number},
        seq_from=number + 1,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        provenance=Provenance(session="s", trajectory_id="t", step=2),
        content_hash=content_hash(f"memory {number}"),
        tags=("a",),
    )


async def test_a_file_has_one_column_a_field_and_as_many_rows_as_memories(tmp_path: Path) -> None:
    async def records() -> AsyncGenerator[MemoryRecord]:
        for number in range(parquet.ROWS + 5):
            yield record(number)

    steps: list[int] = []
    with (tmp_path / "m.parquet").open("wb") as file:
        assert await parquet.write(file, records(), steps.append) == parquet.ROWS + 5
    assert steps == [parquet.ROWS, parquet.ROWS + 5]
    table = pq.read_table(tmp_path / "m.parquet")
    assert table.num_rows == parquet.ROWS + 5
    assert table.schema.metadata[b"recollect.memories"] == b"1"
    assert table.schema.field("created_at").type == pa.timestamp("us", tz="UTC")
    assert table.slice(1, 1).to_pylist() == [
        {
            **{"id": "m1", "namespace": "user/ada", "kind": "episodic", "text": "memory 1", "trust": "unknown", "metadata": '{"n": 1}'},
            **{"tags": ["a"], "importance": None, "valid_at": None, "invalid_at": None, "created_at": datetime(2026, 1, 1, tzinfo=UTC)},
            **{"step": 2, "seq_from": 2, "session": "s", "trajectory_id": "t", "channel": "api"},
            "content_hash": content_hash("memory 1"),
        }
    ]


def test_what_is_exported_and_imported_elsewhere_is_the_same(
    server_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("--home", str(server_home), "memory")
    source, target = ("--namespace", "user/parquet-a"), ("--namespace", "user/parquet-b")
    server = recorded_server(server_home)
    assert server is not None
    sent = httpx.post(f"{server.url}/v1/memories/batch", json={"memories": MEMORIES, "namespace": source[1]}, trust_env=False)
    assert sent.status_code == 201, sent.text
    files = [tmp_path / "out.parquet", tmp_path / "out.jsonl"]
    for file in files:
        code, _, err = run(capsys, monkeypatch, *command, "export", str(file), *source)
        assert (code, err) == (0, f"3 memories written to {file}\n")
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert read_memories(files[0]) == read_memories(files[1])
    for _ in range(2):
        assert run(capsys, monkeypatch, *command, "import", str(files[0]), *target)[:2] == (0, "3 memories are there\n")
    listed = [json.loads(run(capsys, monkeypatch, *command, "list", *whose, "--json")[1]) for whose in (source, target)]
    kept = [[{**{name: memory[name] for name in KEPT}, "session": memory["provenance"]["session"]} for memory in its] for its in listed]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 3
    assert {memory["importance"] for memory in kept[1]} == {None, 0.25}


@pytest.mark.parametrize("name", ["old.parquet", "old.jsonl"])
def test_an_export_that_fails_leaves_the_older_file_and_nothing_else(
    name: str, server_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: RecollectClient, **_: Any) -> AsyncGenerator[MemoryRecord]:
        yield record(1)
        raise RecollectError("the export broke off", code="broken_off")

    monkeypatch.setattr(RecollectClient, "export_memories", broken)
    (tmp_path / name).write_text("older")
    command = ("--home", str(server_home), "memory", "export")
    assert run(capsys, monkeypatch, *command, str(tmp_path / name))[0] == 1
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "older")]
    code, _, err = run(capsys, monkeypatch, *command, str(tmp_path / "no" / name))
    assert (code, "cannot be written: No such file or directory" in err) == (1, True)


def test_files_that_are_no_export_are_refused_and_other_tables_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_memories(file)
    file.write_text("no parquet")
    with pytest.raises(InvalidRequest, match="no Parquet file"):
        read_memories(file)
    pq.write_table(pa.table({"text": ["a", "b"], "metadata": ["{", "{}"]}), file)
    with pytest.raises(InvalidRequest, match=r"\[0\]: metadata is not JSON"):
        read_memories(file)
    pq.write_table(pa.table({"memory": ["Ada likes tea"], "user_id": ["ada"]}), file)
    [memory] = read_memories(file)
    assert (memory.text, memory.metadata) == ("Ada likes tea", {"user_id": "ada"})
    pq.write_table(pa.table({"colour": ["red"]}), file)
    with pytest.raises(InvalidRequest, match="none of the fields"):
        read_memories(file)
