"""API keys: who is let in, what for, and how often."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from openai import AsyncOpenAI, AuthenticationError, PermissionDeniedError, RateLimitError
from typer.testing import CliRunner

from clients.running import RunningServer
from recollect.cli_keys import app as command
from recollect.errors import ConfigurationError, Conflict, InvalidRequest, NotFound
from recollect.invocation import Invocation
from recollect.keys import SCOPES, KeyRing, Scope
from recollect.settings import ServerSettings
from recollect.trajectory import now
from server.engines.scripted import ScriptedEngine, Trouble
from server.principal import NEEDED
from server.serve import _check_host
from tests.api.conftest import BASE, Served, serving

ASKED: dict[Scope, tuple[str, str]] = {
    "chat": ("POST", "/v1/chat/completions"),
    "memory": ("GET", "/v1/memories"),
    "feedback": ("POST", "/v1/feedback"),
    "admin": ("GET", "/v1/admin/adapters"),
}


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def ring_of(served: Served) -> KeyRing:
    """As another process has it, such as `recollect keys`."""
    return KeyRing(served.home / "keys")


async def test_the_first_key_closes_the_door_for_everybody_without_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert (await served.http.get("/v1/models")).status_code == 200
        _, secret = ring_of(served).create("laptop")
        refused = await served.http.get("/v1/models")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("authentication_error", "missing_api_key")
        assert "Authorization: Bearer" in error["message"]
        wrong = await served.http.get("/v1/models", headers=bearer("rk_wrong"))
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
        for headers in (bearer(secret), {"authorization": f"bearer {secret}"}, {"x-api-key": secret}):
            assert (await served.http.get("/v1/models", headers=headers)).status_code == 200
        assert (await served.http.get("/health")).status_code == 200
        assert (await served.http.get("/ready")).json() == {"ready": True}
        assert (await served.http.get("/ready", headers=bearer(secret))).json()["home"] == str(served.home)
        assert (await served.http.get("/v1/models", headers=bearer(served.service.owner_token))).status_code == 200


async def test_a_revoked_key_is_refused_at_once_and_the_door_stays_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        key, secret = ring_of(served).create("laptop")
        assert (await served.http.get("/v1/models", headers=bearer(secret))).status_code == 200
        ring_of(served).revoke(key.id)
        assert (await served.http.get("/v1/models", headers=bearer(secret))).status_code == 401
        assert (await served.http.get("/v1/models")).status_code == 401


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_may_do_what_its_scope_says_and_nothing_else(tmp_path: Path, scope: Scope) -> None:
    assert {needed for _, needed in NEEDED} == set(ASKED)
    async with serving(tmp_path) as served:
        _, secret = ring_of(served).create("one", scopes=[scope])
        for other, (method, path) in ASKED.items():
            answer = await served.http.request(method, path, headers=bearer(secret), json={} if method == "POST" else None)
            if other == scope:
                assert answer.status_code in (200, 400)
            else:
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
                assert f"it needs the scope '{other}', it has {scope}" in answer.json()["error"]["message"]
        # the namespace in the URL is no way around
        assert (await served.http.get("/ns/user/a/v1/memories", headers=bearer(secret))).status_code == (200 if scope == "memory" else 403)
        assert (await served.http.get("/v1/models", headers=bearer(secret))).status_code == 200


async def test_the_openai_client_tells_what_is_wrong_with_a_key(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ring = ring_of(served)
        asked: dict[str, Any] = {"model": "memory", "messages": [{"role": "user", "content": "hi"}]}

        def client(secret: str) -> AsyncOpenAI:
            http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=served.app))
            return AsyncOpenAI(base_url=f"{BASE}/v1", api_key=secret, max_retries=0, http_client=http)

        ring.create("first")
        with pytest.raises(AuthenticationError, match="make one: recollect keys create"):
            await client("nonsense").chat.completions.create(**asked)
        with pytest.raises(PermissionDeniedError, match="it needs the scope 'chat'"):
            await client(ring.create("memories", scopes=["memory"])[1]).chat.completions.create(**asked)
        slow = client(ring.create("slow", requests_per_minute=2)[1])
        for _ in range(2):
            assert (await slow.chat.completions.create(**asked)).choices
        with pytest.raises(RateLimitError, match="may send 2 requests a minute") as told:
            await slow.chat.completions.create(**asked)
        assert 1 <= int(told.value.response.headers["retry-after"]) <= 30


async def test_a_days_tokens_are_counted_by_key_across_a_restart(tmp_path: Path) -> None:
    asked = {"model": "memory", "messages": [{"role": "user", "content": "hi"}]}
    async with serving(tmp_path) as served:
        key, secret = ring_of(served).create("small", tokens_per_day=1)
        _, other = ring_of(served).create("other")
        assert (await served.http.post("/v1/chat/completions", headers=bearer(secret), json=asked)).status_code == 200
        assert served.service.limits.used_today(key.id) > 1
    async with serving(tmp_path) as served:
        refused = await served.http.post("/v1/chat/completions", headers=bearer(secret), json=asked)
        assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
        assert "has used its 1 tokens of today" in refused.json()["error"]["message"]
        assert 0 < int(refused.headers["retry-after"]) <= 86_401
        assert (await served.http.post("/v1/chat/completions", headers=bearer(other), json=asked)).status_code == 200


async def test_mcp_tools_ask_for_their_scopes(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ring = ring_of(served)

        async def called(secret: str, tool: str, **arguments: Any) -> str:
            transport = httpx2.ASGITransport(app=served.app)
            async with (
                httpx2.AsyncClient(transport=transport, base_url=BASE, headers=bearer(secret)) as http,
                Client(streamable_http_client(f"{BASE}/mcp", http_client=http, terminate_on_close=False)) as client,
            ):
                return str((await client.call_tool(tool, arguments)).content[0])

        chatting, remembering = ring.create("a", scopes=["chat"])[1], ring.create("b", scopes=["memory"])[1]
        assert "it needs the scope 'memory'" in await called(chatting, "add_memory", text="x is y")
        assert "it needs the scope 'chat'" in await called(remembering, "ask_agent", question="what is x?")
        assert "x is y" in await called(remembering, "add_memory", text="x is y")
        assert "ready" in await called(chatting, "get_status")


async def test_adapters_are_those_of_the_local_tenant(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        _, secret = ring_of(served).create("theirs", tenant="acme")
        answer = await served.http.get("/v1/admin/adapters", headers=bearer(secret))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
        assert (await served.http.get("/v1/admin/rerankers", headers=bearer(secret))).status_code == 200


@pytest.mark.parametrize("broken", ['[{"id": 1}]', "", "[]", None])
async def test_keys_that_cannot_be_read_or_are_gone_let_nobody_in_and_show_no_path(tmp_path: Path, broken: str | None) -> None:
    async with serving(tmp_path) as served:
        _, secret = ring_of(served).create("laptop")
        assert (await served.http.get("/v1/models", headers=bearer(secret))).status_code == 200
        file = served.home / "keys" / "keys.json"
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        for headers in (bearer(secret), {}):
            answer = await served.http.get("/v1/models", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "keys_unreadable")
            assert str(served.home) not in answer.text
        assert (await served.http.get("/health")).status_code == 200
        if broken in ('[{"id": 1}]', ""):
            with pytest.raises(ConfigurationError, match=r"keys\.json cannot be read"):
                ring_of(served).create("another")


async def test_without_keys_no_page_of_another_site_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        text = {"file": ("a.txt", b"x", "text/plain")}
        for origin, status in (("https://example.org", 403), ("null", 403), ("http://localhost:3000", 200), (None, 200)):
            headers = {"origin": origin} if origin else {}
            answer = await served.http.post("/v1/files", headers=headers, files=text, data={"purpose": "user_data"})
            assert answer.status_code == status, origin
        _, secret = ring_of(served).create("laptop")
        assert (await served.http.get("/v1/models", headers={"origin": "https://example.org"} | bearer(secret))).status_code == 200


async def test_what_concerns_other_tenants_is_told_to_the_homes_own_administrators(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ring = ring_of(served)
        for key in (ring.create("theirs", tenant="acme")[1], ring.create("ours", scopes=["chat"])[1]):
            assert set((await served.http.get("/ready", headers=bearer(key))).json()) == {"ready", "detail", "version", "models"}
        reflecting = {"session": "s"}
        refused = await served.http.post("/v1/admin/reflect", headers=bearer(ring.create("admin", scopes=["admin"])[1]), json=reflecting)
        assert refused.status_code == 403


async def test_an_answer_that_was_broken_off_before_the_engine_told_is_counted_by_its_request(tmp_path: Path) -> None:
    engine = ScriptedEngine(trouble=Trouble(break_after=0), exact=False)
    async with serving(tmp_path, engine) as served:
        key, secret = ring_of(served).create("small", tokens_per_day=10)
        asked = {"model": "memory", "messages": [{"role": "user", "content": "word " * 100}]}
        assert (await served.http.post("/v1/chat/completions", headers=bearer(secret), json=asked)).status_code == 503
        assert served.service.limits.used_today(key.id) >= 100
        assert (await served.http.post("/v1/chat/completions", headers=bearer(secret), json=asked)).status_code == 429


async def test_with_keys_the_server_has_any_name_and_may_listen_to_other_machines(tmp_path: Path) -> None:
    everywhere = ServerSettings(host="0.0.0.0")
    with pytest.raises(ConfigurationError, match=r"Make one first \(recollect keys create NAME\)"):
        _check_host(everywhere, KeyRing(tmp_path / "keys"))
    async with serving(tmp_path) as served:
        foreign = {"host": "memory.example.org"}
        assert (await served.http.get("/v1/models", headers=foreign)).status_code == 421
        _, secret = ring_of(served).create("laptop")
        assert (await served.http.get("/v1/models", headers=foreign)).status_code == 401
        assert (await served.http.get("/v1/models", headers=foreign | bearer(secret))).status_code == 200
        initialize = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        accept = {"accept": "application/json, text/event-stream"}
        answer = await served.http.post("/mcp", headers=foreign | bearer(secret) | accept, json=initialize)
        assert answer.status_code == httpx.codes.OK, answer.text
        _check_host(everywhere, ring_of(served))


def test_the_command_shows_a_key_once_and_keeps_no_secret(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    invocation = Invocation(None, home)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(command, list(arguments), obj=invocation)

    assert "no keys" in run("list").stdout
    made = run("create", "lap top", "--scope", "chat", "--scope", "memory", "--tenant", "acme")
    secret = made.stdout.strip()
    assert secret.startswith("rk_")
    assert "answers nobody without one" in made.stderr
    file = home / "keys" / "keys.json"
    assert secret not in file.read_text()
    assert [path.stat().st_mode & 0o077 for path in (file, file.parent, home)] == [0, 0, 0]
    [listed] = json.loads(run("list", "--json").stdout)
    assert (listed["name"], listed["tenant"], listed["scopes"]) == ("lap top", "acme", ["chat", "memory"])
    assert "sha256" not in listed
    found = KeyRing(home / "keys").find(secret)
    assert found is not None
    assert found.id == listed["id"]
    assert now() - found.created_at < timedelta(minutes=1)
    assert run("revoke", listed["id"]).stdout == f"{listed['id']} (lap top) is revoked\n"
    assert KeyRing(home / "keys").find(secret) is None
    for arguments, kind, told in (
        (("create", "x", "--scope", "all"), InvalidRequest, "--scope 'all' is none of chat, memory, feedback, admin"),
        (("create", "x", "--tenant", "A/B"), InvalidRequest, "is no tenant"),
        (("create", " "), InvalidRequest, "name the key"),
        (("revoke", "key_0"), NotFound, "see: recollect keys list"),
    ):
        failed = run(*arguments)
        assert isinstance(failed.exception, kind)
        assert told in str(failed.exception)


def test_a_key_is_revoked_by_its_name_if_no_other_in_force_has_it(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    old, _ = ring.create("laptop")
    assert ring.revoke("laptop").id == old.id
    one, _ = ring.create("laptop")
    other, _ = ring.create("laptop")
    with pytest.raises(Conflict, match=f"2 keys are called 'laptop'.*{one.id}, {other.id}"):
        ring.revoke("laptop")
    ring.revoke(one.id)
    assert ring.revoke("laptop").id == other.id
    with pytest.raises(NotFound):
        ring.revoke("laptop")


def test_the_owners_token_is_shown_nowhere() -> None:
    server = RunningServer(pid=1, url="http://127.0.0.1:1", token="secret")
    assert "secret" not in f"{server!r} {server} {server.model_dump()} {server.model_dump_json()}"
