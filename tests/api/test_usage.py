"""Who used how much: by tenant, key and day, across a restart, told to administrators."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from recollect.keys import KeyRing
from server.engines.scripted import ScriptedCall, ScriptedEngine
from server.service.usage import KEEP_DAYS, UsageBook, Used
from tests.api.conftest import Served, serving
from tests.api.process import started

BODY = {"model": "memory", "messages": [{"role": "user", "content": "My cat is called Miso."}]}


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def decides(call: ScriptedCall) -> str:
    return "ADD My cat is called Miso." if call.messages[-1].content.endswith("Operations:") else "Noted."


async def used(served: Served, secret: str, **query: Any) -> list[dict[str, Any]]:
    answer = await served.http.get("/v1/admin/usage", headers=bearer(secret), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_requests_and_tokens_are_counted_by_tenant_and_key_across_a_restart(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys")
    _, admin = ring.create("admin", scopes=("admin",))
    ours, mine = ring.create("ours")
    theirs, other = ring.create("theirs", tenant="acme")
    async with serving(tmp_path, ScriptedEngine(answer=decides), agents={"writing": "operations"}) as served:
        for secret in (mine, mine, other):
            answer = await served.http.post("/v1/chat/completions", headers=bearer(secret), json=BODY)
            assert answer.status_code == 200
        assert (await served.http.get("/v1/models", headers=bearer("nonsense"))).status_code == 401
        await served.http.get("/health")
        await served.logged()
        before = {row["key_id"]: row for row in await used(served, admin)}
        assert (before[ours.id]["requests"], before[theirs.id]["requests"]) == (2, 1)
        assert (before[ours.id]["tenant"], before[ours.id]["key_name"], before[theirs.id]["tenant"]) == ("local", "ours", "acme")
        assert before[ours.id]["calls"] == 4  # what was written after each answer counts too
        said = answer.json()["usage"]
        assert before[theirs.id]["prompt_tokens"] > said["prompt_tokens"]
        assert before[theirs.id]["completion_tokens"] > said["completion_tokens"]
        assert before[theirs.id]["counted_tokens"] == said["total_tokens"]
    async with serving(tmp_path, ScriptedEngine(answer=decides), agents={"writing": "operations"}) as served:
        assert {row["key_id"]: row for row in await used(served, admin) if row["key_id"] in (ours.id, theirs.id)} == {
            key: row for key, row in before.items() if key in (ours.id, theirs.id)
        }
    written = "".join(file.read_text() for file in (tmp_path / "usage").iterdir())
    assert "Miso" not in written
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / "usage", *(tmp_path / "usage").iterdir())} == {0}


async def test_a_tenants_administrator_sees_that_tenant_alone_and_others_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ring = KeyRing(served.home / "keys")
        _, mine = ring.create("ours")
        _, other = ring.create("theirs", tenant="acme")
        _, chat = ring.create("phone", scopes=("chat",))
        for secret in (mine, other):
            await served.http.post("/v1/chat/completions", headers=bearer(secret), json=BODY)
        assert {row["tenant"] for row in await used(served, other)} == {"acme"}
        assert {row["tenant"] for row in await used(served, mine)} == {"local", "acme"}
        assert (await served.http.get("/v1/admin/usage", headers=bearer(chat))).status_code == 403
        assert (await served.http.get("/v1/admin/usage")).status_code == 401
        measured = await served.http.get("/metrics", headers=bearer(mine))
        assert "acme" not in measured.text


@pytest.mark.parametrize(
    ("query", "param"), [({"days": "0"}, "days"), ({"days": str(KEEP_DAYS + 1)}, "days"), ({"tenant": "acme"}, "tenant")]
)
async def test_what_is_asked_wrongly_is_named(served: Served, query: dict[str, str], param: str) -> None:
    answer = await served.http.get("/v1/admin/usage", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_earlier_days_are_read_from_their_files_and_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    folder = tmp_path / "usage"
    folder.mkdir()
    old = Used(day="2000-01-01", tenant="acme", key_id="k", requests=7)
    (folder / "2000-01-01.json").write_text(json.dumps([old.model_dump()]))
    book = UsageBook(folder)
    assert await book.since(20_000) == [old]
    assert await book.since(30) == []
    (folder / "2000-01-02.json").write_text("{")
    assert await book.since(20_000) == [old]
    book.add("local", None, requests=1)
    await book.save()  # the first file of a day: those that are too old go
    assert [used.tenant for used in await book.since(20_000)] == ["local"]
    [file] = folder.iterdir()
    assert file.stem == (await book.since(1))[0].day


async def test_what_could_not_be_written_is_written_the_next_time(tmp_path: Path) -> None:
    book = UsageBook(tmp_path / "away" / "usage")
    book.add("local", None, requests=1)
    with pytest.raises(OSError, match="away"):
        await book.save()
    (tmp_path / "away").mkdir()
    await book.save()
    assert [used.requests for used in await UsageBook(tmp_path / "away" / "usage").since(1)] == [1]


async def test_the_command_shows_a_table_and_json(tmp_path: Path) -> None:
    home = tmp_path / "home"

    async def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "recollect", "--home", str(home), "usage", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, said.decode()
        return said.decode()

    async with started(home, "engine.kind=scripted", "embedder.kind=none") as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            assert (await http.post("/v1/chat/completions", json=BODY)).status_code == 200
        [row] = json.loads(await run("--json", "--days", "1"))
        assert (row["tenant"], row["key_id"], row["calls"]) == ("local", None, 1)
        table = await run()
        assert "local" in table
        assert f"{row['prompt_tokens']:,}" in table
